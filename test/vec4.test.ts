// area: operators
// on: lavapipe swiftshader
// Kernels that take four channels at a time give the bits of the plain ones, forward and backward, dense and in channel ranges.
import { afterAll, describe, expect, test } from 'vitest';
import { webgpuFamilies } from '../src/backends/webgpu/families.ts';
import type { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import { add } from '../src/ops/add.ts';
import { batchNormTraining } from '../src/ops/batchNorm.ts';
import { concat } from '../src/ops/concat.ts';
import { depthwiseConv2d } from '../src/ops/depthwiseConv2d.ts';
import { l2Pool } from '../src/ops/l2Pool.ts';
import { lrn } from '../src/ops/lrn.ts';
import { maxPool } from '../src/ops/maxPool.ts';
import { pairwiseDistance } from '../src/ops/pairwiseDistance.ts';
import { relu } from '../src/ops/relu.ts';
import { scaleShift } from '../src/ops/scaleShift.ts';
import { slice } from '../src/ops/slice.ts';
import { tripletLoss } from '../src/ops/tripletLoss.ts';
import { tripletSelection } from '../src/ops/tripletSelection.ts';
import { bindFamilies, type Families } from '../src/plan/lowering.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { webgpuBackend } from './backends.ts';
import { uniform } from './numeric.ts';

const backend = await webgpuBackend();
afterAll(() => backend?.dispose());

/** The same backend with other families. */
function withFamilies(of: Backend, families: Families): Backend {
  return new Proxy(of, {
    get(target, key) {
      if (key === 'families') return families;
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Without families every entry runs its plain kernel; hardware has more lanes to fill than software. */
function variants(of: WebGpuBackend): Record<'own' | 'hardware' | 'plain', Backend> {
  return {
    own: of,
    hardware: withFamilies(of, bindFamilies(webgpuFamilies, { ...of.adapter, software: false })),
    plain: withFamilies(of, bindFamilies({}, undefined)),
  };
}

/** Kernels of a family that are not called forward4 and inputGradient4. */
const kernelsOf: Record<string, { own?: readonly string[]; hardware?: readonly string[] }> = {
  add: { own: ['forward4'], hardware: ['forward4'] },
  maxPool: {
    own: ['forwardLine4', 'findMaximum4', 'inputGradient4'],
    hardware: ['forward4', 'findMaximum4', 'inputGradient4'],
  },
  l2Pool: { own: ['forwardLine4', 'divide4', 'inputGradient4'], hardware: ['forward4', 'divide4', 'inputGradient4'] },
  lrn: { own: ['forwardRow4', 'inputGradientRow4'] },
  batchNorm: {
    own: ['chunkStatistics4', 'normalise4', 'chunkSums4', 'inputGradient4'],
    hardware: ['normalise4', 'inputGradient4'],
  },
};

const operators: Record<string, (x: Value) => Value> = {
  relu: (x) => relu(x),
  add: (x) => add(x, scaleShift(x, { scale: 0.3 })),
  maxPool: (x) => maxPool(x, { size: 3, stride: 2, padding: 1, ceil: true }),
  l2Pool: (x) => l2Pool(x, { size: [3, 2], stride: [2, 1], padding: [1, 0, 0, 1], epsilon: 0.1 }),
  lrn: (x) => lrn(x, { alpha: 0.9, k: 2 }),
  batchNorm(x) {
    const channels = x.shape[3] as number;
    const constant = (seed: number) =>
      x.graph.constant(Float32Array.from({ length: channels }, uniform(seed)), [channels]);
    return batchNormTraining(x, { gamma: constant(5), beta: constant(6) }).y;
  },
  depthwiseConv2d(x) {
    const channels = x.shape[3] as number;
    const weight = x.graph.constant(Float32Array.from({ length: 9 * channels }, uniform(3)), [3, 3, channels]);
    return depthwiseConv2d(x, weight, { stride: 2, padding: 1 });
  },
};

/** x is read as a range of a wider result, y written behind four channels of another; offsets and strides are divisible by four. */
function inRanges(build: (x: Value) => Value) {
  return (x: Value): Value => {
    const channels = x.shape[3] as number;
    const wide = scaleShift(concat([scaleShift(x, { shift: 9 }), scaleShift(x, {}), scaleShift(x, { shift: 7 })]), {});
    const y = build(slice(wide, { start: channels, channels }));
    const neighbour = build(slice(wide, { start: 0, channels: 4 }));
    return concat([neighbour, y]);
  };
}

describe.skipIf(!backend)('kernels of four channels', () => {
  for (const [name, build] of Object.entries(operators)) {
    for (const [where, wrap] of [
      ['dense', (f: (x: Value) => Value) => f],
      ['in channel ranges', inRanges],
    ] as const) {
      for (const channels of [4, 12, 64]) {
        test(`${name} of ${channels} channels, ${where}`, async () => {
          const shape: Shape = [4, 9, 8, channels]; // more than one chunk of batchNorm
          const random = uniform(channels);
          const data = Float32Array.from({ length: size(shape) }, random);
          const bits = [];
          for (const [which, on] of Object.entries(variants(backend as WebGpuBackend))) {
            const graph = new Graph();
            const x = graph.input('x', shape);
            const y = wrap(build)(x);
            const dy = graph.input('dy', y.shape);
            // dy as a result, so that slices of it are read in place.
            const dx = gradients(y, [x], scaleShift(dy, {}), add)[0] as Value;
            const store = new Store(on);
            const plan = await Plan.create(graph, { y, dx }, on, store, { batchSize: 1, fuse: false });
            plan.poison();
            const kernels = plan.steps.filter(({ operator }) => operator === name).map(({ kernel }) => kernel);
            const expected = kernelsOf[name]?.[which as 'own'] ?? ['forward4', 'inputGradient4'];
            expect(new Set(kernels.filter((kernel) => kernel.endsWith('4')))).toEqual(
              new Set(which === 'plain' ? [] : expected),
            );
            expect(
              plan.steps.filter(
                ({ operator, kernel }) => kernel === 'forward' && (operator === 'concat' || operator === 'slice'),
              ),
            ).toEqual([]);
            const result = await plan.run({
              x: data,
              dy: Float32Array.from({ length: size(y.shape) }, uniform(channels + 1)),
            });
            bits.push([result.y, result.dx].map((floats) => new Uint32Array(floats?.buffer as ArrayBuffer)));
            plan.dispose();
            store.dispose();
          }
          expect(bits[0]).toEqual(bits[2]);
          expect(bits[1]).toEqual(bits[2]);
        });
      }
    }
  }

  for (const [name, aRows, bRows] of [
    ['a set with itself', 37, 0],
    ['a set with itself, one tile', 9, 0],
    ['a set with itself, rows of tiles in pairs', 64, 0],
    ['two sets', 21, 50],
  ] as const) {
    test(`pairwiseDistance of ${name}`, async () => {
      const columns = 32;
      const bits = [];
      const { own, plain } = variants(backend as WebGpuBackend);
      for (const on of [own, plain]) {
        const graph = new Graph();
        const sets = [graph.input('a', [aRows, columns]), ...(bRows ? [graph.input('b', [bRows, columns])] : [])];
        const y = pairwiseDistance(sets[0] as Value, sets[1]);
        const dy = graph.input('dy', y.shape);
        const found = gradients(y, sets, dy, add) as Value[];
        const outputs = Object.fromEntries([y, ...found].map((value, index) => [`${index}`, value]));
        const store = new Store(on);
        const plan = await Plan.create(graph, outputs, on, store, { batchSize: 1 });
        plan.poison();
        const kernels = plan.steps.map(({ file, kernel }) => `${file}.${kernel}`);
        expect(kernels.includes('pairwiseDistance.gradient16')).toBe(on === own);
        expect(kernels.includes('pairwiseDistance.forward')).toBe(on === plain);
        const given = Object.fromEntries(
          [...sets, dy].map((value, index) => [
            value.name,
            Float32Array.from({ length: size(value.shape) }, uniform(index)),
          ]),
        );
        const results = await plan.run(given);
        bits.push(Object.values(results).map((floats) => new Uint32Array(floats.buffer)));
        plan.dispose();
        store.dispose();
      }
      expect(bits[0]).toEqual(bits[1]);
    });
  }

  for (const [name, count, labelOf, levels] of [
    ['people in a row', 60, (i: number) => Math.floor(i / 7), 2 ** 20],
    ['people mixed, equal distances', 132, (i: number) => (i * i) % 11, 16],
    ['more positives than one pass takes', 100, (i: number) => (i === 50 || i === 97 ? 1 : 0), 64],
    ['a single person: no negative', 12, () => 3, 64],
    ['people with one picture: no positive', 20, (i: number) => i, 64],
  ] as const) {
    test(`semi-hard triplets, ${name}`, async () => {
      const found = [];
      const { own, plain } = variants(backend as WebGpuBackend);
      const random = uniform(count);
      const half = Array.from({ length: count * count }, () => Math.floor(levels * (random() + 1)) / levels);
      const given = {
        distances: Float32Array.from(half, (_, i) => {
          const [r, c] = [Math.floor(i / count), i % count];
          return r === c ? 0 : (half[r < c ? i : c * count + r] as number);
        }),
        labels: Int32Array.from({ length: count }, (_, i) => labelOf(i)),
      };
      for (const on of [own, plain]) {
        const graph = new Graph();
        const distances = graph.input('distances', [count, count]);
        const labels = graph.input('labels', [count], 'i32');
        const choice = tripletSelection(distances, labels, { rule: 'semi-hard', margin: 0.3 });
        const { loss, summary } = tripletLoss(distances, labels, choice, { softMargin: true });
        const [slopes] = gradients(loss, [distances], graph.constant(Float32Array.of(1), [1]), add) as [Value];
        const store = new Store(on);
        const plan = await Plan.create(graph, { choice, summary, slopes }, on, store, { batchSize: 1 });
        plan.poison();
        expect(plan.steps.some(({ file }) => file === 'tripletSelection.subgroups')).toBe(on === own);
        const result = await plan.run(given);
        found.push(Object.values(result).map((floats) => new Uint32Array(floats.buffer)));
        plan.dispose();
        store.dispose();
      }
      expect(found[0]).toEqual(found[1]);
    });
  }
});
