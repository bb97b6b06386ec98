// Training: the same bits from the same seed, resumed or not, on one thread or two; what is watched and what is refused.
// area: training
// on: none lavapipe
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import type { Backend } from '../src/plan/runner.ts';
import { type BatchOptions, type TrainingBatch, trainingBatches } from '../src/train/dataset.ts';
import { Trainer, type TrainingState, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { backends, title, wasmBackend } from './backends.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

const options: TrainOptions = {
  steps: 50,
  people: 6,
  perPerson: 3,
  extraNegatives: 2,
  optimizer: 'adagrad',
  learningRate: 0.05,
  seed: 11,
};
const data = tinyPeople(10, 5);
const all = process.env.FACENET_TIER === 'all';

function digest({ tensors }: TrainingState): string {
  const hash = createHash('sha256');
  for (const [name, { data: values }] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return hash.digest('hex');
}

async function train(
  backend: Backend,
  over: Partial<TrainOptions> = {},
  until = Number.POSITIVE_INFINITY,
  from?: TrainingState,
): Promise<{ state: TrainingState; steps: TrainStep[]; stopped?: string }> {
  const model = tinyModel(backend);
  const trainer = new Trainer(model, data, { ...options, ...over });
  if (from) trainer.restore(from);
  const steps: TrainStep[] = [];
  let stopped: string | undefined;
  const run = trainer.run();
  for (let next = await run.next(); ; next = await run.next()) {
    if (next.done) {
      stopped = next.value.stopped;
      break;
    }
    steps.push(next.value);
    if (next.value.step >= until) {
      await run.return({ steps: next.value.step, stopped: 'aborted' });
      break;
    }
  }
  const state = await trainer.state();
  trainer.dispose();
  model.store.dispose();
  return { state, steps, ...(stopped ? { stopped } : {}) };
}

for (const backend of opened) {
  describe(`training on ${title(backend)}`, () => {
    test('fifty steps give one hash of all weights on repetition, and learn', async () => {
      const before = backend.counters();
      const first = await train(backend);
      const second = await train(backend);
      expect(digest(second.state)).toBe(digest(first.state));
      expect(first.stopped).toBe('done');
      const mean = (steps: TrainStep[], pick: (step: TrainStep) => number) =>
        steps.reduce((sum, step) => sum + pick(step), 0) / steps.length;
      const apart = (steps: TrainStep[]) => mean(steps, (step) => step.meanNegative - step.meanPositive);
      expect(apart(first.steps.slice(-10))).toBeGreaterThan(apart(first.steps.slice(0, 5)));
      const after = backend.counters();
      expect([after.buffers, after.bytes, after.programs]).toEqual([before.buffers, before.bytes, before.programs]);
    });

    // Every k below 25 in the slow tier.
    test.each(all ? [...Array(24).keys()].map((k) => k + 1) : [1, 7, 20])(
      'resumed after step %i: the hash of the undisturbed run at step 25',
      async (k) => {
        const whole = await train(backend, {}, 25);
        const head = await train(backend, {}, k);
        const tail = await train(backend, {}, 25, head.state);
        expect(tail.steps[0]?.step).toBe(k + 1);
        expect(digest(tail.state)).toBe(digest(whole.state));
      },
    );

    test('every loss, optimiser and miner takes steps with finite numbers', async () => {
      const teacher = {
        data: Float32Array.from({ length: data.labels.length * 16 }, (_, i) =>
          i % 16 === (data.labels[Math.floor(i / 16)] as number) ? 1 : 0,
        ),
        dimensions: 16,
      };
      for (const phase of [
        { loss: 'cosine-margin', optimizer: 'adam' },
        { loss: 'softmax', optimizer: 'sgd', learningRate: 0.01 },
        { loss: 'distill', optimizer: 'adam', weightDecay: 0.01 },
        { loss: 'soft-margin', miner: 'batch-hard' },
        { miner: 'batch-all' },
        { miner: 'random-violator' },
        { miner: 'semi-hard-or-easiest', clipNorm: 0.5 },
        { loss: { distill: 3, 'cosine-margin': 1 }, optimizer: 'adam' },
      ] as const) {
        const { steps } = await train(backend, { ...phase, steps: 3, teacher, sampler: 'people', ema: 0.9 });
        for (const step of steps)
          expect(
            [step.loss, step.gradientNorm].every((value) => Number.isFinite(value) && value > 0),
            `${JSON.stringify(phase)} ${JSON.stringify(step)}`,
          ).toBe(true);
      }
    });

    test('phases follow one another, stages within a phase', async () => {
      const { steps } = await train(backend, {
        phases: [
          { steps: 3, loss: 'cosine-margin', sampler: 'shuffled', people: 5, perPerson: 4, optimizer: 'adam' },
          {
            steps: 4,
            people: 5,
            perPerson: 3,
            curriculum: [{ miner: 'random', until: { step: 2 } }, { miner: 'semi-hard' }],
          },
        ],
      });
      expect(steps.map((step) => step.phase)).toEqual([0, 0, 0, 1, 1, 1, 1]);
      expect(steps.every((step) => Number.isFinite(step.loss))).toBe(true);
    });
  });
}

describe.runIf((process.env.FACENET_ADAPTER ?? 'none') === 'none')('training on wasm threads', () => {
  test('one thread and two give the same hash', async () => {
    const one = await wasmBackend({ threads: 1 });
    const two = await wasmBackend({ threads: 2 });
    const hashes = [digest((await train(one, {}, 20)).state), digest((await train(two, {}, 20)).state)];
    await one.dispose();
    await two.dispose();
    expect(hashes[1]).toBe(hashes[0]);
  });
});

describe('what training refuses', () => {
  const backend = opened[0] as Backend;
  const refused = (over: Partial<TrainOptions>, people = data) => {
    const model = tinyModel(backend);
    try {
      return new Trainer(model, people, { ...options, ...over });
    } catch (error) {
      return error;
    } finally {
      model.store.dispose();
    }
  };

  test.each([
    ['fewer people than asked', { people: 45, perPerson: 40 }, 'input', '45 x 40 = 1800'],
    ['no steps', { steps: 0 }, 'input', 'steps must be'],
    ['a negative rate', { learningRate: -1 }, 'input', 'learningRate'],
    ['a margin of 0', { margin: 0 }, 'input', 'margin'],
    ['distillation without a teacher', { loss: 'distill' }, 'input', 'teacher'],
    ['one image a person in a triplet batch', { perPerson: 1 }, 'input', 'perPerson'],
  ] as const)('%s', (_, over, code, part) => {
    const error = refused(over as Partial<TrainOptions>);
    expect(error).toBeInstanceOf(FaceNetError);
    expect((error as FaceNetError).code).toBe(code);
    expect((error as FaceNetError).message).toContain(part);
  });

  test('a single person', () => {
    expect(
      (refused({ people: 1, perPerson: 3, extraNegatives: 0 }, tinyPeople(1, 5)) as FaceNetError).message,
    ).toContain('two people');
  });

  test('a checkpoint of other options, and of a newer version', async () => {
    const { state } = await train(backend, {}, 1);
    const model = tinyModel(backend);
    const other = new Trainer(model, data, { ...options, seed: 12 });
    expect(() => other.restore(state)).toThrow(/seed must be 12, got 11/);
    const newer = { tensors: state.tensors, metadata: new Map([...state.metadata, ['version', '2']]) };
    expect(() => new Trainer(model, data, options).restore(newer)).toThrow(/version/);
    model.store.dispose();
  });

  test('labels above 2^24 stay apart', () => {
    const labels = Int32Array.of(16777216, 16777216, 16777217, 16777217);
    const people = { labels, read: data.read };
    expect(refused({ people: 2, perPerson: 2, extraNegatives: 0 }, people)).toBeInstanceOf(Trainer);
  });
});

describe('batches to look at', () => {
  const sampler = { sampler: 'people', people: 4, perPerson: 3, extraNegatives: 2 } as const;
  async function take(count: number, over: Partial<BatchOptions> = {}, from = data) {
    const batches: TrainingBatch[] = [];
    for await (const batch of trainingBatches(from, { ...sampler, seed: 11, ...over })) {
      batches.push(batch);
      if (batches.length === count) break;
    }
    return batches;
  }

  test.each(['people', 'shuffled'] as const)('a %s stream from step 5 goes on where one from 0 is', async (kind) => {
    const whole = await take(8, { sampler: kind });
    expect(whole.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await take(3, { sampler: kind, from: 5 })).toEqual(whole.slice(5));
    expect(await take(3, { sampler: kind, from: 5, seed: 12 })).not.toEqual(whole.slice(5));
  });

  test('rows are pictures of the set with their labels', async () => {
    const [{ indices, images, labels }] = (await take(1)) as [TrainingBatch];
    expect(new Set(indices).size).toBe(14);
    expect([...labels]).toEqual(indices.map((index) => data.labels[index]));
    for (const [row, index] of indices.entries()) expect(images[row]).toBe(await data.read(index));
  });

  test('they are what a run reads', async () => {
    const read: number[] = [];
    const watched = {
      labels: data.labels,
      read: (index: number) => {
        read.push(index);
        return data.read(index);
      },
    };
    const model = tinyModel(opened[0] as Backend);
    const trainer = new Trainer(model, watched, { ...options, ...sampler, steps: 3 });
    for await (const _ of trainer.run());
    trainer.dispose();
    model.store.dispose();
    const seed = options.seed ?? 0;
    expect(read).toEqual((await take(3, { seed })).flatMap(({ indices }) => indices));
  });

  test('what cannot be drawn or read is named', async () => {
    await expect(take(1, { people: 1000 })).rejects.toThrow(/1000 x 3 = 3000 images/);
    await expect(take(1, { from: -1 })).rejects.toThrow(/from must be a whole number from 0, got -1/);
    await expect(take(1, { seed: 0.5 })).rejects.toThrow(/seed must be a whole number from 0, got 0.5/);
    const broken = {
      labels: data.labels,
      read: (): never => {
        throw new Error('half a file');
      },
    };
    await expect(take(1, {}, broken)).rejects.toThrow(/every image must be readable, got image \d+: half a file/);
  });
});
