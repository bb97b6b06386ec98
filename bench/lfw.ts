// dlib-resnet on Labeled Faces in the Wild, outside the repository (FACENET_SHARED, default ../shared).
//
//   node build.mjs run bench/lfw.ts fit          fits the operating points on set 6, writes src/io/dlib-operating-points.json
//   node build.mjs run bench/lfw.ts evaluate     accuracy and VAL on sets 7-9 at these points, appends to docs/eval-log.md
//   node build.mjs run bench/lfw.ts detect       the same pairs with landmarks of our own MTCNN, and how far they lie from the reference's; appends too
//   node build.mjs run bench/lfw.ts crops        set 6 with crops that are wrong by a known amount
//                                   [--backend webgpu]
//
// Set 6 alone chooses thresholds; sets 7-9 are run once for a figure that is reported (docs/eval-log.md).
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { squaredDistance } from '../src/faces/distance.ts';
import { bootstrapRates, type IdentifiedPairs, identifiedPairs } from '../src/faces/evaluation/bootstrap.ts';
import { pointFromRates } from '../src/faces/evaluation/calibration.ts';
import { bestThreshold, foldAccuracy } from '../src/faces/evaluation/folds.ts';
import type { ListedPair } from '../src/faces/evaluation/pairs-file.ts';
import { pairDistances, type RatesAtFar, valAtFar } from '../src/faces/evaluation/rates.ts';
import type { Interval } from '../src/faces/evaluation/statistics.ts';
import type { StoredOperatingPoint } from '../src/io/model-file.ts';
import { ImageReader } from '../src/io/node/image-files.ts';
import { type DetectedFace, FaceDetector, FaceNetGPU, type Pixels } from '../src/node.ts';
import { type LfwFace, lfwFaces, lfwFolder, lfwPairs, lfwPeople, lfwPresent, meanLandmarks } from '../test/lfw.ts';

const pointsFile = fileURLToPath(new URL('../src/io/dlib-operating-points.json', import.meta.url));
const mtcnnFile = `${lfwFolder}/../weights/mtcnn.safetensors`;
const logFile = fileURLToPath(new URL('../docs/eval-log.md', import.meta.url));
/** The rates asked for; 300,000 pairs of two people and more show them all. */
const fars = [1e-1, 1e-2, 1e-3, 1e-4];

/** Embeddings by path. */
type Vectors = ReadonlyMap<string, Float32Array>;

async function embed(faces: ReadonlyMap<string, LfwFace>, paths: readonly string[], net: FaceNetGPU): Promise<Vectors> {
  const vectors = new Map<string, Float32Array>();
  const start = performance.now();
  const chosen = paths.map((path) => {
    const face = faces.get(path);
    if (!face) throw new Error(`${path}: not in ${lfwFolder}`);
    return face;
  });
  for await (const { data, dimensions, indices } of net.embedStream(chosen)) {
    indices.forEach((index, row) => {
      vectors.set(paths[index]!, data.slice(row * dimensions, (row + 1) * dimensions));
    });
  }
  const milliseconds = (performance.now() - start) / paths.length;
  console.error(`lfw: ${paths.length} faces on ${net.why}, ${milliseconds.toFixed(1)} ms a face`);
  return vectors;
}

/** Distances of LFW's own pairs. */
function scored(pairs: readonly ListedPair[], vectors: Vectors) {
  return pairs.map(({ a, b, same, fold }) => ({
    same,
    fold: fold as number,
    distance: squaredDistance(vectors.get(a)!, vectors.get(b)!),
  }));
}

/** All pairs of images, sorted by distance, with the people in them. */
function allPairs(vectors: Vectors): { identities: number; same: IdentifiedPairs; different: IdentifiedPairs } {
  const paths = [...vectors.keys()];
  const names = [...new Set(paths.map(person))];
  const numbers = paths.map((path) => names.indexOf(person(path)));
  const kinds = { same: [[], [], []], different: [[], [], []] } as Record<'same' | 'different', number[][]>;
  for (let i = 0; i < paths.length; i++) {
    for (let j = 0; j < i; j++) {
      const [distance, a, b] = kinds[numbers[i] === numbers[j] ? 'same' : 'different'];
      distance!.push(squaredDistance(vectors.get(paths[i]!)!, vectors.get(paths[j]!)!));
      a!.push(numbers[i]!);
      b!.push(numbers[j]!);
    }
  }
  const sorted = ([distance, a, b]: number[][]) => identifiedPairs(distance!, a!, b!);
  return { identities: names.length, same: sorted(kinds.same), different: sorted(kinds.different) };
}

const person = (path: string): string => path.slice(0, path.indexOf('/'));
const accuracyAt = (pairs: readonly { distance: number; same: boolean }[], threshold: number): number =>
  pairs.filter(({ distance, same }) => distance <= threshold === same).length / pairs.length;
const percent = (rate: number): string => `${(100 * rate).toFixed(2)} %`;

/** What a threshold accepts of sorted distances. */
function ratesAt(threshold: number, same: Float64Array, different: Float64Array): RatesAtFar {
  const count = (list: Float64Array) => list.filter((distance) => distance <= threshold).length;
  const [trueAccepts, falseAccepts] = [count(same), count(different)];
  const far = falseAccepts / different.length;
  const rates = { trueAccepts, falseAccepts, val: trueAccepts / same.length, far, targetFar: far };
  return { threshold, ...rates, thresholdFrom: threshold, thresholdBelow: threshold, resolution: 1 / different.length };
}

async function fitPoints(net: FaceNetGPU): Promise<void> {
  const faces = lfwFaces('train');
  const people = lfwPeople(6);
  const vectors = await embed(
    faces,
    [...faces.keys()].filter((path) => people.has(person(path))),
    net,
  );
  const own = scored(
    lfwPairs('train').filter(({ fold }) => fold === 5),
    vectors,
  );
  const best = bestThreshold(own);
  const all = allPairs(vectors);
  const distances = pairDistances(all.same.distance, all.different.distance);
  const about = `LFW set 6 (${all.identities} people, ${vectors.size} images), all its pairs`;
  const wanted: readonly { rates: RatesAtFar; source: string }[] = [
    ...fars.map((far) => ({ rates: valAtFar(distances, far), source: `${about}, largest threshold at FAR <= ${far}` })),
    {
      rates: ratesAt(best.threshold, distances.same, distances.different),
      source: `${about}, threshold of best accuracy on its 600 listed pairs (${percent(best.trainAccuracy)})`,
    },
  ];
  const intervals = bootstrapRates(
    all,
    [],
    wanted.map(({ rates }) => rates.threshold),
  ).far;
  const points = wanted.map(({ rates, source }, i): StoredOperatingPoint => {
    const point = pointFromRates(rates, distances, { source, farInterval: intervals[i] as Interval });
    return {
      threshold: point.threshold,
      far: point.far,
      farInterval: point.farInterval,
      val: point.val,
      pairs: point.pairs,
      source: point.source,
    };
  });
  const record = { command: 'node build.mjs run bench/lfw.ts fit', weights: net.model.name, points };
  writeFileSync(pointsFile, `${JSON.stringify(record, undefined, 2)}\n`);
  for (const { threshold, far, farInterval, val } of points) {
    console.log(
      `threshold ${threshold.toFixed(5)}  FAR ${far.toExponential(2)} [${farInterval.map((x) => x.toExponential(2)).join(', ')}]  VAL ${percent(val)}`,
    );
  }
}

async function evaluate(net: FaceNetGPU): Promise<void> {
  const { points } = JSON.parse(readFileSync(pointsFile, 'utf8')) as { points: StoredOperatingPoint[] };
  const faces = lfwFaces('eval');
  const vectors = await embed(faces, [...faces.keys()], net);
  const own = scored(lfwPairs('eval'), vectors);
  const all = allPairs(vectors);
  const [same, different] = [all.same.distance, all.different.distance];
  const best = points.at(-1)!;
  const sets = [0, 1, 2].map((fold) => own.filter((pair) => pair.fold === fold));
  const folds = foldAccuracy(sets);
  const paper = valAtFar(pairDistances(same, different), 1e-3);
  const thresholds = points.slice(0, -1).map(({ threshold }) => threshold);
  const intervals = bootstrapRates(all, [1e-3], thresholds);
  const span = (interval: Interval) => `[${interval.map((rate) => rate.toExponential(2)).join(', ')}]`;
  const cells = [
    `accuracy on the ${own.length} pairs at ${best.threshold.toFixed(4)} (fitted on set 6): ${percent(accuracyAt(own, best.threshold))}; sets 7, 8, 9: ${sets.map((set) => percent(accuracyAt(set, best.threshold))).join(', ')}`,
    `threshold from the other two sets: ${percent(folds.mean)} +- ${percent(folds.standardError)} (standard error)`,
    ...points.slice(0, -1).map(({ threshold, far }, i) => {
      const rates = ratesAt(threshold, same, different);
      return `at ${threshold.toFixed(4)} (FAR ${far.toExponential(1)} on set 6): VAL ${percent(rates.val)}, FAR ${rates.far.toExponential(2)} ${span(intervals.far[i]!)}`;
    }),
    `VAL at FAR 1e-3 ${percent(paper.val)} ${span(intervals.val[0]!)}, threshold ${paper.threshold.toFixed(4)}; all ${same.length + different.length} pairs of ${vectors.size} images, 95 % intervals by bootstrap over identities`,
  ];
  log(net, 'evaluate', cells);
}

/** Prints figures of sets 7-9 and appends them to docs/eval-log.md. */
function log(net: FaceNetGPU, command: string, cells: readonly string[]): void {
  for (const cell of cells) console.log(cell);
  if (!existsSync(logFile)) writeFileSync(logFile, logHead);
  const date = new Date().toISOString().slice(0, 10);
  appendFileSync(
    logFile,
    `| ${date} | \`node build.mjs run bench/lfw.ts ${command}\` | ${net.model.name} ${net.model.sha256.slice(0, 12)}, ${net.why} | ${cells.join('; ')} |\n`,
  );
}

/** Sizes of the smallest face, one after the other until a face is found: how the reference's landmarks were made. */
const faceSizes = [60, 36, 20];

type Marks = readonly (readonly [x: number, y: number])[];

/** The face nearest the middle, of the first size at which there is one. */
async function detectNearest(detector: FaceDetector, image: Pixels): Promise<DetectedFace | undefined> {
  for (const minFace of faceSizes) {
    const found = await detector.detect(image, { minFace });
    const away = ({ box: { x, y, width, height } }: DetectedFace) =>
      Math.hypot(x + width / 2 - image.width / 2, y + height / 2 - image.height / 2);
    const [nearest] = [...found].sort((a, b) => away(a) - away(b));
    if (nearest) return nearest;
  }
  return undefined;
}

/** A number from 0 to 1 for a text, the same every time (FNV-1a): seeds choices without a stream. */
function chance(text: string): number {
  let hash = 2166136261;
  for (const character of text) hash = Math.imul(hash ^ character.charCodeAt(0), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
}

async function detect(net: FaceNetGPU): Promise<void> {
  const detector = await FaceDetector.create({ model: mtcnnFile, share: net });
  const reader = new ImageReader();
  const faces = lfwFaces('eval');
  const own = new Map<string, LfwFace>();
  const away = new Map<string, number>();
  const start = performance.now();
  for (const [path, { image, landmarks }] of faces) {
    const found = await detectNearest(detector, await reader.read(image));
    own.set(path, { image, landmarks: found?.landmarks ?? meanLandmarks });
    const [left, right] = landmarks as [Marks[number], Marks[number]];
    const eyes = Math.hypot(right[0] - left[0], right[1] - left[1]);
    if (found && landmarks !== meanLandmarks)
      away.set(
        path,
        Math.max(...found.landmarks.map(([x, y], i) => Math.hypot(x - landmarks[i]![0], y - landmarks[i]![1]))) / eyes,
      );
    else if (!found) console.log(`no face: ${path}`);
  }
  const milliseconds = (performance.now() - start) / faces.size;
  await detector.dispose();
  const chosen = [...faces.keys()].sort((a, b) => chance(a) - chance(b)).slice(0, 500);
  const sorted = chosen.flatMap((path) => away.get(path) ?? []).sort((a, b) => a - b);
  const at = (part: number) => percent(sorted[Math.floor(part * (sorted.length - 1))]!);
  const withFace = (paths: readonly string[]) =>
    paths.filter((path) => own.get(path)!.landmarks !== meanLandmarks).length;
  const cells = [
    `${milliseconds.toFixed(1)} ms a crop`,
    `500 crops: a face in ${withFace(chosen)}, landmarks of ${sorted.length} away from the reference by ${at(0.5)} (median), ${at(0.95)} (95 %), ${at(1)} (most) of the eye distance`,
    `all ${faces.size} crops: a face in ${withFace([...faces.keys()])}`,
  ];
  const { points } = JSON.parse(readFileSync(pointsFile, 'utf8')) as { points: StoredOperatingPoint[] };
  const best = points.at(-1)!;
  const pairs = lfwPairs('eval');
  const wanted = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
  for (const [name, list] of [
    ['our landmarks', own],
    ["the reference's", faces],
  ] as const) {
    const distances = scored(pairs, await embed(list, wanted, net));
    const folds = foldAccuracy([0, 1, 2].map((fold) => distances.filter((pair) => pair.fold === fold)));
    cells.push(
      `${name}: ${percent(accuracyAt(distances, best.threshold))} of ${pairs.length} pairs at ${best.threshold.toFixed(4)} (fitted on set 6), threshold from the other two sets: ${percent(folds.mean)}`,
    );
  }
  log(net, 'detect', cells);
}

/** What a wrong crop does to the points that a crop is made from: they end as if the face lay otherwise. */
function misplaced(landmarks: Marks, path: string, { scale = 1, turn = 0, shift = 0 }: Fault): Marks {
  const centre = [0, 1].map((axis) => landmarks.reduce((sum, point) => sum + point[axis]!, 0) / landmarks.length);
  const [left, right] = landmarks as [Marks[number], Marks[number]];
  const eyes = Math.hypot(right[0] - left[0], right[1] - left[1]);
  const angle = ((chance(`${path} turn`) < 0.5 ? -1 : 1) * turn * Math.PI) / 180;
  const way = 2 * Math.PI * chance(`${path} shift`);
  const [cosine, sine] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  return landmarks.map(([x, y]) => {
    const [dx, dy] = [x - centre[0]!, y - centre[1]!];
    return [
      centre[0]! + cosine * dx - sine * dy + shift * eyes * Math.cos(way),
      centre[1]! + sine * dx + cosine * dy + shift * eyes * Math.sin(way),
    ];
  });
}

/** How a crop is wrong. */
interface Fault {
  /** Above 1: more around the face. */
  readonly scale?: number;
  /** Degrees, to a side that differs between pictures. */
  readonly turn?: number;
  /** In eye distances, in a direction that differs between pictures. */
  readonly shift?: number;
}

async function crops(net: FaceNetGPU): Promise<void> {
  const faces = lfwFaces('train');
  const pairs = lfwPairs('train').filter(({ fold }) => fold === 5);
  const wanted = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
  const { points } = JSON.parse(readFileSync(pointsFile, 'utf8')) as { points: StoredOperatingPoint[] };
  const [best, strict] = [points.at(-1)!, points[2]!];
  const faults: readonly (readonly [string, Fault | 'whole'])[] = [
    ['as aligned', {}],
    ['margin +10 %', { scale: 1.1 }],
    ['margin +20 %', { scale: 1.2 }],
    ['margin +40 %', { scale: 1.4 }],
    ['margin -10 %', { scale: 0.9 }],
    ['margin -20 %', { scale: 0.8 }],
    ['turned by 5 degrees', { turn: 5 }],
    ['turned by 10 degrees', { turn: 10 }],
    ['turned by 20 degrees', { turn: 20 }],
    ['shifted by 0.1 eye distances', { shift: 0.1 }],
    ['shifted by 0.2 eye distances', { shift: 0.2 }],
    ['shifted by 0.4 eye distances', { shift: 0.4 }],
    ['the whole 154 x 154 picture', 'whole'],
  ];
  console.log(
    `| crop | accuracy at ${best.threshold.toFixed(4)} | best accuracy at any threshold | accepted at ${strict.threshold.toFixed(4)}: same | others |`,
  );
  console.log('|---|---:|---:|---:|---:|');
  for (const [name, fault] of faults) {
    const list = new Map(
      wanted.map((path) => {
        const { image, landmarks } = faces.get(path)!;
        return [
          path,
          fault === 'whole' ? (image as unknown as LfwFace) : { image, landmarks: misplaced(landmarks, path, fault) },
        ];
      }),
    );
    const distances = scored(pairs, await embed(list, wanted, net));
    const accepted = (same: boolean) => {
      const own = distances.filter((pair) => pair.same === same);
      return percent(own.filter(({ distance }) => distance <= strict.threshold).length / own.length);
    };
    console.log(
      `| ${name} | ${percent(accuracyAt(distances, best.threshold))} | ${percent(bestThreshold(distances).trainAccuracy)} | ${accepted(true)} | ${accepted(false)} |`,
    );
  }
}

const logHead = `# Log of evaluations

Sets 7-9 of LFW are looked at once for a figure that is reported; the commands below append a line each time. Set 6 chose every threshold.

| date | command | model, backend | figures |
|---|---|---|---|
`;

const [, , command, ...rest] = process.argv;
const backend = rest[0] === '--backend' ? (rest[1] as 'wasm' | 'webgpu') : 'wasm';
if (!lfwPresent) throw new Error(`lfw: ${lfwFolder} holds no images. Set FACENET_SHARED.`);
const commands = { fit: fitPoints, evaluate, detect, crops };
if (command === undefined || !Object.hasOwn(commands, command))
  throw new Error(`lfw: the command must be ${Object.keys(commands).join(', ')}. See the head of bench/lfw.ts.`);
const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend });
try {
  await commands[command as keyof typeof commands](net);
} finally {
  await net.dispose();
}
