import { FaceNetError } from '../errors.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { Decide, Embeddings, OperatingPoint, Verification } from '../node.ts';
import type { Context, PhotoOptions } from './context.ts';
import { exitCodes } from './exit-code.ts';
import type { Result } from './face-reader.ts';
import { embeddingsOf, oneFaceEach } from './one-face.ts';
import { findPhotos, type Photo, readInput } from './photos.ts';
import { errorObject } from './terminal.ts';

export interface VerifyOptions extends PhotoOptions {
  /** Squared L2, 0 to 4. */
  readonly threshold?: number;
  readonly far?: number;
}

/** Largest list of pairs that is read: 256 MiB. */
const MAX_LIST_BYTES = 2 ** 28;

/** `facenet verify A B`: whether two faces are one person. Exit code 0 or 1. */
export async function verify(context: Context, a: string, b: string, options: VerifyOptions): Promise<number> {
  const { terminal, signal } = context;
  const reading = { ...(await context.reading(options)), skipBad: false };
  const photos: Photo[] = [];
  for (const name of new Set([a, b])) photos.push(await onePhoto(name, context));
  return context.withModel(async (net) => {
    const decide = decisionOf(options);
    // Without a line to decide by nothing needs to be computed.
    net.operatingPoint(decide);
    const vectors = new Map<string, Embeddings>();
    for await (const { image, vector } of oneFaceEach(net, photos, reading, context))
      vectors.set(image, embeddingsOf(vector as Float32Array, net));
    const [first, second] = [a, b].map((name) => vectors.get(name) as Embeddings) as [Embeddings, Embeddings];
    const { same, distance, point } = await net.verify(first, second, { ...decide, signal });
    const answer = {
      schema: 'facenet/verify@1',
      same,
      distance,
      point,
      a,
      b,
      model: net.model.name,
      fingerprint: net.fingerprint,
      backend: net.backend,
    };
    if (terminal.format === 'text') terminal.text(sentence({ same, distance, point }, context));
    else if (terminal.format === 'json') terminal.document(answer);
    else terminal.line(answer);
    return same ? exitCodes.done : exitCodes.different;
  });
}

/** `facenet verify --pairs FILE`: a line of JSON per pair, as soon as both photos are embedded. */
export async function verifyPairs(context: Context, file: string, options: VerifyOptions): Promise<number> {
  const { terminal, signal } = context;
  const reading = await context.reading(options);
  const pairs = await readPairs(file, context);
  // Every photo is embedded once, in the order in which the pairs need it.
  const photos = [...new Set(pairs.flat())].map((name) => ({ name }));
  return context.withModel(async (net) => {
    const decide = decisionOf(options);
    const point = net.operatingPoint(decide);
    const results = new Map<string, Result>();
    const answers: object[] = [];
    const count = { same: 0, different: 0, skipped: 0 };
    for await (const result of oneFaceEach(net, photos, reading, context)) {
      results.set(result.image, result);
      for (let next = count.same + count.different + count.skipped; next < pairs.length; next++) {
        const [a, b] = pairs[next] as readonly [string, string];
        const [first, second] = [results.get(a), results.get(b)];
        if (!first || !second) break;
        const error = first.error ?? second.error;
        const about = { index: next, a, b };
        let answer: object;
        if (error) {
          count.skipped++;
          terminal.warn(`left out: ${error.message}`);
          answer = { ...about, error: errorObject(error) };
        } else {
          const { same, distance } = await net.verify(
            embeddingsOf(first.vector as Float32Array, net),
            embeddingsOf(second.vector as Float32Array, net),
            { ...decide, signal },
          );
          count[same ? 'same' : 'different']++;
          answer = { ...about, same, distance, threshold: point.threshold };
        }
        if (terminal.format === 'json') answers.push(answer);
        else terminal.line(answer);
      }
    }
    if (terminal.format === 'json') {
      terminal.document({
        schema: 'facenet/verify-pairs@1',
        point,
        model: net.model.name,
        fingerprint: net.fingerprint,
        backend: net.backend,
        pairs: answers,
      });
    }
    terminal.note(`${count.same} same, ${count.different} different, ${count.skipped} left out`);
    if (count.skipped > 0) return exitCodes.skipped;
    return count.different > 0 ? exitCodes.different : exitCodes.done;
  });
}

/** The photo of a name; a folder is refused by who reads it, as one photo is wanted. */
async function onePhoto(name: string, { stdin, signal }: Context): Promise<Photo> {
  if (name !== '-') return { name };
  const [photo, ...more] = await findPhotos([name], stdin, signal);
  if (!photo || more.length > 0) {
    throw new FaceNetError(
      'input',
      `-: one image on standard input, got ${more.length + 1} paths. Name both photos, or use --pairs.`,
    );
  }
  return photo.bytes ? photo : { name: photo.name };
}

/** Lines of two paths, parted by a tab or, where there is none, by blanks. */
async function readPairs(file: string, { stdin, signal }: Context): Promise<(readonly [string, string])[]> {
  const bytes = file === '-' ? await readInput(stdin, signal) : await readWholeFile(file, file, MAX_LIST_BYTES);
  const pairs: (readonly [string, string])[] = [];
  const lines = new TextDecoder().decode(bytes).split(/\r?\n/);
  lines.forEach((line, index) => {
    if (line.trim() === '') return;
    const [a, b, ...more] = line.includes('\t') ? line.split('\t') : line.trim().split(/\s+/);
    if (!a || !b || more.length > 0) {
      throw new FaceNetError(
        'input',
        `${file}: lines of two paths, got ${JSON.stringify(line.slice(0, 80))} in line ${index + 1}. Part paths with blanks by a tab; lists of a,b,same are for evaluate and calibrate.`,
        { index },
      );
    }
    pairs.push([a, b]);
  });
  if (pairs.length === 0)
    throw new FaceNetError('input', `${file}: lines of two paths, got none. Write a pair a line.`);
  return pairs;
}

/** The decision that the options ask for. */
export function decisionOf({ threshold, far }: Pick<VerifyOptions, 'threshold' | 'far'>): Decide {
  if (far !== undefined) return { far };
  return threshold === undefined ? {} : { threshold };
}

function sentence({ same, distance, point }: Verification, { terminal }: Context): string {
  const verdict = terminal.style(same ? 'green' : 'yellow', same ? 'same person' : 'different people');
  return `${verdict}: ${distance.toFixed(4)} ${same ? '<=' : '>'} ${point.threshold.toFixed(4)}\n${meaning(point)}`;
}

/** What a threshold costs, in words. */
export function meaning({ far, farInterval: [low, high], val }: OperatingPoint): string {
  if (!Number.isFinite(far)) return 'At a threshold of your own it is not known how many strangers pass.';
  const rate = (value: number) => `${(100 * value).toPrecision(2)} %`;
  return `At this threshold ${rate(far)} of pairs of strangers pass (95 %: ${rate(low)} to ${rate(high)}) and ${(100 * val).toFixed(1)} % of pairs of one person.`;
}
