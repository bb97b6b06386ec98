// How a run does on people it is not trained on: figures by hand, memorising is named, weights are not touched.
// area: training
// on: none
import { afterAll, describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { memoryDataset } from '../src/train/dataset.ts';
import { Trainer, type TrainingState, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { type HeldOut, heldOutFrom, heldOutPairs, Validation } from '../src/train/validation.ts';
import { Watchdog } from '../src/train/watchdog.ts';
import { wasmBackend } from './backends.ts';
import { healthyStep, tinyModel, tinyPeople } from './training-net.ts';

const backend = await wasmBackend();
afterAll(() => backend.dispose());

/** Pictures that have nothing in common within a person: all that can be learnt is each of them. */
function noise(people: number, images: number, stream: number) {
  const items = [];
  for (let i = 0; i < people * images; i++) {
    const random = new Philox(8, stream + i);
    const cells = Array.from({ length: 8 * 8 * 3 }, () => random.below(256));
    const data = Uint8Array.from(
      { length: 24 * 24 * 3 },
      (_, at) => cells[(Math.floor(at / 72 / 3) * 8 + Math.floor((Math.floor(at / 3) % 24) / 3)) * 3 + (at % 3)]!,
    );
    items.push({ pixels: { data, width: 24, height: 24 }, label: Math.floor(i / images) });
  }
  return memoryDataset(items);
}

async function run(data: ReturnType<typeof tinyPeople>, options: TrainOptions) {
  const model = tinyModel(backend);
  const trainer = new Trainer(model, data, options);
  const steps: TrainStep[] = [];
  for await (const step of trainer.run()) steps.push(step);
  const state = await trainer.state();
  trainer.dispose();
  model.store.dispose();
  return { steps, state };
}
const bits = ({ tensors }: TrainingState) =>
  [...tensors].map(([name, { data }]) => [name, Buffer.from(data.buffer).toString('base64')]);

describe('the held-out set', () => {
  test('is whole people in seeded order, those with pairs first, and all pairs', () => {
    const data = tinyPeople(30, 3);
    const labels = Int32Array.from(data.labels, (label, i) => (label >= 20 ? 1000 + i : label));
    const set = heldOutFrom({ labels, read: data.read }, 4, 70);
    expect(set.images).toBeGreaterThan(60);
    expect(set.images).toBeLessThanOrEqual(70);
    expect(set.pairs).toHaveLength((set.images * (set.images - 1)) / 2);
    expect(set.pairs.filter(({ same }) => same)).toHaveLength(20 * 3);
    expect(heldOutFrom({ labels, read: data.read }, 4, 70).pairs).toEqual(set.pairs);
  });

  test('of one kind of pair is refused, an unreadable picture is named', async () => {
    const model = tinyModel(backend);
    const data = tinyPeople(4, 3);
    await expect(Validation.create(model, heldOutFrom(tinyPeople(1, 4), 0), data, 0)).rejects.toThrow(
      /pairs of one person and of two, got 6 and 0/,
    );
    const broken: HeldOut = {
      ...heldOutFrom(data, 0),
      read: () => {
        throw new Error('torn');
      },
      source: () => 'x.jpg',
    };
    await expect(Validation.create(model, broken, data, 0)).rejects.toMatchObject({
      code: 'image',
      message: expect.stringContaining('x.jpg: torn'),
    });
    model.store.dispose();
  });

  test('given as pairs: a face that is there twice is read once', () => {
    const [a, b, c] = [{}, {}, {}];
    const set = heldOutPairs(
      [
        { a, b, same: true },
        { a, b: c, same: false },
      ],
      async () => tinyPeople(1, 2).read(0),
    );
    expect(set.images).toBe(3);
    expect(set.pairs).toEqual([
      { a: 0, b: 1, same: true },
      { a: 0, b: 2, same: false },
    ]);
  });
});

describe('a run with held-out people', () => {
  const options: TrainOptions = { steps: 45, people: 6, perPerson: 3, learningRate: 0.02, seed: 2 };
  const people = tinyPeople(16, 4);

  test('says how they fare every 20 steps and at the end, and has the bits of a run without', async () => {
    const with_ = await run(people, { ...options, validation: heldOutFrom(tinyPeople(10, 4, 99), 1) });
    const without = await run(people, options);
    expect(with_.steps.filter(({ validation }) => validation).map(({ step }) => step)).toEqual([20, 40, 45]);
    const last = with_.steps.at(-1)!.validation!;
    expect(last.samePairs).toBe(10 * 6);
    expect(last.differentPairs).toBe((40 * 39) / 2 - 60);
    expect(last.far).toBe(0.1);
    expect(last.accuracy).toBeGreaterThan(0.8);
    expect(last.trainingAccuracy).toBeGreaterThan(0.8);
    expect(last.val).toBeGreaterThan(0.4);
    expect(bits(with_.state)).toEqual(bits(without.state));
    expect(with_.steps.filter(({ warning }) => warning)).toEqual([]);
  });

  test('that learns its people by heart is told so', async () => {
    const { steps } = await run(noise(12, 4, 0), {
      ...options,
      steps: 200,
      people: 12,
      perPerson: 4,
      optimizer: 'adam',
      learningRate: 0.01,
      miner: 'semi-hard-or-easiest',
      augment: false,
      validation: heldOutFrom(noise(20, 4, 5000), 1),
    });
    const warned = steps.filter(({ warning }) => warning?.includes('memorising'));
    expect(warned, JSON.stringify(steps.flatMap(({ validation }) => validation ?? []).at(-1))).toHaveLength(1);
    expect(warned[0]!.warning).toMatch(/memorising: \d+ % .* people trained on, \d+ % for held-out/);
    expect(warned[0]!.validation!.trainingAccuracy).toBeGreaterThan(warned[0]!.validation!.accuracy + 0.1);
  });

  test('evaluateEvery is a whole number from 1', () => {
    const model = tinyModel(backend);
    expect(() => new Trainer(model, people, { ...options, evaluateEvery: 0 })).toThrow(/evaluateEvery/);
    model.store.dispose();
  });
});

test('few pairs prove no memorising', () => {
  const figures = (pairs: number) => ({
    accuracy: 0.75,
    threshold: 1,
    val: 0.5,
    far: 0.1,
    trainingAccuracy: 0.95,
    samePairs: pairs,
    differentPairs: 900,
    trainingSamePairs: pairs,
    milliseconds: 1,
  });
  expect(new Watchdog().check({ ...healthyStep, step: 20, loss: 0.1, validation: figures(20) }, true)).toBeUndefined();
  expect(new Watchdog().check({ ...healthyStep, step: 20, loss: 0.1, validation: figures(300) }, true)?.kind).toBe(
    'memorising',
  );
});
