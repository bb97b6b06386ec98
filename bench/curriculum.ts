// Does it help to begin with easy triplets? The same small network from the same weights on the same batches, in three ways: a curriculum
// (random, then semi-hard, then random violators), semi-hard alone, hardest alone (batch-hard), and the hardest of a larger set found offline.
// LFW (outside the repository: FACENET_SHARED, default ../shared): some people of sets 1-5 train, set 6 measures.
//
//   node build.mjs run bench/curriculum.ts [--seeds 0,1,2] [--steps 240] [--ways curriculum,semi-hard,hardest,offline] [--threads N]
//
// Prints a row of a table for each run: triplets active at the end, distances, the watchdog's words, accuracy and VAL on set 6.
import { parseArgs } from 'node:util';
import { squaredDistance } from '../src/faces/distance.ts';
import { bestThreshold } from '../src/faces/evaluation/folds.ts';
import { areaUnderRoc, pairDistances } from '../src/faces/evaluation/rates.ts';
import { Philox } from '../src/graph/philox.ts';
import { decodeImageInNode } from '../src/io/node/image-files.ts';
import { FaceNetGPU, memoryDataset, type TrainPhase, type TrainStep } from '../src/node.ts';
import { lfwFaces, lfwFolder, lfwPairs, lfwPeople, lfwPresent } from '../test/lfw.ts';

const { values: flags } = parseArgs({
  options: {
    seeds: { type: 'string', default: '0,1,2' },
    steps: { type: 'string', default: '240' },
    ways: { type: 'string', default: 'curriculum,semi-hard,hardest,offline' },
    images: { type: 'string', default: '1500' },
    threads: { type: 'string', default: '2' },
  },
});
if (!lfwPresent) throw new Error(`curriculum: ${lfwFolder} holds no images. Set FACENET_SHARED.`);
const steps = Number(flags.steps);
const SIDE = 48;

const ways: Readonly<Record<string, Partial<TrainPhase>>> = {
  curriculum: {
    curriculum: [
      { miner: 'random', until: { step: Math.round(0.3 * steps) } },
      { miner: 'semi-hard', until: { step: Math.round(0.7 * steps) } },
      { miner: 'random-violator' },
    ],
  },
  'semi-hard': { miner: 'semi-hard' },
  hardest: { miner: 'batch-hard' },
  offline: { miner: 'offline-hardest', offline: { batches: 6, every: 20 } },
};

const known = lfwFaces('train');
const held = lfwPeople(6);
const person = (path: string): string => path.slice(0, path.indexOf('/'));
const byPerson = new Map<string, string[]>();
for (const path of known.keys())
  if (!held.has(person(path))) byPerson.set(person(path), [...(byPerson.get(person(path)) ?? []), path]);
// People with two or more pictures, up to four of each: three pictures a person are drawn.
const paths: string[] = [];
const order = new Philox(1, 0x6375);
for (const [, own] of [...byPerson.entries()]
  .filter(([, list]) => list.length > 1)
  .map((entry) => [order.uniform(), entry[1]] as const)
  .sort(([a], [b]) => a - b)) {
  if (paths.length >= Number(flags.images)) break;
  paths.push(...own.slice(0, 4));
}
const items = [];
for (const path of paths) {
  const { image, landmarks } = known.get(path) as NonNullable<ReturnType<typeof known.get>>;
  const { data, width, height } = await decodeImageInNode(image);
  items.push({ pixels: { data, width, height }, landmarks, label: person(path) });
}
const data = memoryDataset(items);
const six = lfwPairs('train').filter(({ fold }) => fold === 5);
const sixPaths = [...new Set(six.flatMap(({ a, b }) => [a, b]))];
console.error(`curriculum: ${items.length} images of ${new Set(items.map(({ label }) => label)).size} people`);

console.log('| way | seed | steps | loss | active | one person | strangers | watchdog | set 6 | AUC | seconds |');
console.log('|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|');
for (const seed of (flags.seeds as string).split(',').map(Number)) {
  for (const way of (flags.ways as string).split(',')) {
    const phase = ways[way];
    if (!phase) throw new Error(`curriculum: ways are ${Object.keys(ways).join(', ')}, got ${way}.`);
    const net = await FaceNetGPU.create({
      model: { network: 'nn4.small2', seed, variant: { width: 0.25, lrn: false }, size: SIDE, dimensions: 64 },
      backend: 'wasm',
      threads: Number(flags.threads),
    });
    const start = performance.now();
    const done: TrainStep[] = [];
    for await (const step of net.train(data, {
      ...phase,
      steps,
      people: 20,
      perPerson: 3,
      extraNegatives: 4,
      optimizer: 'adam',
      learningRate: 1e-3,
      schedule: 'cosine',
      warmup: 0.03,
      seed,
      onCollapse: 'warn',
    }))
      done.push(step);
    const seconds = (performance.now() - start) / 1000;
    const { data: rows, dimensions } = await net.embed(sixPaths.map((path) => known.get(path)!));
    await net.dispose();
    const of = new Map(sixPaths.map((path, row) => [path, rows.subarray(row * dimensions, (row + 1) * dimensions)]));
    const pairs = six.map(({ a, b, same }) => ({ same, distance: squaredDistance(of.get(a)!, of.get(b)!) }));
    const { threshold } = bestThreshold(pairs);
    const right = pairs.filter(({ distance, same }) => distance <= threshold === same).length / pairs.length;
    const kind = (same: boolean) => pairs.filter((pair) => pair.same === same).map(({ distance }) => distance);
    const mean = (pick: (step: TrainStep) => number) =>
      done.slice(-20).reduce((sum, step) => sum + pick(step), 0) / Math.min(20, done.length);
    const warned = done.find(({ warning }) => warning);
    console.log(
      `| ${way} | ${seed} | ${done.length} | ${mean(({ loss }) => loss).toFixed(4)} | ${mean(({ activeFraction }) => activeFraction).toFixed(2)} | ${mean(({ meanPositive }) => meanPositive).toFixed(3)} | ${mean(({ meanNegative }) => meanNegative).toFixed(3)} | ${warned ? (warned.warning as string).slice(0, (warned.warning as string).indexOf(':', 10)) : 'nothing'} | ${(100 * right).toFixed(1)} % | ${areaUnderRoc(pairDistances(kind(true), kind(false))).toFixed(3)} | ${seconds.toFixed(0)} |`,
    );
  }
}
