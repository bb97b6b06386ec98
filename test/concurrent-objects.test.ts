// area: tasks
//
// Reliability R5, on dist/ and wasm: 200 calls without waiting on two objects of this thread and two in workers, of 1 to 33 faces, mixed with
// verification, search and training: every answer has the bits it has alone. The slow tier (FACENET_TIER=all) takes 20 seeds.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import type * as MainEntry from '../src/node.ts';
import type * as WorkerEntry from '../src/worker/node.ts';

const from = (file: string) => import(/* @vite-ignore */ new URL(`../dist/${file}`, import.meta.url).href);
const { FaceNetGPU: Main, memoryDataset } = (await from('facenet-gpu.node.js')) as typeof MainEntry;
const { FaceNetGPU: InWorker } = (await from('worker.node.js')) as typeof WorkerEntry;
type Net = MainEntry.FaceNetGPU | WorkerEntry.FaceNetGPU;

const seeds = process.env.FACENET_TIER === 'all' ? 20 : 1;
const CALLS = 200;
const options = {
  model: { network: 'nn4.small2', seed: 1, size: 32 },
  backend: 'wasm',
  relaxed: false,
  threads: 1,
  batchSize: 8,
} as const;
const random = new Philox(5, 0);
const faces = Array.from({ length: 12 }, () => ({
  data: Uint8Array.from({ length: 32 * 32 * 3 }, () => Math.floor(random.uniform() * 256)),
  width: 32,
  height: 32,
}));
const some = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => faces[(first + i) % faces.length]!);
const people = memoryDataset(faces.map((pixels, i) => ({ pixels, label: i >> 1 })));

/** What one call answers, as plain data. */
type Call = (net: Net) => Promise<unknown>;
const embed =
  (first: number, count: number): Call =>
  async (net) => [...(await net.embed(some(first, count))).data];
const verify =
  (a: number, b: number): Call =>
  (net) =>
    net.verify(faces[a]!, faces[b]!, { threshold: 1 });
const identify =
  (face: number): Call =>
  async (net) => {
    const gallery = await net.gallery();
    await gallery.enroll('known', await net.embed(some(2, 3)));
    const { label, matches } = await net.identify(faces[face]!, gallery, { threshold: 1 });
    return [label, matches.map(({ distance }) => distance)];
  };
const learn: Call = async (net) => {
  const numbers: number[] = [];
  const run = { steps: 2, people: 3, perPerson: 2, seed: 1 } as const;
  for await (const { loss, gradientNorm } of net.train(people, run)) numbers.push(loss, gradientNorm);
  return [...numbers, ...(await net.embed(faces[0]!)).data];
};

let nets: Net[];
beforeAll(async () => {
  nets = [
    await Main.create(options),
    await Main.create(options),
    await InWorker.create(options),
    await InWorker.create(options),
  ];
}, 120_000);
afterAll(() => Promise.all((nets ?? []).map((net) => net.dispose())));

test.each(Array.from({ length: seeds }, (_, seed) => seed))('seed %i', { timeout: 300_000 }, async (seed) => {
  const draw = new Philox(seed, 7);
  const below = (limit: number) => Math.floor(draw.uniform() * limit);
  const calls = Array.from({ length: CALLS }, (): { key: string; call: Call; net: Net } => {
    const [kind, a, b] = [below(10), below(faces.length), 1 + below(33)];
    const net = nets[below(nets.length)]!;
    if (kind === 0) return { key: `verify ${a} ${b % 12}`, call: verify(a, b % 12), net };
    if (kind === 1) return { key: `identify ${a}`, call: identify(a), net };
    return { key: `embed ${a} ${b}`, call: embed(a, b), net };
  });
  const alone = new Map<string, unknown>();
  for (const { key, call } of calls) if (!alone.has(key)) alone.set(key, await call(nets[0]!));
  const learners = [await Main.create(options), await InWorker.create(options), await Main.create(options)];
  const learnt = await learn(learners[2]!);

  const running = calls.map(({ call, net }) => call(net));
  const learning = learners.slice(0, 2).map(learn);
  // Awaited in another order than called.
  const order = [...calls.keys()].sort((a, b) => ((a * 7919) % CALLS) - ((b * 7919) % CALLS));
  for (const at of order) expect(await running[at], `${at}: ${calls[at]!.key}`).toEqual(alone.get(calls[at]!.key));
  for (const result of learning) expect(await result).toEqual(learnt);
  await Promise.all(learners.map((net) => net.dispose()));
});
