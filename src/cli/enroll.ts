import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FaceNetError } from '../errors.ts';
import { checkLabel } from '../faces/gallery/entry.ts';
import type { Context, PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import type { Result } from './face-reader.ts';
import { embeddingsOf, oneFaceEach } from './one-face.ts';
import { type GalleryPlace, openGallery, readGalleryPlace } from './open-gallery.ts';
import { findPhotos, type Photo } from './photos.ts';
import { visible, withErrorObject } from './terminal.ts';

export interface EnrollOptions extends PhotoOptions, GalleryPlace {
  /** ROOT with a folder a person. */
  readonly dir?: string;
  /** A new gallery keeps templates of one byte a number. */
  readonly int8?: boolean;
}

/** Who is on which photo. */
interface Person {
  readonly label: string;
  readonly photos: readonly Photo[];
}

/**
 * `facenet enroll`: adds people to a gallery file, which is replaced as a whole once everything is embedded. What standard output
 * acknowledges is on the disk.
 */
export async function enroll(
  context: Context,
  label: string | undefined,
  names: readonly string[],
  options: EnrollOptions,
): Promise<number> {
  const { terminal, stdin, signal } = context;
  const reading = await context.reading(options);
  const people =
    options.dir === undefined
      ? [{ label: label as string, photos: await findPhotos(names, stdin, signal) }]
      : await peopleIn(options.dir, context);
  for (const person of people) checkLabel(person.label);
  // Each photo once for each person; a photo of two people is two photos.
  const wanted = people.flatMap((person) =>
    [...new Map(person.photos.map((photo) => [photo.name, photo])).values()].map((photo) => ({ ...person, photo })),
  );
  const disk = await readGalleryPlace(options, false);
  return context.withModel(async (net) => {
    const opened = await openGallery(net, disk, { ...(options.int8 && { templates: 'int8' }) });
    const { gallery } = opened;
    try {
      const before = gallery.size;
      const results: Result[] = [];
      const photos = wanted.map(({ photo }) => photo);
      for await (const result of oneFaceEach(net, photos, reading, context)) results.push(result);
      const added: { index: number; image: string; label: string; id: string }[] = [];
      const skipped: { index: number; image: string; label: string; error: FaceNetError }[] = [];
      for (const [place, { image, vector, error }] of results.entries()) {
        const { label } = wanted[place] as (typeof wanted)[number];
        const about = { index: place, image, label };
        if (error) {
          terminal.warn(`left out: ${error.message}`);
          skipped.push({ ...about, error });
          continue;
        }
        const [id] = await gallery.enroll(label, embeddingsOf(vector, net));
        added.push({ ...about, id: id as string });
      }
      if (signal.aborted) throw new FaceNetError('aborted', 'enroll: stopped; the gallery is as it was.');
      if (added.length > 0) await opened.save();
      const { size, people: known } = gallery;
      const totals = { people: known, templates: size, new: size - before };
      const left = skipped.map(withErrorObject);
      if (terminal.format === 'jsonl') {
        for (const line of [...added, ...left].sort((a, b) => a.index - b.index)) terminal.line(line);
      } else if (terminal.format === 'json') {
        terminal.document({
          schema: 'facenet/enroll@1',
          gallery: options.gallery,
          model: net.model.name,
          fingerprint: net.fingerprint,
          ...totals,
          added,
          skipped: left,
        });
      } else {
        const who = [...new Set(added.map((entry) => entry.label))].map(visible).join(', ');
        terminal.text(
          `${options.gallery}: ${totals.new} new of ${added.length} templates${who === '' ? '' : ` (${shortened(who)})`}; ${size} templates of ${known} people in all`,
        );
      }
      return skipped.length > 0 ? exitCodes.skipped : exitCodes.done;
    } finally {
      await gallery.close();
    }
  });
}

const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 200)}...` : text);

/** One person for each folder in ROOT, the folder's name code point for code point; by code units, the same order everywhere. */
async function peopleIn(root: string, { stdin, signal, terminal }: Context): Promise<Person[]> {
  let folders: string[];
  try {
    folders = (await readdir(root, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    throw new FaceNetError('input', `${root}: a folder with one folder a person, got ${code}. Check the path.`, {
      cause,
    });
  }
  const people: Person[] = [];
  for (const label of folders.sort()) {
    const entries = await readdir(join(root, label));
    if (entries.length === 0) terminal.warn(`${visible(label)}: the folder is empty`);
    else people.push({ label, photos: await findPhotos([join(root, label)], stdin, signal) });
  }
  if (people.length === 0)
    throw new FaceNetError('input', `${root}: a folder with one folder a person (ROOT/person/*.jpg), got none in it.`);
  return people;
}
