// How far ten training steps drift apart by rounding alone: the same run on plain and on relaxed wasm (multiplication and addition rounded
// apart, and fused). Says why docs/conformance.md compares a small network's steps.
//
//   node build.mjs run bench/training-rounding.ts
import { FaceNetGPU, memoryDataset } from '../src/node.ts';
import { Trainer, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { wasmBackend } from '../test/backends.ts';
import { tinyModel, tinyPeople } from '../test/training-net.ts';

const STEPS = 10;

/** Ten steps of nn4.small2 at 32 x 32, where the last maps are single pixels, on textures. */
async function deep(relaxed: boolean, options: Partial<TrainOptions>): Promise<TrainStep[]> {
  const net = await FaceNetGPU.create({
    model: { network: 'nn4.small2', seed: 2, size: 32 },
    batchSize: 2,
    backend: 'wasm',
    relaxed,
    threads: 1,
  });
  const textures = Array.from({ length: 12 }, (_, i) => {
    const data = Uint8Array.from({ length: 32 * 32 * 3 }, (_, j) => (j * 37 + i * 91 + (j >> 5) * i) & 255);
    return { pixels: { data, width: 32, height: 32 }, label: i >> 1 };
  });
  const steps: TrainStep[] = [];
  const run = { steps: STEPS, people: 3, perPerson: 2, seed: 1, ...options };
  for await (const step of net.train(memoryDataset(textures), run as never)) steps.push(step);
  await net.dispose();
  return steps;
}

/** Ten steps of the small network of docs/conformance.md. */
async function small(relaxed: boolean, options: Partial<TrainOptions>): Promise<TrainStep[]> {
  const backend = await wasmBackend({ relaxed });
  const run = { steps: STEPS, people: 6, perPerson: 4, extraNegatives: 2, learningRate: 0.05, seed: 11, ...options };
  const model = tinyModel(backend);
  const trainer = new Trainer(model, tinyPeople(10, 6), run);
  const steps: TrainStep[] = [];
  for await (const step of trainer.run()) steps.push(step);
  trainer.dispose();
  model.store.dispose();
  await backend.dispose();
  return steps;
}

const cases: readonly [string, typeof deep, Partial<TrainOptions>][] = [
  ['nn4.small2, batch norm over 6 values, mining', deep, {}],
  ['the same without triplets or mining (softmax)', deep, { loss: 'softmax' }],
  ['the same by softmax, rate 0.001', deep, { loss: 'softmax', learningRate: 0.001 }],
  ['the same with mining, batch norm frozen', deep, { freezeBatchNorm: true }],
  ['small network, batch norm over 936 values, mining', small, {}],
  ['small network by softmax', small, { loss: 'softmax' }],
];
console.log(
  '| run | difference of the loss at step 1 | 2 | 3 | 5 | 10 | steps with other triplets | gradient norm, step 1 |',
);
console.log('|---|---:|---:|---:|---:|---:|---:|---:|');
for (const [name, run, options] of cases) {
  const [plain, relaxed] = [await run(false, options), await run(true, options)];
  const apart = plain.map(({ loss }, i) => Math.abs(loss - (relaxed[i]?.loss ?? Number.NaN)));
  const others = plain.filter(({ triplets }, i) => triplets !== relaxed[i]?.triplets).length;
  const shown = [1, 2, 3, 5, 10].map((step) => (apart[step - 1] ?? Number.NaN).toExponential(0));
  console.log(`| ${name} | ${shown.join(' | ')} | ${others} of ${STEPS} | ${plain[0]?.gradientNorm.toPrecision(2)} |`);
}
