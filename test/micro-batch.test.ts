// Micro-batches against the batch computed at once, where both fit: the same loss, the same triplets, the same weights but for the order of sums.
// area: training
// on: none lavapipe
import { afterAll, describe, expect, test } from 'vitest';
import type { Backend } from '../src/plan/runner.ts';
import { Trainer, type TrainingState, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { backends, title } from './backends.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

/** 24 pictures: 6 people x 3 and 6 more. SGD: its update is linear in the gradient, so that the bound below is one on gradients. */
const options: TrainOptions = {
  steps: 4,
  people: 6,
  perPerson: 3,
  extraNegatives: 6,
  optimizer: 'sgd',
  learningRate: 0.05,
  seed: 21,
  ema: 0.9,
};
const data = tinyPeople(10, 5);

async function train(
  backend: Backend,
  over: Partial<TrainOptions>,
  stopAfter?: number,
): Promise<{ state: TrainingState; steps: TrainStep[]; stopped: string }> {
  const model = tinyModel(backend);
  const abort = new AbortController();
  const trainer = new Trainer(model, stopAfter === undefined ? data : { ...data, read: (index) => data.read(index) }, {
    ...options,
    ...over,
    signal: abort.signal,
  });
  const steps: TrainStep[] = [];
  const run = trainer.run();
  try {
    for (let next = await run.next(); ; next = await run.next()) {
      if (next.done) return { state: await trainer.state(), steps, stopped: next.value.stopped };
      steps.push(next.value);
      if (next.value.step === stopAfter) queueMicrotask(() => abort.abort());
    }
  } finally {
    trainer.dispose();
    model.store.dispose();
  }
}

/** Largest difference of each tensor, relative to its largest value. */
function differences(a: TrainingState, b: TrainingState): Map<string, number> {
  expect([...a.tensors.keys()].sort()).toEqual([...b.tensors.keys()].sort());
  return new Map(
    [...a.tensors].map(([name, { data: mine }]) => {
      const theirs = b.tensors.get(name)!.data;
      const size = mine.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
      return [name, mine.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i]!)), 0) / size];
    }),
  );
}

/** Four float32 steps: 2^-24 a rounding, sums of some thousand terms in another order. */
const BOUND = 2e-5;

for (const backend of opened) {
  describe(`micro-batches on ${title(backend)}`, () => {
    const compare = async (micro: Partial<TrainOptions>, whole: Partial<TrainOptions>) => {
      const [parts, batch] = [await train(backend, micro), await train(backend, whole)];
      const close = (pick: (step: TrainStep) => number) =>
        parts.steps.forEach((step, i) => expect(Math.abs(pick(step) / pick(batch.steps[i]!) - 1)).toBeLessThan(BOUND));
      expect(parts.steps).toHaveLength(options.steps!);
      for (const pick of ['loss', 'gradientNorm'] as const) close((step) => step[pick]);
      expect(parts.steps.map(({ triplets }) => triplets)).toEqual(batch.steps.map(({ triplets }) => triplets));
      const worst = [...differences(parts.state, batch.state)].sort(([, a], [, b]) => b - a)[0]!;
      expect(worst[1], worst[0]).toBeLessThan(BOUND);
      return { parts, batch };
    };

    test('frozen batch norm: the plain big batch', async () => {
      const { parts } = await compare(
        { microBatch: 6, freezeBatchNorm: true, augment: false },
        { freezeBatchNorm: true, augment: false },
      );
      expect(parts.steps[0]!.triplets).toBeGreaterThan(5);
    });

    test('batch norm in groups: the big batch that normalises the same groups, changed pictures and all', async () => {
      await compare({ microBatch: 8 }, { groups: 3 });
      await compare({ microBatch: 4, clipNorm: 0.05 }, { groups: 6, clipNorm: 0.05 });
    });

    test('a classification head and a teacher', async () => {
      const teacher = {
        data: Float32Array.from({ length: data.labels.length * 16 }, (_, i) =>
          i % 16 === data.labels[Math.floor(i / 16)] ? 1 : 0,
        ),
        dimensions: 16,
      };
      const both = { loss: { 'cosine-margin': 1, distill: 2 }, teacher, learningRate: 0.01 } as const;
      await compare({ ...both, microBatch: 12 }, { ...both, groups: 2 });
    });

    test('it is not the batch normalised as one', async () => {
      const [parts, batch] = [
        await train(backend, { microBatch: 8, augment: false }),
        await train(backend, { augment: false }),
      ];
      expect(Math.max(...differences(parts.state, batch.state).values())).toBeGreaterThan(100 * BOUND);
    });

    test('the same bits again, and nothing of the sums in a checkpoint; a stop in the middle of a step leaves the whole one before', async () => {
      const bytes = ({ tensors }: TrainingState) =>
        [...tensors].map(
          ([name, { data: values }]) =>
            `${name} ${Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64')}`,
        );
      const first = await train(backend, { microBatch: 6, steps: 3 });
      expect(bytes((await train(backend, { microBatch: 6, steps: 3 })).state)).toEqual(bytes(first.state));
      expect([...first.state.tensors.keys()].filter((name) => name.startsWith('sum/'))).toEqual([]);
      const stopped = await train(backend, { microBatch: 6, steps: 9 }, 3);
      expect(stopped).toMatchObject({ stopped: 'aborted' });
      expect(bytes(stopped.state)).toEqual(bytes(first.state));
    });

    test.each([
      ['a batch that does not divide', { microBatch: 7 }, 'multiple of microBatch, got 7'],
      ['statistics of the whole batch', { microBatch: 8, groups: 1 }, 'need 3 groups, got 1'],
      ['groups that do not divide', { groups: 5 }, 'multiple of groups, got 5'],
    ] as const)('%s is refused', async (_, over, part) => {
      await expect(train(backend, over)).rejects.toThrow(part);
    });
  });
}
