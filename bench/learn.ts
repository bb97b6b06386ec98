// Learning from Labeled Faces in the Wild (outside the repository: FACENET_SHARED, default ../shared): sets 1-5 train, set 6 chooses the
// threshold, sets 7-9 are looked at once, at the end.
//
//   node build.mjs run bench/learn.ts distill     from our own dlib-resnet, then semi-hard triplets
//   node build.mjs run bench/learn.ts warmup      a cosine-margin head, then semi-hard triplets: no outside data
//   node build.mjs run bench/learn.ts triplet     semi-hard triplets from the first step
//
//   --network S|F      S: nn4.small2 of half width at 64 x 64; F: nn4.small2 at 96 x 96. Default S
//   --steps N          batches of 128 in all phases together; or
//   --minutes M        as many as fit into M minutes of training, by the speed of the first ones; stops there whatever was reached
//   --images N         so many training images (seeded choice of people); default: all
//   --seed N, --threads N, --backend NAME, --no-mirror (plain figures alone), --no-save (nothing written but to standard output)
//
// Recipes: docs/training.md. Writes models/lfw-RECIPE-NETWORK.safetensors and .md, and a line of docs/eval-log.md.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { squaredDistance } from '../src/faces/distance.ts';
import { evaluateAllPairs } from '../src/faces/evaluation/all-pairs.ts';
import { bestThreshold, foldAccuracy } from '../src/faces/evaluation/folds.ts';
import type { ListedPair } from '../src/faces/evaluation/pairs-file.ts';
import { areaUnderRoc, equalErrorRate, pairDistances } from '../src/faces/evaluation/rates.ts';
import { wilson } from '../src/faces/evaluation/statistics.ts';
import { Philox } from '../src/graph/philox.ts';
import { decodeImageInNode } from '../src/io/node/image-files.ts';
import { type Dataset, FaceNetGPU, memoryDataset, type Pixels, type TrainPhase, type TrainStep } from '../src/node.ts';
import { whitenedTargets } from '../src/train/whitening.ts';
import { type LfwFace, lfwFaces, lfwFolder, lfwPairs, lfwPeople, lfwPresent } from '../test/lfw.ts';

const BATCH = 128;
const networks = {
  S: { variant: { width: 0.5, lrn: false }, size: 64 },
  F: { variant: { lrn: false }, size: 96 },
} as const;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    network: { type: 'string', default: 'S' },
    steps: { type: 'string' },
    minutes: { type: 'string' },
    images: { type: 'string' },
    seed: { type: 'string', default: '0' },
    threads: { type: 'string' },
    backend: { type: 'string', default: 'auto' },
    'no-mirror': { type: 'boolean', default: false },
    'no-save': { type: 'boolean', default: false },
  },
});
const recipe = positionals[0] as 'distill' | 'warmup' | 'triplet';
const network = networks[flags.network as 'S' | 'F'];
if (!lfwPresent) throw new Error(`learn: ${lfwFolder} holds no images. Set FACENET_SHARED.`);
if (!['distill', 'warmup', 'triplet'].includes(recipe) || !network)
  throw new Error('learn: see the head of bench/learn.ts.');
const seed = Number(flags.seed);
const machine = {
  backend: flags.backend as 'auto' | 'wasm' | 'webgpu',
  ...(flags.threads !== undefined && { threads: Number(flags.threads) }),
};

/** Phases of notes on learning from small sets, for a number of batches. */
function phasesOf(steps: number): TrainPhase[] {
  // 96 images of 32 people and 32 others; plain batches for regression.
  const triplets = {
    people: 32,
    perPerson: 3,
    extraNegatives: BATCH - 96,
    optimizer: 'adam',
    schedule: 'cosine',
    warmup: 0.03,
  } as const;
  const plain = {
    sampler: 'shuffled',
    people: BATCH,
    perPerson: 1,
    optimizer: 'adam',
    schedule: 'cosine',
    warmup: 0.03,
  } as const;
  const share = (part: number) => Math.max(1, Math.round(part * steps));
  const split = (part: number, first: Omit<TrainPhase, 'steps'>, second: Omit<TrainPhase, 'steps'>): TrainPhase[] =>
    steps < 2
      ? [{ ...first, steps }]
      : [
          { ...first, steps: Math.min(steps - 1, share(part)) },
          { ...second, steps: steps - Math.min(steps - 1, share(part)) },
        ];
  switch (recipe) {
    case 'distill':
      return split(
        0.87,
        { ...plain, loss: 'distill', learningRate: 2e-3, weightDecay: 0.01 },
        { ...triplets, learningRate: 4e-4 },
      );
    case 'warmup':
      return split(
        0.8,
        {
          ...triplets,
          people: 42,
          extraNegatives: BATCH - 126,
          loss: 'cosine-margin',
          learningRate: 2e-3,
          weightDecay: 0.05,
        },
        { ...triplets, learningRate: 5e-4 },
      );
    default:
      return [{ ...triplets, learningRate: 1e-3, steps }];
  }
}

const person = (path: string): string => path.slice(0, path.indexOf('/'));
const minutesSince = (start: number): number => (performance.now() - start) / 60_000;

/** Paths of sets 1-5, at most `limit`, whole people in a seeded order. */
function trainingPaths(faces: ReadonlyMap<string, LfwFace>, limit: number): string[] {
  const held = lfwPeople(6);
  const random = new Philox(seed, 0x6c66);
  const names = [...new Set([...faces.keys()].map(person))]
    .filter((name) => !held.has(name))
    .sort()
    .map((name) => ({ name, key: random.uniform() }))
    .sort((a, b) => a.key - b.key);
  const byName = new Map<string, string[]>();
  for (const path of faces.keys()) byName.set(person(path), [...(byName.get(person(path)) ?? []), path]);
  const chosen: string[] = [];
  for (const { name } of names) {
    if (chosen.length >= limit) break;
    chosen.push(...(byName.get(name) as string[]));
  }
  return chosen;
}

async function decoded(
  faces: ReadonlyMap<string, LfwFace>,
  paths: readonly string[],
): Promise<{ pixels: Pixels; landmarks: LfwFace['landmarks']; label: string }[]> {
  const items = [];
  for (const path of paths) {
    const { image, landmarks } = faces.get(path) as LfwFace;
    const { data, width, height } = await decodeImageInNode(image);
    items.push({ pixels: { data, width, height }, landmarks, label: person(path) });
  }
  return items;
}

/** Half-whitened embeddings of the teacher. */
async function teach(items: readonly { pixels: Pixels; landmarks: LfwFace['landmarks'] }[]) {
  const start = performance.now();
  const net = await FaceNetGPU.create({ model: 'dlib-resnet', ...machine });
  try {
    const { data, dimensions } = await net.embed(items.map(({ pixels, landmarks }) => ({ image: pixels, landmarks })));
    console.error(`learn: ${items.length} targets by ${net.model.name}, ${minutesSince(start).toFixed(1)} minutes`);
    return whitenedTargets(data, dimensions);
  } finally {
    await net.dispose();
  }
}

interface Trained {
  model: Uint8Array;
  /** The model as it was at up to 20 steps on the way. */
  snapshots: { step: TrainStep; model: Uint8Array }[];
  steps: TrainStep[];
  planned: number;
  minutes: number;
  perSecond: number;
  why: string;
}

async function learn(data: Dataset, teacher: Awaited<ReturnType<typeof teach>> | undefined): Promise<Trained> {
  const create = () =>
    FaceNetGPU.create({ model: { network: 'nn4.small2', seed, ...network, dimensions: 128 }, ...machine });
  const options = { seed, ...(teacher && { teacher }) };
  let planned = Number(flags.steps ?? 0);
  const limit = flags.minutes === undefined ? Number.POSITIVE_INFINITY : Number(flags.minutes);
  const begin = performance.now();
  if (flags.minutes !== undefined) {
    // The schedule must know its length: five steps tell how many there will be.
    const trial = await create();
    const times: number[] = [];
    for await (const { milliseconds } of trial.train(data, { ...options, phases: phasesOf(8) }))
      if (times.push(milliseconds) === 5) break;
    await trial.dispose();
    const each = Math.min(...times.slice(1)) / 60_000;
    planned = Math.max(2, Math.floor((0.85 * (limit - minutesSince(begin))) / each));
    console.error(`learn: ${(1000 * 60 * each).toFixed(0)} ms a step of ${BATCH}; ${planned} steps planned`);
  }
  const net = await create();
  try {
    const steps: TrainStep[] = [];
    const snapshots: Trained['snapshots'] = [];
    const start = performance.now();
    for await (const step of net.train(data, { ...options, phases: phasesOf(planned) })) {
      steps.push(step);
      if (step.warning) console.error(`learn: ${step.warning}`);
      if (step.step % Math.max(1, Math.floor(planned / 40)) === 0) {
        console.error(
          `learn: step ${step.step}/${planned} phase ${step.phase} loss ${step.loss.toFixed(4)} active ${step.activeFraction.toFixed(2)} strangers ${step.meanNegative.toFixed(3)} gradient ${step.gradientNorm.toFixed(3)} ${minutesSince(start).toFixed(1)} min`,
        );
      }
      if (step.step % Math.ceil(planned / 20) === 0 || step.step === planned)
        snapshots.push({ step, model: await net.save({ weights: 'float16' }) });
      if (minutesSince(begin) > limit) break;
    }
    const minutes = minutesSince(start);
    const trainedOn = `LFW sets 1-5 (${data.labels.length} images)${teacher ? ', targets by dlib-resnet' : ''}: press photographs, for research and testing`;
    const model = await net.save({
      weights: 'float16',
      trainedOn,
      licence: 'research and testing only (LFW)',
      source: `bench/learn.ts ${process.argv.slice(2).join(' ')}`,
    });
    return {
      model,
      snapshots,
      steps,
      planned,
      minutes,
      perSecond: (steps.length * BATCH) / (60 * minutes),
      why: net.why,
    };
  } finally {
    await net.dispose();
  }
}

/** Embeddings of listed faces, by path. */
async function embeddings(net: FaceNetGPU, faces: ReadonlyMap<string, LfwFace>, paths: readonly string[]) {
  const { data, dimensions } = await net.embed(paths.map((path) => faces.get(path) as LfwFace));
  return {
    data,
    dimensions,
    count: paths.length,
    of: new Map(paths.map((path, row) => [path, data.subarray(row * dimensions, (row + 1) * dimensions)])),
  };
}

const scored = (pairs: readonly ListedPair[], of: ReadonlyMap<string, Float32Array>) =>
  pairs.map(({ a, b, same, fold }) => ({
    same,
    fold: fold as number,
    distance: squaredDistance(of.get(a) as Float32Array, of.get(b) as Float32Array),
  }));

const percent = (rate: number) => `${(100 * rate).toFixed(2)} %`;
const rocOf = (pairs: readonly { same: boolean; distance: number }[]) => {
  const kinds = (same: boolean) => pairs.filter((pair) => pair.same === same).map(({ distance }) => distance);
  return pairDistances(kinds(true), kinds(false));
};

const known = lfwFaces('train');
const six = lfwPairs('train').filter(({ fold }) => fold === 5);
const sixPaths = [...new Set(six.flatMap(({ a, b }) => [a, b]))];

/** The way there, as rows of a table: what the steps said, and plain accuracy (best threshold) and AUC on set 6, whose people were not trained on. */
async function curve(snapshots: Trained['snapshots']): Promise<string[]> {
  const rows: string[] = [];
  for (const { step, model } of snapshots) {
    const net = await FaceNetGPU.create({ model, ...machine });
    try {
      const pairs = scored(six, (await embeddings(net, known, sixPaths)).of);
      const { threshold } = bestThreshold(pairs);
      const right = pairs.filter(({ distance, same }) => distance <= threshold === same).length;
      rows.push(
        `| ${step.step} | ${step.phase} | ${step.loss.toFixed(4)} | ${step.activeFraction.toFixed(2)} | ${step.meanNegative.toFixed(3)} | ${percent(right / pairs.length)} | ${areaUnderRoc(rocOf(pairs)).toFixed(4)} |`,
      );
    } finally {
      await net.dispose();
    }
  }
  return rows;
}

/** Figures of a model: threshold from set 6, accuracy, AUC and EER on the listed pairs of sets 7-9, VAL over all their pairs. */
async function figures(model: Uint8Array, mirror: boolean): Promise<string[]> {
  const net = await FaceNetGPU.create({ model, mirror, ...machine });
  try {
    const chooser = await embeddings(net, known, sixPaths);
    const { threshold } = bestThreshold(scored(six, chooser.of));
    const fresh = lfwFaces('eval');
    const all = await embeddings(net, fresh, [...fresh.keys()]);
    const pairs = scored(lfwPairs('eval'), all.of);
    const right = pairs.filter(({ distance, same }) => distance <= threshold === same).length;
    const folds = foldAccuracy([0, 1, 2].map((fold) => pairs.filter((pair) => pair.fold === fold)));
    const roc = rocOf(pairs);
    const whole = await evaluateAllPairs(all, [...fresh.keys()].map(person), { fars: [1e-2, 1e-3] });
    const span = (interval: readonly [number, number] | null) =>
      interval ? ` [${interval.map(percent).join(', ')}]` : '';
    return [
      `accuracy ${percent(right / pairs.length)}${span(wilson(right, pairs.length))} at ${threshold.toFixed(4)} (set 6), ${percent(folds.mean)} +- ${percent(folds.standardError)} by folds`,
      `AUC ${areaUnderRoc(roc).toFixed(4)}, EER ${percent(equalErrorRate(roc))}`,
      ...whole.valAtFar.map(
        ({ targetFar, val, valInterval }) => `VAL at FAR ${targetFar} ${percent(val)}${span(valInterval)}`,
      ),
    ];
  } finally {
    await net.dispose();
  }
}

const paths = trainingPaths(known, Number(flags.images ?? Number.POSITIVE_INFINITY));
const items = await decoded(known, paths);
const data = memoryDataset(items);
console.error(
  `learn: ${recipe} ${flags.network}, ${items.length} images of ${new Set(items.map(({ label }) => label)).size} people`,
);
const teacher = recipe === 'distill' ? await teach(items) : undefined;
const trained = await learn(data, teacher);
const { model, snapshots, steps, planned, minutes, perSecond, why } = trained;
const reached = `${steps.length} of ${planned} steps of ${BATCH} on ${items.length} images, ${minutes.toFixed(1)} minutes, ${perSecond.toFixed(1)} images a second, last loss ${steps.at(-1)?.loss.toFixed(4)}, seed ${seed}`;
console.log(`${recipe} ${flags.network}: ${reached}; ${why}`);
const name = `lfw-${recipe}-${(flags.network as string).toLowerCase()}`;
const folder = fileURLToPath(new URL('../models/', import.meta.url));
if (!flags['no-save']) {
  // Before the evaluation, which may take longer than the patience of who waits.
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${name}.safetensors`, model);
}
const way = await curve(snapshots);
for (const row of way) console.log(row);
const plain = await figures(model, false);
for (const line of plain) console.log(`plain: ${line}`);
const mirrored = flags['no-mirror'] ? ['not measured'] : await figures(model, true);
for (const line of mirrored) console.log(`mirror: ${line}`);
if (!flags['no-save']) {
  // By steps, not by minutes: what makes the same weights again.
  const command = `node build.mjs run bench/learn.ts ${recipe} --network ${flags.network} --steps ${planned} --seed ${seed}${flags.images === undefined ? '' : ` --images ${flags.images}`}`;
  const card = [
    `# ${name}`,
    '',
    `nn4.small2${flags.network === 'S' ? ' at half width' : ''}, ${network.size} x ${network.size}, 128 numbers a face; float16, ${(model.length / 1e6).toFixed(2)} MB.`,
    '',
    `**Data.** LFW sets 1-5${recipe === 'distill' ? ', with embeddings of dlib-resnet as targets' : ''}: photographs of public figures from the press, collected for research. The weights are for research and testing.`,
    '**Who should not use it.** Anybody who decides about people with it. LFW is mostly white, male and adult; nothing was measured for others. It was trained briefly, to show that the library learns.',
    '',
    `**Made by** \`${command}\`: ${reached}; ${why}.`,
    '',
    '| sets 7-9, once | figures |',
    '|---|---|',
    `| plain | ${plain.join('; ')} |`,
    `| mean of picture and mirror | ${mirrored.join('; ')} |`,
    '',
    'Threshold chosen on set 6. Accuracy: 95 % interval of Wilson over 1,800 pairs; VAL: over all pairs of the 4,119 images, 95 % intervals by bootstrap over identities. For comparison: whitened eigenfaces reach 72 %.',
    '',
    '| step | phase | loss | active | strangers | set 6 | AUC |',
    '|---:|---:|---:|---:|---:|---:|---:|',
    ...way,
    '',
    'Loss, share of active triplets and mean squared distance between strangers are those of the batch; set 6 (600 pairs of people not trained on): plain, best threshold.',
    '',
  ];
  writeFileSync(`${folder}${name}.md`, card.join('\n'));
  const date = new Date().toISOString().slice(0, 10);
  appendFileSync(
    fileURLToPath(new URL('../docs/eval-log.md', import.meta.url)),
    `| ${date} | \`${command}\` | ${name}: ${reached}; ${why} | plain: ${plain.join('; ')}. Mirror: ${mirrored.join('; ')} |\n`,
  );
}
