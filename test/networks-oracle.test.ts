// area: networks
// on: none lavapipe
// Every network at reduced width, whole: embeddings and gradients of each backend against float64.
import { existsSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { networks } from '../src/networks/networks.ts';
import { add } from '../src/ops/add.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import { BATCH_SIZE, cases, pixels, weights } from './networks-cases.ts';
import { evaluate, pullBack } from './networks-oracle.ts';
import { uniform, worstError } from './numeric.ts';
import { readOpenFaceWeights } from './openface-weights.ts';

const learntOf = (graph: Graph) => graph.parameters.filter(({ name }) => !/(mean|variance|running_var)$/.test(name));

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

describe('embeddings', () => {
  for (const testCase of cases) {
    const { label, name, variant, picture } = testCase;
    const shape = [BATCH, picture.height, picture.width, 3];
    const x = pixels(testCase);
    let expected: Float64Array | undefined;
    const oracle = (values: ReadonlyMap<string, Float32Array>) => {
      const graph = new Graph();
      const y = networks[name].build(graph.input('x', shape), variant);
      return evaluate(graph, [y], { x, ...Object.fromEntries(values) }, BATCH_SIZE).get(y) as Float64Array;
    };
    for (const backend of opened) {
      test(`${label} on ${title(backend)}, batch 3 and 1`, async () => {
        const values = weights(testCase);
        expected ??= oracle(values);
        const graph = new Graph();
        const y = networks[name].build(graph.input('x', shape), variant);
        const store = new Store(backend);
        for (const { name: parameter, shape: sizes } of graph.parameters)
          store.set(parameter, values.get(parameter) as Float32Array, sizes);
        const plan = await Plan.create(graph, { y }, backend, store, { batchSize: BATCH_SIZE });
        try {
          plan.poison();
          const three = (await plan.run({ x })).y as Float32Array;
          const image = x.length / BATCH_SIZE;
          const alone = (await plan.run({ x: x.slice(image, 2 * image) }, 1)).y as Float32Array;
          for (let n = 0; n < BATCH_SIZE; n++) {
            const row = Array.from(three.subarray(n * 24, (n + 1) * 24));
            const away = Math.hypot(...row.map((v, c) => v - (expected as Float64Array)[n * 24 + c]!));
            // The promise of the design: L2 distance to the float64 embedding.
            expect(away, `image ${n}`).toBeLessThanOrEqual(1e-4);
            expect(Math.abs(Math.hypot(...row) - 1)).toBeLessThan(1e-6);
          }
          // Pictures are told apart: an embedding that ignores its input would be near too.
          expect(Math.hypot(...Array.from({ length: 24 }, (_, c) => three[c]! - three[24 + c]!))).toBeGreaterThan(1e-3);
          expect(alone).toEqual(three.slice(24, 48));
        } finally {
          plan.dispose();
          store.dispose();
        }
      });
    }
  }
});

// As published: width 1, own size. Ten forwards in float64 take minutes, so: FACENET_TIER=all, one network by -t.
if (process.env.FACENET_TIER === 'all') {
  describe('whole networks', () => {
    for (const [name, network] of Object.entries(networks)) {
      const { input, dimensions } = network;
      const picture = input.height * input.width * 3;
      let oracle: Float64Array | undefined;
      for (const backend of opened) {
        test(`${name} whole on ${title(backend)}, batch 3 and 1`, { timeout: 900_000 }, async () => {
          const random = uniform(17);
          // Of different brightness and contrast, so that one face's embedding is not another's.
          const x = Float32Array.from(
            { length: BATCH_SIZE * picture },
            (_, i) => [1, -0.5, 1.5][Math.floor(i / picture)]! * random() + [0, 0.4, -0.3][Math.floor(i / picture)]!,
          );
          const parameters = parametersOf(network);
          const values = initialise(parameters, 3);
          const graph = new Graph();
          const y = network.build(graph.input('x', [BATCH, input.height, input.width, 3]));
          oracle ??= evaluate(graph, [y], { x, ...Object.fromEntries(values) }, BATCH_SIZE).get(y) as Float64Array;
          const expected = oracle;
          const store = new Store(backend);
          for (const parameter of parameters)
            store.set(parameter.name, values.get(parameter.name) as Float32Array, parameter.shape);
          const plan = await Plan.create(graph, { y }, backend, store, { batchSize: BATCH_SIZE });
          try {
            plan.poison();
            const three = (await plan.run({ x })).y as Float32Array;
            expect(three.length).toBe(BATCH_SIZE * dimensions);
            const away = Array.from({ length: BATCH_SIZE }, (_, n) =>
              Math.hypot(
                ...Array.from(
                  { length: dimensions },
                  (_, c) => three[n * dimensions + c]! - expected[n * dimensions + c]!,
                ),
              ),
            );
            console.log(`${name} on ${title(backend)}: ${Math.max(...away).toExponential(1)} from float64`);
            for (const distance of away) expect(distance).toBeLessThanOrEqual(1e-4);
            const alone = (await plan.run({ x: x.slice(picture, 2 * picture) }, 1)).y as Float32Array;
            expect(alone).toEqual(three.slice(dimensions, 2 * dimensions));
          } finally {
            plan.dispose();
            store.dispose();
          }
        });
      }
    }
  });
}

describe('gradients of a training graph', () => {
  for (const testCase of cases) {
    const { label, name, variant, picture } = testCase;
    const shape = [BATCH, picture.height, picture.width, 3];
    const x = pixels(testCase);
    const random = uniform(77);
    const dy = Float32Array.from({ length: BATCH_SIZE * 24 }, random);
    for (const backend of opened) {
      test(`${label} on ${title(backend)}`, async () => {
        const values = weights(testCase);
        const graph = new Graph();
        const y = networks[name].build(graph.input('x', shape), { ...variant, mode: 'training' });
        const learnt = learntOf(graph);
        const batchNorm = graph.values.some(
          (value) => value.operator?.name === 'batchNorm' && value.entry === 'normalise',
        );
        const results = evaluate(graph, [y], { x, ...Object.fromEntries(values) }, BATCH_SIZE);
        const expected = pullBack(graph, y, Float64Array.from(dy), results, BATCH_SIZE);
        const outputs: Record<string, Value> = { y };
        gradients(y, learnt, graph.input('dy', y.shape), add).forEach((gradient, index) => {
          outputs[(learnt[index] as Value).name] = gradient as Value;
        });
        const store = new Store(backend);
        for (const { name: parameter, shape: sizes } of graph.parameters)
          store.set(parameter, values.get(parameter) as Float32Array, sizes);
        const plan = await Plan.create(graph, outputs, backend, store, { batchSize: BATCH_SIZE });
        try {
          plan.poison();
          const actual = await plan.run({ x, dy });
          const largest = (value: Value) =>
            (expected.get(value) as Float64Array).reduce((a, v) => Math.max(a, Math.abs(v)), 0);
          let layer = 0;
          const errors = learnt.map((value) => {
            // A bias before batch norm has gradient 0, a sum that cancels: it is measured by the gradient of its layer's weight.
            if (/(weight|filters|fc)$/.test(value.name) && value.shape.length > 1) layer = largest(value);
            return [
              value.name,
              worstError(
                actual[value.name] as Float32Array,
                expected.get(value) as Float64Array,
                /bias$/.test(value.name) ? layer : 0,
              ),
            ] as const;
          });
          // About a hundred layers, each adding some 2^-24 of its largest value; batch norm over as few as twelve numbers divides
          // by deviations down to a hundredth of them. Measured: 7e-6 and 6e-5.
          const bound = batchNorm ? 3e-4 : 3e-5;
          for (const [parameter, error] of errors) expect(error, parameter).toBeLessThanOrEqual(bound);
          expect(worstError(actual.y as Float32Array, results.get(y) as Float64Array)).toBeLessThanOrEqual(bound);
        } finally {
          plan.dispose();
          store.dispose();
        }
      });
    }
  }
});

// The float64 gradients themselves, against differences of float64 forward passes: three seeded directions over all tensors at once, and with
// FACENET_TIER=all (minutes a network) for every network, and three for each tensor. Without a device: once is enough.
if (opened.every(({ name }) => name === 'wasm')) {
  describe('directional derivatives', () => {
    for (const testCase of cases) {
      const { label, name, variant, picture } = testCase;
      const prepare = () => {
        const graph = new Graph();
        const x = pixels(testCase);
        const shape = [BATCH, picture.height, picture.width, 3];
        const y = networks[name].build(graph.input('x', shape), { ...variant, mode: 'training' });
        const values = weights(testCase);
        const random = uniform(31);
        const dy = Float64Array.from({ length: BATCH_SIZE * 24 }, random);
        const forward = (given: ReadonlyMap<string, ArrayLike<number>>) =>
          evaluate(graph, [y], { x, ...Object.fromEntries(given) }, BATCH_SIZE);
        const gradient = pullBack(graph, y, dy, forward(values), BATCH_SIZE);
        /** How far <y, dy> grows along random steps in some tensors, by differences and by the gradient; and how large a term of it is. */
        const along = (tensors: readonly Value[], seed: number) => {
          const draw = uniform(seed);
          const directions = tensors.map((tensor) => {
            const data = values.get(tensor.name) as Float32Array;
            const scale = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length) || 1;
            return Float64Array.from(data, () => scale * draw());
          });
          const at = (step: number) => {
            const moved = new Map<string, ArrayLike<number>>(values);
            tensors.forEach((tensor, index) => {
              const data = values.get(tensor.name) as Float32Array;
              moved.set(
                tensor.name,
                Float64Array.from(data, (v, i) => v + step * directions[index]![i]!),
              );
            });
            return (forward(moved).get(y) as Float64Array).reduce((sum, v, i) => sum + v * dy[i]!, 0);
          };
          let expected = 0;
          let squares = 0;
          tensors.forEach((tensor, index) => {
            (gradient.get(tensor) as Float64Array).forEach((g, i) => {
              expected += g * directions[index]![i]!;
              squares += (g * directions[index]![i]!) ** 2;
            });
          });
          return { difference: (at(STEP) - at(-STEP)) / (2 * STEP), expected, scale: Math.sqrt(squares) };
        };
        return { along, learnt: learntOf(graph) };
      };
      // A step of 1e-7: rounding leaves 1e-9, curvature 1e-14. At 1e-6 some of the hundred thousand ReLUs and maxima of a picture of 96 pixels switch
      // on the way, which turned a direction by a hundredth of its slope; at 1e-7 none that matters does.
      const STEP = 1e-7;
      // Two networks always, the others in the slow tier.
      const always = label === 'nns2' || label === 'nn4.small2';
      if (always || process.env.FACENET_TIER === 'all')
        test(`${label}: all tensors`, { timeout: 600_000 }, () => {
          const { along, learnt } = prepare();
          for (const seed of [1, 2, 3]) {
            const { difference, expected, scale } = along(learnt, seed);
            expect(scale).toBeGreaterThan(0);
            expect(Math.abs(difference - expected), `direction ${seed}`).toBeLessThan(1e-3 * scale);
          }
        });
      if (process.env.FACENET_TIER === 'all') {
        test(`${label}: each tensor`, { timeout: 3_600_000 }, () => {
          const { along, learnt } = prepare();
          const whole = along(learnt, 1).scale;
          for (const [index, tensor] of learnt.entries()) {
            for (const seed of [1, 2, 3]) {
              const { difference, expected, scale } = along([tensor], 3 * index + seed);
              // Of a bias before batch norm the gradient is 0.
              expect(Math.abs(difference - expected), tensor.name).toBeLessThan(1e-3 * scale + 1e-7 * whole);
            }
          }
        });
      }
    }
  });
}

const partial = `${process.env.FACENET_SHARED ?? '../shared'}/data/weights/openface-nn4.small2.v1-partial.safetensors`;
describe.skipIf(!existsSync(partial))(`OpenFace's weights (skipped loudly without ${partial})`, () => {
  for (const backend of opened) {
    test(`activations of nn4.small2.v1 through inception 3b on ${title(backend)}`, async () => {
      const { values } = readOpenFaceWeights(partial);
      const graph = new Graph();
      networks['nn4.small2'].build(graph.input('x', [BATCH, 96, 96, 3]), { pools: 'released' });
      const names = ['pool1/maxPool', 'norm2/lrn', 'inception3a/concat/concat', 'inception3b/concat/concat'];
      const wanted = names.map((name) => graph.values.find((value) => value.name === name) as Value);
      const random = uniform(3);
      const x = Float32Array.from({ length: 96 * 96 * 3 }, (_, i) =>
        Math.fround(0.5 + 0.3 * Math.sin(i / 700) + 0.2 * random()),
      );
      const results = evaluate(graph, wanted, { x, ...Object.fromEntries(values) }, 1);
      const store = new Store(backend);
      for (const { name, shape } of graph.parameters) {
        const data = values.get(name);
        if (data) store.set(name, data, shape);
      }
      const outputs = Object.fromEntries(wanted.map((value, index) => [names[index] as string, value]));
      const plan = await Plan.create(graph, outputs, backend, store, { batchSize: 1 });
      try {
        plan.poison();
        const actual = await plan.run({ x });
        for (const [index, value] of wanted.entries()) {
          const expected = results.get(value) as Float64Array;
          // Trained features: some are active, none is everywhere.
          const active = expected.filter((v) => v > 0).length / expected.length;
          expect(active).toBeGreaterThan(0.05);
          expect(active).toBeLessThan(index === 0 ? 1.01 : 0.95);
          // Seven convolutions deep, sums of up to 1,728 products: 4 sqrt(1728) 2^-24 each, as conv2d's own bound.
          expect(worstError(actual[names[index] as string] as Float32Array, expected), names[index]).toBeLessThan(
            7 * 4 * Math.sqrt(1728) * 2 ** -24,
          );
        }
      } finally {
        plan.dispose();
        store.dispose();
      }
    });
  }
});
