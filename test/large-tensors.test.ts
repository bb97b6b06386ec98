// Weights larger than one buffer: kept and computed with in parts. Limits are faked small; `whole` is the same network without a limit.
// area: operators
// on: none lavapipe
import { afterAll, describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { adagradUpdate } from '../src/ops/adagradUpdate.ts';
import { add } from '../src/ops/add.ts';
import { linear } from '../src/ops/linear.ts';
import { relu } from '../src/ops/relu.ts';
import { sumOfSquares } from '../src/ops/sumOfSquares.ts';
import { partWidths } from '../src/plan/memory.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import { uniform, worstError } from './numeric.ts';

const FEATURES = 96;
const OUTPUTS = 512;
/** 512 columns of 384 bytes each are 196,608 bytes: eight parts of 64 columns, with room for a kernel's layout of them. */
const LIMIT = 40_000;

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

/** The backend with a smaller largest buffer, which it is held to. */
function small(backend: Backend): Backend {
  return new Proxy(backend, {
    get(target, name) {
      if (name === 'maxBufferBytes') return LIMIT;
      if (name === 'allocate')
        return (bytes: number, label: string) => {
          if (bytes > LIMIT) throw new Error(`${label}: ${bytes} bytes`);
          return target.allocate(bytes, label);
        };
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const random = uniform(1);
const weight = Float32Array.from({ length: FEATURES * OUTPUTS }, random);
const bias = Float32Array.from({ length: OUTPUTS }, random);
const x = Float32Array.from({ length: 3 * FEATURES }, random);
const dy = Float32Array.from({ length: 3 * OUTPUTS }, random);
const settings = Float32Array.of(0.1, 0, 0, 0, 1e-8, 0, 0, 0);

async function step(backend: Backend) {
  const store = new Store(backend);
  store.set('fc/weight', weight, [FEATURES, OUTPUTS]);
  store.set('fc/bias', bias, [OUTPUTS]);
  store.set('slot', new Float32Array(weight.length).fill(0.1), [FEATURES, OUTPUTS]);
  const graph = new Graph();
  const input = graph.input('x', [3, FEATURES]);
  const w = graph.parameter('fc/weight', [FEATURES, OUTPUTS]);
  const y = relu(linear(input, w, { bias: graph.parameter('fc/bias', [OUTPUTS]) }));
  const [dw, dx] = gradients(y, [w, input], graph.input('dy', [3, OUTPUTS]), add) as [Value, Value];
  const norm = sumOfSquares(dw);
  const accumulator = graph.parameter('slot', [FEATURES, OUTPUTS]);
  graph.assign(w, adagradUpdate(w, { gradient: dw, accumulator, settings: graph.input('settings', [8]) }));
  const plan = await Plan.create(graph, { y, dx, norm }, backend, store, { batchSize: 3 });
  try {
    plan.poison();
    const results = await plan.run({ x, dy, settings });
    const values = await store.read(['fc/weight', 'slot']);
    return {
      results,
      weight: values.get('fc/weight') as Float32Array,
      slot: values.get('slot') as Float32Array,
      parts: store.parts('fc/weight').length,
      names: store.names,
    };
  } finally {
    plan.dispose();
    store.dispose();
  }
}

describe.each(opened.map((backend) => [title(backend), backend] as const))('%s', (_, backend) => {
  test('a training step in parts is the step at once: y, dW and the update to the bit, dx and the norm but for the order of sums', async () => {
    const [whole, parted] = [await step(backend), await step(small(backend))];
    expect([whole.parts, parted.parts]).toEqual([1, 8]);
    expect(parted.names).toEqual(['fc/weight', 'fc/bias', 'slot']);
    const { y, dx, norm } = whole.results as Record<string, Float32Array>;
    expect(parted.results.y).toEqual(y);
    expect(parted.weight).toEqual(whole.weight);
    expect(parted.slot).toEqual(whole.slot);
    // 512 products: 4 sqrt(512) roundings of 2^-24.
    const bound = 4 * Math.sqrt(OUTPUTS) * 2 ** -24;
    expect(worstError(parted.results.dx as Float32Array, Float64Array.from(dx as Float32Array))).toBeLessThan(bound);
    expect(worstError(parted.results.norm as Float32Array, Float64Array.from(norm as Float32Array))).toBeLessThan(1e-5);
    // It did something: the weights moved.
    expect(worstError(whole.weight, Float64Array.from(weight))).toBeGreaterThan(1e-3);
  });

  test('inference: the same bits at batch 1 and 3; what is set is read back', async () => {
    const store = new Store(small(backend));
    store.set('fc/weight', weight, [FEATURES, OUTPUTS]);
    expect((await store.read(['fc/weight'])).get('fc/weight')).toEqual(weight);
    const graph = new Graph();
    const y = linear(graph.input('x', [BATCH, FEATURES]), graph.parameter('fc/weight', [FEATURES, OUTPUTS]));
    const plan = await Plan.create(graph, { y }, small(backend), store, { batchSize: 3 });
    const three = (await plan.run({ x })).y as Float32Array;
    const expected = Float64Array.from({ length: 3 * OUTPUTS }, (_, at) => {
      const [n, o] = [Math.floor(at / OUTPUTS), at % OUTPUTS];
      let sum = 0;
      for (let i = 0; i < FEATURES; i++) sum += x[n * FEATURES + i]! * weight[i * OUTPUTS + o]!;
      return sum;
    });
    expect(worstError(three, expected)).toBeLessThan(4 * Math.sqrt(FEATURES) * 2 ** -24);
    expect((await plan.run({ x: x.slice(0, FEATURES) }, 1)).y).toEqual(three.slice(0, OUTPUTS));
    plan.dispose();
    store.dispose();
  });

  test('an operator that needs the tensor whole is refused, naming it', async () => {
    const store = new Store(small(backend));
    store.set('fc/weight', weight, [FEATURES, OUTPUTS]);
    const graph = new Graph();
    const y = relu(graph.parameter('fc/weight', [FEATURES, OUTPUTS]));
    const error = await Plan.create(graph, { y }, small(backend), store, { batchSize: 1 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FaceNetError);
    expect((error as FaceNetError).code).toBe('memory');
    store.dispose();
  });
});

describe('widths of parts', () => {
  test("NN1's fc1 on 128 MiB: four parts of 2,048 columns", () => {
    expect(partWidths([12544, 8192], 2 ** 27)).toEqual([2048, 2048, 2048, 2048]);
    expect(partWidths([12544, 8192], 2 ** 32)).toEqual([8192]);
    // fc2 has exactly 128 MiB, and more in the layout of a kernel.
    expect(partWidths([4096, 8192], 2 ** 27)).toEqual([4096, 4096]);
  });

  test('parts cover all columns and fit', () => {
    for (const [rows, columns, limit] of [
      [96, 200, 20_000],
      [10, 1000, 1000],
      [12544, 8190, 2 ** 27],
      [100, 7, 2000],
    ] as const) {
      const widths = partWidths([rows, columns], limit);
      expect(widths.reduce((a, b) => a + b, 0)).toBe(columns);
      for (const width of widths) expect(rows * width * 4).toBeLessThanOrEqual(limit);
    }
  });
});
