// on: none swiftshader
// area: training
// The statistics of a batch and the running averages made from them.
import { afterAll, describe, expect, test } from 'vitest';
import { Graph } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { batchNormTraining, runningAverage } from '../src/ops/batchNorm.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

for (const backend of opened) {
  describe(title(backend), () => {
    test('statistics by group, and running averages over steps', async () => {
      const graph = new Graph();
      const x = graph.input('x', [BATCH, 2]);
      const gamma = graph.parameter('gamma', [2]);
      const beta = graph.parameter('beta', [2]);
      const { statistics } = batchNormTraining(x, { gamma, beta, groups: 2 });
      const mean = graph.parameter('mean', [2]);
      const variance = graph.parameter('variance', [2]);
      graph.assign(mean, runningAverage(mean, statistics, { of: 'mean', momentum: 0.25 }));
      graph.assign(variance, runningAverage(variance, statistics, { of: 'variance', momentum: 0.5, factor: 2 }));
      const store = new Store(backend);
      for (const name of ['gamma', 'beta', 'mean']) store.set(name, new Float32Array(2), [2]);
      store.set('variance', Float32Array.of(1, 1), [2]);
      const plan = await Plan.create(graph, { statistics }, backend, store, { batchSize: 4 });
      // Group 1: rows (0, 4), (2, 4); group 2: rows (1, -1), (5, 3). All numbers below are exact.
      const images = Float32Array.of(0, 4, 2, 4, 1, -1, 5, 3);
      const first = await plan.run({ x: images }, 4);
      expect([...first.statistics!]).toEqual([1, 4, 1, 0, 3, 1, 4, 4]);
      await plan.run({ x: images }, 4);
      const stored = await store.read(['mean', 'variance']);
      // Batch means 2 and 2.5; 0.25 m, then 0.25 m + 0.75 of that. Variances 2 x 2.5 and 2 x 2.
      expect([...stored.get('mean')!]).toEqual([2 * 0.4375, 2.5 * 0.4375]);
      expect([...stored.get('variance')!]).toEqual([0.25 + 0.75 * 5, 0.25 + 0.75 * 4]);
      await expect(plan.run({ x: images.subarray(0, 6) }, 3)).rejects.toThrow(/multiple of the 2 groups, got 3/);
      plan.dispose();
      store.dispose();
    });
  });
}
