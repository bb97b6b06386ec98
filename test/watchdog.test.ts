// A run that has gone wrong is named within 20 steps, with advice, and ends where going on is useless (design R19).
// area: training
// on: none
import { afterAll, describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { writeCheckpoint } from '../src/io/checkpoint.ts';
import { defineNetwork, type Network } from '../src/networks/network.ts';
import { add } from '../src/ops/add.ts';
import { globalAveragePool } from '../src/ops/globalAveragePool.ts';
import { linear } from '../src/ops/linear.ts';
import { relu } from '../src/ops/relu.ts';
import { Store } from '../src/plan/store.ts';
import { Trainer, type TrainingModel, type TrainOptions, type TrainStep } from '../src/train/trainer.ts';
import { COLLAPSED_DISTANCE, Watchdog } from '../src/train/watchdog.ts';
import { wasmBackend } from './backends.ts';
import { healthyStep, tinyModel, tinyNet, tinyPeople, tinyPreprocessing } from './training-net.ts';

const backend = await wasmBackend();
afterAll(() => backend.dispose());
const people = tinyPeople(8, 4);
const options: TrainOptions = { steps: 40, people: 5, perPerson: 3, learningRate: 0.01, seed: 3, augment: false };

async function watched(
  over: Partial<TrainOptions>,
  { model = tinyModel(backend), data = people, prepare = (_: TrainingModel) => {} } = {},
) {
  prepare(model);
  const trainer = new Trainer(model, data, { ...options, ...over });
  const steps: TrainStep[] = [];
  const run = trainer.run();
  try {
    for (let next = await run.next(); ; next = await run.next()) {
      if (next.done) {
        const first = steps.find(({ warning }) => warning !== undefined);
        return { steps, stopped: next.value.stopped, first, state: await trainer.state() };
      }
      steps.push(next.value);
    }
  } finally {
    trainer.dispose();
    model.store.dispose();
  }
}

/** Every picture to nearly one point: tiny weights, a large bias. */
function constant({ store }: TrainingModel): void {
  store.set(
    'embedding/weight',
    Float32Array.from({ length: 24 * 16 }, (_, i) => 1e-3 * ((i % 7) - 3)),
  );
  store.set('embedding/bias', new Float32Array(16).fill(1));
}

/** Points differ from picture to picture, but the only parameter sits behind a relu that is never above 0. */
const deadNet: Network = defineNetwork({
  ...tinyNet,
  features(x) {
    const pooled = globalAveragePool(x);
    const random = new Philox(1, 2);
    const mixing = x.graph.constant(
      Float32Array.from({ length: 48 }, () => random.uniform() - 0.5),
      [3, 16],
    );
    const bias = x.graph.constant(new Float32Array(16).fill(-1e4), [16]);
    return add(linear(pooled, mixing), relu(linear(pooled, x.graph.parameter('dead/weight', [3, 16]), { bias })));
  },
});

describe('a run is named', () => {
  test('collapsed, when it starts where all embeddings are one', async () => {
    const { first, stopped, steps } = await watched({ learningRate: 1e-6 }, { prepare: constant });
    expect(first?.step).toBe(10);
    expect(first?.warning).toMatch(/collapsed.*strangers.*'semi-hard'/);
    expect(stopped).toBe('collapsed');
    expect(steps).toHaveLength(10);
    // From the first such step on nothing is to replace a good checkpoint.
    expect(steps.every(({ suspect }) => suspect === true)).toBe(true);
    expect(Math.max(...steps.map(({ meanNegative }) => meanNegative))).toBeLessThan(COLLAPSED_DISTANCE);
  });

  test('collapsed but told to go on: a warning, once', async () => {
    const { steps, stopped } = await watched(
      { steps: 25, learningRate: 1e-6, onCollapse: 'warn' },
      { prepare: constant },
    );
    expect(stopped).toBe('done');
    expect(steps.filter(({ warning }) => warning?.includes('collapsed'))).toHaveLength(1);
  });

  test('nothing, when it is healthy', async () => {
    const { steps, stopped } = await watched({});
    expect(stopped).toBe('done');
    expect(steps.filter(({ warning, suspect }) => warning ?? suspect)).toEqual([]);
  });

  test('without a positive pair', async () => {
    const labels = Int32Array.from(people.labels, (_, i) => Math.max(0, i - 1));
    const { first, stopped } = await watched(
      { sampler: 'shuffled', people: 4, perPerson: 1 },
      { data: { ...people, labels } },
    );
    expect(first?.step).toBeLessThanOrEqual(20);
    expect(first).toMatchObject({ pairs: 0, triplets: 0, loss: 0, gradientNorm: 0 });
    expect(first?.warning).toContain('no positive pair');
    expect(stopped).toBe('done');
  });

  test('without a negative', async () => {
    const { first } = await watched({ margin: 1e-7, steps: 12 });
    expect(first).toMatchObject({ step: 10, triplets: 0 });
    expect(first?.warning).toContain('no pair finds a negative');
  });

  test('with a dead gradient', async () => {
    const store = new Store(backend);
    store.set('dead/weight', new Float32Array(48).fill(0.1), [3, 16]);
    const model: TrainingModel = {
      network: deadNet,
      variant: {},
      preprocessing: { ...tinyPreprocessing, scale: [0.05, 0.05, 0.05], shift: [-6, -6, -6] },
      backend,
      store,
    };
    const { first, stopped, steps } = await watched({ miner: 'batch-hard', margin: 1 }, { model });
    expect(steps[0]).toMatchObject({ gradientNorm: 0 });
    expect(steps[0]?.loss).toBeGreaterThan(0);
    expect(first?.step).toBe(10);
    expect(first?.warning).toContain('every gradient is 0');
    expect(stopped).toBe('collapsed');
  });

  test('when loss or weights are not finite, at the next step', async () => {
    const broken = await watched({ schedule: (step) => (step === 4 ? 1e38 : 0.01) }).then(
      ({ first, stopped }) => ({ step: first?.step, text: first?.warning, stopped }),
      (error: Error) => ({ step: 6, text: error.message, stopped: 'threw' }),
    );
    expect(broken.text).toMatch(/not finite|NaN|infinite/);
    expect(broken.step).toBe(6);
    expect(broken.stopped).not.toBe('done');
  });
});

test('a state with a number that is not finite is no checkpoint', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const tensors = new Map([['conv1/weight', { shape: [3], data: Float32Array.of(1, value, 2) }]]);
    expect(() => writeCheckpoint({ tensors, metadata: new Map() })).toThrow(
      /finite, got (NaN|Infinity) in conv1\/weight/,
    );
  }
});

test('the state of before a collapse goes on as if nothing had happened', async () => {
  const good = await watched({ steps: 5 });
  const whole = await watched({ steps: 8 });
  const model = tinyModel(backend);
  constant(model);
  const trainer = new Trainer(model, people, { ...options, steps: 8 });
  const state = {
    ...good.state,
    metadata: new Map(good.state.metadata).set('phases', whole.state.metadata.get('phases') as string),
  };
  trainer.restore(state);
  const losses: number[] = [];
  for await (const step of trainer.run()) losses.push(step.loss);
  expect(losses).toEqual(whole.steps.slice(5).map(({ loss }) => loss));
  trainer.dispose();
  model.store.dispose();
});

describe('a sign is believed', () => {
  test('only after ten steps in a row', () => {
    const watchdog = new Watchdog();
    const near = { ...healthyStep, meanNegative: 0.01 };
    for (let i = 0; i < 9; i++) expect(watchdog.check(near, true)).toBeUndefined();
    expect(watchdog.suspects).toBe(true);
    expect(watchdog.check(healthyStep, true)).toBeUndefined();
    expect(watchdog.suspects).toBe(false);
    for (let i = 0; i < 9; i++) expect(watchdog.check(near, true)).toBeUndefined();
    expect(watchdog.check(near, true)?.kind).toBe('collapse');
  });

  test('not for a loss at the margin and every triplet active', () => {
    const watchdog = new Watchdog();
    for (let i = 0; i < 30; i++)
      expect(watchdog.check({ ...healthyStep, loss: 0.2001, activeFraction: 1 }, true)).toBeUndefined();
  });

  test('of a dead gradient in phases without triplets as well', () => {
    const watchdog = new Watchdog();
    const dead = {
      ...healthyStep,
      triplets: 0,
      activeTriplets: 0,
      pairs: 0,
      strangers: 0,
      meanNegative: 0,
      gradientNorm: 0,
    };
    for (let i = 0; i < 9; i++) watchdog.check(dead, false);
    expect(watchdog.check(dead, false)?.kind).toBe('dead-gradient');
  });
});
