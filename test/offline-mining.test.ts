// Triplets found offline over a larger set with the latest weights: the hardest of that set by float64, the same bits when resumed.
// area: training
// on: none lavapipe
import { afterAll, describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { drawSearched, hardestTriplets, offlineBatch, offlineChoice } from '../src/train/offline.ts';
import { identitiesOf } from '../src/train/sampling.ts';
import { Trainer, type TrainingState, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { backends, title } from './backends.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});
const data = tinyPeople(12, 4);
const options: TrainOptions = {
  steps: 9,
  miner: 'offline-hardest',
  offline: { batches: 3, every: 4 },
  people: 4,
  perPerson: 3,
  extraNegatives: 2,
  learningRate: 0.02,
  seed: 5,
};

describe('the set that is searched', () => {
  const identities = identitiesOf(Int32Array.from([0, 0, 0, 1, 1, 2, 2, 3, 4, 5]));
  const sampler = { sampler: 'people', people: 2, perPerson: 2, extraNegatives: 1 } as const;

  test('holds pairs first, no picture twice, never more than there are, and is the same again', () => {
    const drawn = drawSearched(identities, sampler, 100, 7, 3);
    expect([...drawn].sort((a, b) => a - b)).toEqual([...Array(10).keys()]);
    expect(drawSearched(identities, sampler, 100, 7, 3)).toEqual(drawn);
    const small = drawSearched(identities, sampler, 1, 7, 3);
    expect(small).toHaveLength(5);
    expect(new Set(small).size).toBe(5);
  });
});

test('a batch is whole triplets, the list starts again at its end', () => {
  const mined = { phase: 0, from: 10, triplets: Int32Array.from([0, 1, 2, 3, 4, 5, 6, 7, 8]) };
  expect(offlineBatch(mined, 7, 10)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(offlineBatch(mined, 7, 11)).toEqual([6, 7, 8, 0, 1, 2]);
  // Rows in another order: the choice follows its pictures.
  const place = [4, 0, 6, 2, 5, 1, 3];
  const choice = offlineChoice(place, 2);
  const found = [...choice].flatMap((n, at) => (n >= 0 ? [[place[Math.floor(at / 7)], place[at % 7], place[n]]] : []));
  expect(found.sort()).toEqual([
    [0, 1, 2],
    [3, 4, 5],
  ]);
  expect([...choice].filter((n) => n === -2)).toHaveLength(47);
});

const trained = async (
  backend: (typeof opened)[number],
  over: Partial<TrainOptions> = {},
  until = Number.POSITIVE_INFINITY,
  from?: TrainingState,
) => {
  const model = tinyModel(backend);
  const trainer = new Trainer(model, data, { ...options, ...over });
  if (from) trainer.restore(from);
  const steps: TrainStep[] = [];
  for await (const step of trainer.run()) {
    steps.push(step);
    if (step.step >= until) break;
  }
  const state = await trainer.state();
  trainer.dispose();
  model.store.dispose();
  return { steps, state };
};
const weights = ({ tensors }: TrainingState) =>
  [...tensors]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { data: values }]) => [
      name,
      Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64'),
    ]);

for (const backend of opened) {
  describe(`offline mining on ${title(backend)}`, () => {
    test('the hardest of a set are those of float64', async () => {
      const random = new Philox(3, 4);
      const [count, dimensions] = [50, 8];
      const rows = Array.from({ length: count }, () =>
        Array.from({ length: dimensions }, () => Math.fround(random.uniform() - 0.5)),
      );
      const labels = Int32Array.from({ length: 80 }, (_, i) => i % 17);
      const indices = Array.from({ length: count }, (_, i) => i + 30);
      const found = await hardestTriplets(backend, {
        data: Float32Array.from(rows.flat()),
        dimensions,
        indices,
        labels,
      });
      const away = (a: number, b: number) => rows[a]!.reduce((sum, v, c) => sum + (v - rows[b]![c]!) ** 2, 0);
      const same = (a: number, b: number) => labels[indices[a]!] === labels[indices[b]!];
      const expected = indices.flatMap((_, a) => {
        const others = indices.map((__, b) => b).filter((b) => b !== a);
        const [p] = others.filter((b) => same(a, b)).sort((x, y) => away(a, y) - away(a, x));
        const [n] = others.filter((b) => !same(a, b)).sort((x, y) => away(a, x) - away(a, y));
        return p === undefined ? [] : [[indices[a]!, indices[p]!, indices[n!]!]];
      });
      expect(found).toEqual(expected);
    });

    test('a run takes its triplets from the list, searches again in time, and is the same again and resumed', async () => {
      const whole = await trained(backend);
      // Batches of 14: four triplets a step.
      expect(whole.steps.map(({ triplets }) => triplets)).toEqual(Array(9).fill(4));
      expect(whole.steps.every(({ loss }) => Number.isFinite(loss) && loss > 0)).toBe(true);
      expect(whole.state.metadata.get('offline')).toBe('0 8');
      expect(weights((await trained(backend)).state)).toEqual(weights(whole.state));
      for (const k of [2, 4]) {
        const head = await trained(backend, {}, k);
        const tail = await trained(backend, {}, 9, head.state);
        expect(tail.steps[0]?.step).toBe(k + 1);
        expect(weights(tail.state), `resumed after ${k}`).toEqual(weights(whole.state));
      }
    });

    test('as a stage of a curriculum, in micro-batches', async () => {
      const { steps, state } = await trained(backend, {
        steps: 4,
        people: 5,
        extraNegatives: 0,
        microBatch: 5,
        curriculum: [{ miner: 'offline-hardest', until: { step: 2 } }, { miner: 'semi-hard-or-easiest' }],
      });
      expect(steps.map(({ triplets }) => triplets).slice(0, 2)).toEqual([5, 5]);
      expect(steps[3]!.triplets).toBeGreaterThan(5);
      expect(state.metadata.has('offline')).toBe(false);
    });
  });
}

test('numbers out of range are refused', () => {
  const model = tinyModel(opened[0]!);
  for (const [over, part] of [
    [{ offline: { every: 0 } }, 'offline.every'],
    [{ offline: { batches: 1.5 } }, 'offline.batches'],
    [{ miner: 'offline' as 'random' }, 'miner must be one of'],
    [{ loss: 'tripplet' as 'triplet' }, 'loss must be one of'],
    [{ optimizer: 'adamw' as 'adam' }, 'optimizer must be one of'],
  ] as const)
    expect(() => new Trainer(model, data, { ...options, ...over })).toThrow(part);
  model.store.dispose();
});
