import type { FaceNetError } from '../errors.ts';
import type { GalleryPolicy } from '../faces/gallery/policy.ts';
import type { Identification, Match } from '../faces/gallery.ts';
import type { Context, PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { embedPhotos, type Item, labelOf } from './face-reader.ts';
import { embeddingsOf } from './one-face.ts';
import { type GalleryPlace, openGallery, readGalleryPlace } from './open-gallery.ts';
import { findPhotos } from './photos.ts';
import { errorObject, visible, withErrorObject } from './terminal.ts';
import { decisionOf, meaning } from './verify.ts';

export interface IdentifyOptions extends PhotoOptions, GalleryPlace {
  /** People named for each face. */
  readonly limit: number;
  /** Squared L2, 0 to 4. */
  readonly threshold?: number;
  readonly far?: number;
  readonly policy: GalleryPolicy;
  /** Templates that vote, for the policy 'knn'. */
  readonly k: number;
}

/** `facenet identify`: who the faces are, of the people of a gallery. Exit code 0 when all are known, 1 when somebody is unknown. */
export async function identify(context: Context, names: readonly string[], options: IdentifyOptions): Promise<number> {
  const { terminal, signal, stdin } = context;
  const { limit, policy, k } = options;
  const reading = await context.reading(options);
  const photos = await findPhotos(names, stdin, signal);
  const disk = await readGalleryPlace(options, true);
  return context.withModel(async (net) => {
    const point = net.operatingPoint(decisionOf(options));
    const { gallery } = await openGallery(net, disk, { policy, k });
    try {
      const faces: object[] = [];
      const count = { known: 0, unknown: 0 };
      const skipped: (Item & { error: FaceNetError })[] = [];
      for await (const { vector, error, ...item } of embedPhotos(net, photos, reading, context)) {
        if (error) {
          skipped.push({ ...item, error });
          if (terminal.format === 'jsonl') terminal.line({ ...item, error: errorObject(error) });
          else terminal.warn(`left out: ${error.message}`);
          continue;
        }
        const [found] = (await gallery.identify(embeddingsOf(vector, net), point, { limit })) as [Identification];
        count[found.label === null ? 'unknown' : 'known']++;
        const answer = { ...item, label: found.label, matches: found.matches };
        if (terminal.format === 'json') faces.push(answer);
        else if (terminal.format === 'jsonl') terminal.line({ ...answer, threshold: point.threshold });
        else terminal.text(sentence(item, found, context));
      }
      if (terminal.format === 'json') {
        terminal.document({
          schema: 'facenet/identify@1',
          gallery: options.gallery,
          policy,
          people: gallery.people,
          templates: gallery.size,
          point,
          model: net.model.name,
          fingerprint: net.fingerprint,
          backend: net.backend,
          faces,
          skipped: skipped.map(withErrorObject),
        });
      }
      terminal.note(`${count.known} known, ${count.unknown} unknown, ${skipped.length} left out. ${meaning(point)}`);
      if (skipped.length > 0) return exitCodes.skipped;
      return count.unknown > 0 ? exitCodes.different : exitCodes.done;
    } finally {
      await gallery.close();
    }
  });
}

/** `a.jpg: Ada (0.0812 <= 0.1474)`, or who is nearest of those who are too far. */
function sentence(item: Item, { label, matches, point }: Identification, { terminal }: Context): string {
  const subject = labelOf(item);
  const place = (match: Match) =>
    `${match.distance.toFixed(4)} ${match.accepted ? '<=' : '>'} ${point.threshold.toFixed(4)}`;
  const [nearest] = matches;
  if (label !== null) {
    const chosen = matches.find((match) => match.label === label) as Match;
    return `${subject}: ${terminal.style('green', visible(label))} (${place(chosen)})`;
  }
  const who = nearest ? `; nearest ${visible(nearest.label)}, ${place(nearest)}` : '; the gallery is empty';
  return `${subject}: ${terminal.style('yellow', 'nobody of the gallery')}${who}`;
}
