// Labeled Faces in the Wild outside the repository (FACENET_SHARED, default ../shared): images, landmarks, pairs and sets.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ListedPair, readLfwPairs } from '../src/faces/evaluation/pairs-file.ts';
import { Philox } from '../src/graph/philox.ts';

type Point = readonly [x: number, y: number];

/** A face as `embed` takes it: the encoded image and five points. */
export interface LfwFace {
  readonly image: Uint8Array;
  readonly landmarks: readonly Point[];
}

/** Mean landmarks of the 154 x 154 crops (the data set's README), for the few images in which no face was found. */
export const meanLandmarks: readonly Point[] = [
  [57, 65.5],
  [99, 64.5],
  [78.3, 89.7],
  [60.4, 111.4],
  [97.4, 110.7],
];

const root = fileURLToPath(new URL('../', import.meta.url));
export const lfwFolder = join(process.env.FACENET_SHARED ?? join(root, '..', 'shared'), 'data', 'lfw');
export const lfwPresent = existsSync(join(lfwFolder, 'eval.tar'));

const read = (name: string): string => readFileSync(join(lfwFolder, name), 'utf8');

/** Files of a plain ustar archive by name. */
function readTar(bytes: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(from, from + length)).replace(/\0.*$/s, '');
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (text(at + 156, 1) === '0') files.set(text(at, 100), bytes.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** Images of one archive ('train': sets 1-6, 'eval': sets 7-9) with their landmarks, by path 'Name/Name_0001.jpg'. */
export function lfwFaces(part: 'train' | 'eval'): ReadonlyMap<string, LfwFace> {
  const [header, ...lines] = read(`landmarks-${part}.csv`).trim().split('\n');
  const first = header!.split(',').indexOf('eye1_x');
  const landmarks = new Map(
    lines.map((line) => {
      const fields = line.split(',');
      const points = Array.from(
        { length: 5 },
        (_, i): Point => [Number.parseFloat(fields[first + 2 * i]!), Number.parseFloat(fields[first + 2 * i + 1]!)],
      );
      return [fields[0]!, Number.isNaN(points[0]![0]) ? meanLandmarks : points];
    }),
  );
  const faces = new Map<string, LfwFace>();
  for (const [path, image] of readTar(readFileSync(join(lfwFolder, `${part}.tar`)))) {
    faces.set(path, { image, landmarks: landmarks.get(path) ?? meanLandmarks });
  }
  return faces;
}

/** LFW's own pairs of one archive; fold 0 is set 1 of 'train', set 7 of 'eval'. */
export function lfwPairs(part: 'train' | 'eval'): readonly ListedPair[] {
  return readLfwPairs(read(`pairs-${part}.txt`)).pairs;
}

/** 150 pairs of one person and 150 of two, of the 1,800 of sets 7-9. */
export function lfwSample(): readonly ListedPair[] {
  const random = new Philox(7, 300);
  const pairs = lfwPairs('eval');
  return [true, false].flatMap((wanted) => random.shuffle(pairs.filter(({ same }) => same === wanted)).slice(0, 150));
}

/** Names of the people of a set, 1 to 10. */
export function lfwPeople(set: number): ReadonlySet<string> {
  const lines = read('people.txt').trim().split('\n');
  let at = 1;
  for (let number = 1; ; number++) {
    const count = Number(lines[at]);
    if (number === set) return new Set(lines.slice(at + 1, at + 1 + count).map((line) => line.split('\t')[0]!));
    at += count + 1;
  }
}
