// Weights kept as float16: the same sums on rounded weights, in less memory.
// area: operators
// on: none lavapipe
import { afterAll, describe, expect, test } from 'vitest';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH, size } from '../src/graph/shape.ts';
import { decodeFloat16, encodeFloat16 } from '../src/io/safetensors.ts';
import { parametersOf } from '../src/networks/initialise.ts';
import { networks } from '../src/networks/networks.ts';
import { FaceNetGPU, memoryDataset } from '../src/node.ts';
import { batchNorm } from '../src/ops/batchNorm.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { linear } from '../src/ops/linear.ts';
import { relu } from '../src/ops/relu.ts';
import { setHalves } from '../src/plan/halves.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { HALF, Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import { uniform, worstError } from './numeric.ts';

const [FEATURES, OUTPUTS, LIMIT] = [96, 512, 40_000];
const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

const random = uniform(2);
const weight = Float32Array.from({ length: FEATURES * OUTPUTS }, random);
const bias = Float32Array.from({ length: OUTPUTS }, random);
const x = Float32Array.from({ length: 3 * FEATURES }, random);
const patterns = encodeFloat16(weight);
const rounded = decodeFloat16(patterns);

/** The backend with a smaller largest buffer. */
const small = (backend: Backend): Backend =>
  new Proxy(backend, {
    get(target, name) {
      if (name === 'maxBufferBytes') return LIMIT;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

async function run(backend: Backend) {
  const store = new Store(backend);
  store.set(`fc/weight${HALF}`, new Float32Array(patterns.buffer), [FEATURES, OUTPUTS / 2]);
  store.set('fc/bias', bias, [OUTPUTS]);
  const graph = new Graph();
  const y = linear(graph.input('x', [BATCH, FEATURES]), graph.parameter('fc/weight', [FEATURES, OUTPUTS]), {
    bias: graph.parameter('fc/bias', [OUTPUTS]),
    activation: 'relu',
  });
  const plan = await Plan.create(graph, { y }, backend, store, { batchSize: 3 });
  try {
    plan.poison();
    const three = (await plan.run({ x })).y as Float32Array;
    const one = (await plan.run({ x: x.slice(FEATURES, 2 * FEATURES) }, 1)).y as Float32Array;
    return {
      three,
      one,
      parts: store.parts(`fc/weight${HALF}`).length,
      steps: plan.steps.map(({ operator }) => operator),
    };
  } finally {
    plan.dispose();
    store.dispose();
  }
}

describe.each(opened.map((backend) => [title(backend), backend] as const))('%s', (_, backend) => {
  test('a layer on halves is float64 on rounded weights; a face has the same bits alone; parts have the bits of the whole', async () => {
    const { three, one, parts, steps } = await run(backend);
    expect(steps).toContain('halfLinear');
    expect(steps).not.toContain('linear');
    expect(parts).toBe(1);
    const expected = Float64Array.from({ length: 3 * OUTPUTS }, (_, at) => {
      const [n, o] = [Math.floor(at / OUTPUTS), at % OUTPUTS];
      let sum = bias[o] as number;
      for (let i = 0; i < FEATURES; i++) sum += (x[n * FEATURES + i] as number) * (rounded[i * OUTPUTS + o] as number);
      return Math.max(0, sum);
    });
    expect(worstError(three, expected)).toBeLessThan(4 * Math.sqrt(FEATURES) * 2 ** -24);
    expect(one).toEqual(three.slice(OUTPUTS, 2 * OUTPUTS));
    const divided = await run(small(backend));
    expect(divided.parts).toBeGreaterThan(1);
    expect(divided.three).toEqual(three);
  });
});

/** Three convolutions with batch norms, on weights as they are or as halves; `fuse` false: batch norms stay. */
async function convolve(backend: Backend, halves: boolean, fuse = true) {
  const shapes = { first: [3, 3, 8, 16], second: [1, 1, 16, 24], third: [3, 3, 24, 8] } as const;
  const store = new Store(backend);
  const graph = new Graph();
  const image = graph.input('image', [BATCH, 9, 11, 8]);
  let y = image;
  for (const [name, shape] of Object.entries(shapes)) {
    const channels = shape[3];
    const numbers = uniform(channels);
    const bits = encodeFloat16(Float32Array.from({ length: size(shape) }, numbers));
    if (halves) setHalves(store, `${name}/weight`, bits, shape);
    else store.set(`${name}/weight`, decodeFloat16(bits), shape);
    y = graph.scope(name, () => {
      const sums = conv2d(y, graph.parameter(`${name}/weight`, shape), { padding: shape[0] >> 1 });
      const [mean, variance] = ['mean', 'variance'].map((leaf) => {
        const values = Float32Array.from({ length: channels }, () => 1 + 0.5 * numbers());
        store.set(`${name}/${leaf}`, values, [channels]);
        return graph.parameter(`${name}/${leaf}`, [channels]);
      });
      return relu(batchNorm(sums, { mean: mean as Value, variance: variance as Value }));
    });
  }
  const plan = await Plan.create(graph, { y }, backend, store, { batchSize: 2, fuse });
  try {
    const uneven = uniform(9);
    const pictures = Float32Array.from({ length: 2 * 9 * 11 * 8 }, uneven);
    plan.poison();
    const first = (await plan.run({ image: pictures })).y as Float32Array;
    // What was folded and packed lay in memory of activations: it is made again when the store changed, and only then.
    store.touch();
    plan.poison();
    const again = (await plan.run({ image: pictures })).y as Float32Array;
    return { first, again, bytes: plan.bytes, operators: plan.steps.map(({ operator }) => operator) };
  } finally {
    plan.dispose();
    store.dispose();
  }
}

describe.each(opened.map((backend) => [title(backend), backend] as const))('convolutions on %s', (_, backend) => {
  test('on halves have the bits of the same weights as floats', async () => {
    const [floats, halves] = [await convolve(backend, false), await convolve(backend, true)];
    const apart = await convolve(backend, false, false);
    expect(floats.first.some((value) => value > 0)).toBe(true);
    // Sums of 216 products at most, three layers; as they were written nothing is folded, and nothing folded can lie where something else does.
    expect(worstError(floats.first, Float64Array.from(apart.first))).toBeLessThan(3 * 4 * Math.sqrt(216) * 2 ** -24);
    expect(apart.operators).toContain('batchNorm');
    expect(halves.first).toEqual(floats.first);
    expect(floats.again).toEqual(floats.first);
    expect(halves.again).toEqual(floats.first);
    // Batch norm is folded into either.
    expect(halves.operators).toEqual(floats.operators);
    expect(halves.operators).not.toContain('batchNorm');
  });
});

// The class chooses its own backend: once is enough.
if (opened.every(({ name }) => name === 'wasm')) {
  describe('precision f16', () => {
    const untrained = { network: 'nns2', seed: 3, size: 64 } as const;
    const face = { data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7) % 251), width: 64, height: 64 };

    test('embeds near float32 in less memory; keeps its weights when stored; is not trained', {
      timeout: 60_000,
    }, async () => {
      const one = { backend: 'wasm', threads: 1, batchSize: 1 } as const;
      const full = await FaceNetGPU.create({ model: untrained, ...one });
      const half = await FaceNetGPU.create({ model: untrained, ...one, precision: 'f16' });
      const [a, b] = [await full.embed(face), await half.embed(face)];
      const away = Math.hypot(...Array.from(a.data, (v, i) => v - (b.data[i] as number)));
      // Every layer's weights rounded by at most 2^-11 of themselves, at random: what each adds to the embedding is less, in all some 2^-11.
      expect(away).toBeLessThan(4 * 2 ** -11);
      expect(away).toBeGreaterThan(0);
      expect(half.fingerprint).not.toBe(full.fingerprint);
      // float32 keeps such a weight twice on wasm (8 bytes), halves once (2 bytes).
      const { width, height } = half.model.input;
      const linear = parametersOf(networks.nns2, {}, { width, height }).filter(({ shape }) => shape.length === 2);
      const count = linear.reduce((sum, { shape: [rows = 0, outputs = 0] }) => sum + rows * outputs, 0);
      expect(full.counters().bytes - half.counters().bytes).toBeGreaterThan(5.5 * count);
      const again = await FaceNetGPU.create({
        model: await half.save({ weights: 'float32' }),
        ...one,
        precision: 'f16',
      });
      expect(again.fingerprint).toBe(half.fingerprint);
      expect((await again.embed(face)).data).toEqual(b.data);
      const data = memoryDataset([{ pixels: face, label: 0 }]);
      await expect(half.train(data, { steps: 1 }).next()).rejects.toMatchObject({
        code: 'input',
        message: expect.stringMatching(/f16/),
      });
      for (const net of [full, half, again]) await net.dispose();
      await expect(FaceNetGPU.create({ model: untrained, ...one, precision: 'f8' as never })).rejects.toMatchObject({
        code: 'input',
      });
    });
  });
}
