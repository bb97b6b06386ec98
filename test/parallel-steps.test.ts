// Steps that threads pass without waiting for one another: which ones they are, and that no result depends on how far apart the threads get.
// area: operators
import { describe, expect, test } from 'vitest';
import { unordered } from '../src/backends/wasm/kernels.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { Philox } from '../src/graph/philox.ts';
import { BATCH } from '../src/graph/shape.ts';
import { concat } from '../src/ops/concat.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { relu } from '../src/ops/relu.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { wasmBackend } from './backends.ts';

const [side, channels] = [13, 24];
const noise = (seed: number, count: number) => {
  const random = new Philox(seed, 0);
  return Float32Array.from({ length: count }, () => random.uniform() - 0.5);
};

/** Two inception blocks: reductions, branches into their slices of one tensor, and so on from that. */
async function blocks(backend: Backend): Promise<Plan> {
  const graph = new Graph();
  const store = new Store(backend);
  const layer = (name: string, x: Value, size: number, out: number) => {
    const shape = [size, size, x.shape[3] as number, out];
    const count = size * size * (x.shape[3] as number) * out;
    store.set(name, noise(store.names.length, count), shape);
    return graph.scope(name, () => conv2d(x, graph.parameter(name, shape), { padding: (size - 1) / 2 }));
  };
  const block = (name: string, x: Value) => {
    const [a, b] = [layer(`${name}/reduce3`, x, 1, 20), layer(`${name}/reduce5`, x, 1, 16)];
    return concat([layer(`${name}/3x3`, a, 3, 28), layer(`${name}/5x5`, b, 5, 20), layer(`${name}/1x1`, x, 1, 32)]);
  };
  const y = block('two', block('one', graph.input('x', [BATCH, side, side, channels])));
  return Plan.create(graph, { y }, backend, store, { batchSize: 2 });
}

describe('steps without a barrier between them', () => {
  test('are those of an inception block that read the same tensor, and those that write its slices', async () => {
    const backend = await wasmBackend();
    try {
      const { steps } = await blocks(backend);
      const waits = steps.map(({ label }) => label.replace('/conv2d', ''));
      for (const index of unordered(steps)) waits[index] += ' goes on';
      expect(waits).toEqual(
        ['one', 'two'].flatMap((name) => [
          `${name}/reduce3 goes on`,
          `${name}/reduce5`,
          `${name}/3x3 goes on`,
          `${name}/5x5 goes on`,
          `${name}/1x1`,
        ]),
      );
    } finally {
      await backend.dispose();
    }
  });

  test('are none in a chain, nor where memory is used again', async () => {
    const backend = await wasmBackend();
    try {
      const graph = new Graph();
      let value = graph.input('x', [BATCH, side, side, channels]);
      const first = relu(value);
      for (let i = 0; i < 5; i++) value = relu(value);
      const plan = await Plan.create(graph, { first, value }, backend, new Store(backend), {
        batchSize: 1,
        fuse: false,
      });
      // The first two read the input alone; each of the others reads what the one before it wrote.
      expect(unordered(plan.steps)).toEqual([0]);
    } finally {
      await backend.dispose();
    }
  });

  test('give the bits of one thread, with any number of threads', { timeout: 120_000 }, async () => {
    const x = noise(99, 2 * side * side * channels);
    let expected: Float32Array | undefined;
    for (const threads of [1, 2, 3, 8]) {
      const backend = await wasmBackend({ threads, spin: 200 });
      try {
        const plan = await blocks(backend);
        for (let run = 0; run < (threads === 1 ? 1 : 40); run++) {
          plan.poison();
          const { y } = await plan.run({ x: x.slice() });
          expected ??= y as Float32Array;
          expect(Buffer.compare(Buffer.from((y as Float32Array).buffer), Buffer.from(expected.buffer))).toBe(0);
        }
      } finally {
        await backend.dispose();
      }
    }
  });
});
