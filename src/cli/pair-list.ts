import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FaceNetError } from '../errors.ts';
import { squaredDistance } from '../faces/distance.ts';
import type { ScoredPair } from '../faces/evaluation/pairs.ts';
import { type ListedPair, type PairList, readPairs } from '../faces/evaluation/pairs-file.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { FaceNetGPU } from '../node.ts';
import type { Context } from './context.ts';
import type { ReadingOptions, Result } from './face-reader.ts';
import { oneFaceEach } from './one-face.ts';
import { readInput } from './photos.ts';
import { errorObject } from './terminal.ts';

/** Largest list of pairs that is read: 256 MiB. */
const MAX_LIST_BYTES = 2 ** 28;
/** Endings tried for LFW's lists, which name none. */
const suffixes = ['.jpg', '.jpeg', '.png', '.pgm', '.ppm', '.webp'];

/** A pair of the list with its distance, or why it has none. */
export type MeasuredPair = ScoredPair &
  Pick<ListedPair, 'a' | 'b'> & { readonly index: number; readonly error?: FaceNetError };

/** Reads a list of pairs (LFW's form or CSV). LFW's names get the ending that the first picture has in the folder. */
export async function readPairList(file: string, images: string, { stdin, signal }: Context): Promise<PairList> {
  const bytes = file === '-' ? await readInput(stdin, signal) : await readWholeFile(file, file, MAX_LIST_BYTES);
  const text = new TextDecoder().decode(bytes);
  for (const suffix of suffixes) {
    const list = readPairs(text, suffix);
    const first = list.pairs[0]?.a;
    const there = first !== undefined && (await stat(join(images, first)).catch(() => undefined));
    if (there || list.pattern === 'the first two columns') return list;
  }
  return readPairs(text);
}

/**
 * Embeds every picture of the list once and gives the pairs' distances, in order. With `skipBad` a pair of a picture that cannot be used has
 * the distance null and the reason; otherwise the first such picture throws.
 */
export async function measurePairs(
  net: FaceNetGPU,
  { pairs }: PairList,
  images: string,
  reading: ReadingOptions,
  context: Context,
): Promise<MeasuredPair[]> {
  const photos = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))].map((path) => ({ name: join(images, path) }));
  const results = new Map<string, Result>();
  for await (const result of oneFaceEach(net, photos, reading, context)) {
    results.set(result.image, result);
    if (result.error) context.terminal.warn(`left out: ${result.error.message}`);
  }
  return pairs.map((pair, index) => {
    const [a, b] = [pair.a, pair.b].map((path) => results.get(join(images, path))) as [Result, Result];
    const error = a.error ?? b.error;
    const distance = error ? null : squaredDistance(a.vector as Float32Array, b.vector as Float32Array);
    return { ...pair, index, distance, path: join(images, pair.a), ...(error && { error }) };
  });
}

/** A pair as a line of JSON. */
export function pairLine({ index, a, b, same, distance, fold, group, error }: MeasuredPair): object {
  return {
    index,
    a,
    b,
    same,
    ...(fold !== undefined && { fold }),
    ...(group !== undefined && { group }),
    ...(error ? { error: errorObject(error) } : { distance }),
  };
}
