// One training step of nn4.small2 (96 x 96, 10 people x 3): milliseconds and GFLOP/s (2 x multiply-adds / time) of crop, forward, loss, backward
// and update apart, from the backend's own times of every kernel.
//
//   node build.mjs run bench/train-step.ts [--backend wasm|webgpu] [--threads N] [--batch 30] [--runs 5] [--kernels]
//
// --kernels: the sum of each entry point over its layers, and the 25 slowest kernels.
// Medians over runs; the machine should do nothing else.
import { parseArgs } from 'node:util';
import { openBackend } from '../src/backends/open.ts';
import { Philox } from '../src/graph/philox.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { nn4Small2 } from '../src/networks/nn4-small2.ts';
import { Store } from '../src/plan/store.ts';
import { memoryDataset } from '../src/train/dataset.ts';
import { Trainer } from '../src/train/trainer.ts';
import { median } from './rounds.ts';

const { values: flags } = parseArgs({
  options: {
    backend: { type: 'string', default: 'wasm' },
    threads: { type: 'string', default: '2' },
    batch: { type: 'string', default: '30' },
    runs: { type: 'string', default: '5' },
    kernels: { type: 'boolean', default: false },
  },
});
const batch = Number(flags.batch);
const SIDE = 96;

const opened = await openBackend(createNodeHost(), {
  backend: flags.backend as 'wasm' | 'webgpu',
  threads: Number(flags.threads),
});
const { backend } = opened;
const store = new Store(backend);
const parameters = parametersOf(nn4Small2);
const values = initialise(parameters, 1);
for (const { name, shape } of parameters) store.set(name, values.get(name) as Float32Array, shape);
const random = new Philox(1, 1);
const items = Array.from({ length: batch }, (_, i) => ({
  label: Math.floor(i / 3),
  pixels: {
    data: Uint8Array.from({ length: SIDE * SIDE * 3 }, () => 256 * random.uniform()),
    width: SIDE,
    height: SIDE,
  },
}));
const preprocessing = {
  width: SIDE,
  height: SIDE,
  colour: 'rgb',
  scale: [1 / 255, 1 / 255, 1 / 255],
  shift: [0, 0, 0],
  template: {
    name: 'bench',
    width: SIDE,
    height: SIDE,
    points: [
      [32, 40],
      [64, 40],
    ],
  },
} as const;
const model = { network: nn4Small2, variant: {}, preprocessing, backend, store };
const runs = Number(flags.runs);
const trainer = new Trainer(model, memoryDataset(items), {
  steps: runs + 1,
  people: Math.floor(batch / 3),
  perPerson: 3,
  extraNegatives: batch - 3 * Math.floor(batch / 3),
  seed: 1,
});

const wall: number[] = [];
for await (const { milliseconds } of trainer.run()) {
  const compiled = wall.push(milliseconds) === 1 ? ', kernels compiled' : '';
  console.error(`step ${wall.length}${compiled}: ${(milliseconds / 1000).toFixed(1)} s`);
}

type Part = 'crop' | 'forward' | 'loss' | 'backward' | 'update';
function partOf(label: string, operator: string): Part {
  if (/Update$|^sumOfSquares$/.test(operator) || /runningAverage/.test(label)) return 'update';
  if (label.startsWith('gradient of ') || /[gG]radient/.test(label)) return 'backward';
  if (/^(warpAffine|augment)$/.test(operator)) return 'crop';
  if (/^(pairwiseDistance|tripletSelection|tripletLoss)$/.test(operator)) return 'loss';
  return 'forward';
}

const plan = trainer.plans[0];
if (!plan) throw new Error('train-step: no plan was made.');
const profiles: Awaited<ReturnType<typeof plan.profile>>[] = [];
for (let run = 0; run < runs; run++) profiles.push(await plan.profile());
const steps = profiles[0]!.steps;
const times = steps.map((_, index) => median(profiles.map(({ milliseconds }) => milliseconds[index] as number)));
const sums = new Map<Part, { milliseconds: number; multiplyAdds: number; kernels: number }>();
steps.forEach((step, index) => {
  const part = partOf(step.label, step.operator);
  const sum = sums.get(part) ?? { milliseconds: 0, multiplyAdds: 0, kernels: 0 };
  sums.set(part, {
    milliseconds: sum.milliseconds + times[index]!,
    multiplyAdds: sum.multiplyAdds + step.multiplyAdds,
    kernels: sum.kernels + 1,
  });
});
console.log(`nn4.small2, ${batch} images of ${SIDE} x ${SIDE}; ${opened.why}; times by ${profiles[0]!.timing}`);
console.log(
  `whole step, wall clock, median of ${runs}: ${median(wall.slice(1)).toFixed(0)} ms (fastest ${Math.min(...wall.slice(1)).toFixed(0)} ms)`,
);
for (const [part, { milliseconds, multiplyAdds, kernels }] of sums) {
  console.log(
    `${part.padEnd(9)} ${milliseconds.toFixed(1).padStart(8)} ms  ${(multiplyAdds / 1e9).toFixed(2).padStart(6)} G multiply-adds  ${((2 * multiplyAdds) / (milliseconds * 1e6)).toFixed(1).padStart(6)} GFLOP/s  ${kernels} kernels`,
  );
}
if (flags.kernels) {
  const entries = new Map<string, number>();
  steps.forEach(({ operator, kernel }, index) => {
    const name = `${operator}.${kernel}`;
    entries.set(name, (entries.get(name) ?? 0) + times[index]!);
  });
  for (const [name, milliseconds] of [...entries].sort(([, a], [, b]) => b - a))
    console.log(`${milliseconds.toFixed(2).padStart(8)} ms  ${name}, all layers`);
  const order = steps
    .map((_, index) => index)
    .sort((a, b) => times[b]! - times[a]!)
    .slice(0, 25);
  for (const index of order)
    console.log(
      `${times[index]!.toFixed(2).padStart(8)} ms  ${steps[index]!.operator}.${steps[index]!.kernel}  ${steps[index]!.label}`,
    );
}
trainer.dispose();
store.dispose();
await backend.dispose();
