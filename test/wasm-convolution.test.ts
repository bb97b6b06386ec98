// Kernels of conv2d on wasm, family by family: which one serves a shape, its error against float64, and bits that depend neither on
// threads nor on a picture's place in its batch.
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { gradients } from '../src/graph/gradients.ts';
import { Graph } from '../src/graph/graph.ts';
import { BATCH, size } from '../src/graph/shape.ts';
import { add } from '../src/ops/add.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { bindFamilies } from '../src/plan/lowering.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { wasmBackend } from './backends.ts';
import { uniform, worstError } from './numeric.ts';
import { spec } from './ops/conv2d.ts';

interface Layer {
  readonly why: string;
  readonly map: readonly [height: number, width: number];
  readonly kernel: readonly [height: number, width: number];
  readonly channels: number;
  readonly outChannels: number;
  readonly stride?: number;
  readonly padding?: number;
  readonly residual?: boolean;
  /** Families of the forward pass and of the input gradient. */
  readonly forward: string;
  readonly backward: string;
  /** Family of the weight gradient; default direct. */
  readonly weights?: string;
}

const layers: readonly Layer[] = [
  {
    why: 'first layer: three channels, strided',
    map: [15, 13],
    kernel: [7, 7],
    channels: 3,
    outChannels: 12,
    stride: 2,
    padding: 3,
    forward: 'direct',
    backward: 'direct',
  },
  {
    why: 'read in place, one panel that is not full',
    map: [5, 6],
    kernel: [1, 1],
    channels: 9,
    outChannels: 13,
    residual: true,
    forward: 'direct',
    backward: 'direct',
  },
  {
    why: 'panels of 12 and 8',
    map: [6, 5],
    kernel: [5, 5],
    channels: 6,
    outChannels: 44,
    padding: 2,
    residual: true,
    forward: 'direct',
    backward: 'direct',
  },
  {
    why: 'stride 3 over a kernel of 2: pixels without gradient',
    map: [8, 8],
    kernel: [2, 2],
    channels: 5,
    outChannels: 8,
    stride: 3,
    forward: 'direct',
    backward: 'direct',
  },
  {
    why: 'a map too small for Winograd',
    map: [3, 3],
    kernel: [3, 3],
    channels: 16,
    outChannels: 20,
    padding: 1,
    forward: 'direct',
    backward: 'direct',
  },
  {
    why: 'tiles of two',
    map: [6, 6],
    kernel: [3, 3],
    channels: 18,
    outChannels: 25,
    padding: 1,
    residual: true,
    forward: 'winograd-f2',
    backward: 'winograd-f2',
    weights: 'winograd-f3-4x4',
  },
  {
    why: 'tiles of two over the edge',
    map: [5, 9],
    kernel: [3, 3],
    channels: 17,
    outChannels: 16,
    padding: 1,
    forward: 'winograd-f2',
    backward: 'winograd-f2',
  },
  {
    why: 'tiles of four',
    map: [8, 12],
    kernel: [3, 3],
    channels: 20,
    outChannels: 28,
    padding: 1,
    residual: true,
    forward: 'winograd-f4',
    backward: 'winograd-f4',
    weights: 'winograd-f3-4x4',
  },
  {
    why: 'tiles of four over the edge',
    map: [7, 7],
    kernel: [3, 3],
    channels: 19,
    outChannels: 33,
    padding: 1,
    forward: 'winograd-f4',
    backward: 'winograd-f4',
    weights: 'winograd-f3-4x4',
  },
  {
    why: 'no padding: a larger map backward than forward',
    map: [10, 9],
    kernel: [3, 3],
    channels: 16,
    outChannels: 17,
    forward: 'winograd-f4',
    backward: 'winograd-f2',
    weights: 'winograd-f3-4x4',
  },
  {
    why: '5x5 in tiles of two',
    map: [6, 8],
    kernel: [5, 5],
    channels: 16,
    outChannels: 20,
    padding: 2,
    residual: true,
    forward: 'winograd-f2-5x5',
    backward: 'winograd-f2-5x5',
    weights: 'winograd-f5-2x2',
  },
  {
    why: '5x5 in tiles of two over the edge',
    map: [7, 9],
    kernel: [5, 5],
    channels: 18,
    outChannels: 21,
    padding: 1,
    forward: 'winograd-f2-5x5',
    backward: 'winograd-f2-5x5',
  },
  {
    why: 'weights over more than a block of tiles, the last of a line and of a column over the edge',
    map: [13, 14],
    kernel: [3, 3],
    channels: 27,
    outChannels: 45,
    padding: 1,
    forward: 'winograd-f4',
    backward: 'winograd-f4',
    weights: 'winograd-f3-4x4',
  },
  {
    why: '5x5 weights over more than a block of tiles, the last of a line over the edge',
    map: [7, 9],
    kernel: [5, 5],
    channels: 18,
    outChannels: 26,
    padding: 2,
    forward: 'winograd-f2-5x5',
    backward: 'winograd-f2-5x5',
    weights: 'winograd-f5-2x2',
  },
  {
    why: 'weights without padding',
    map: [8, 9],
    kernel: [3, 3],
    channels: 24,
    outChannels: 16,
    forward: 'winograd-f2',
    backward: 'winograd-f4',
    weights: 'winograd-f3-4x4',
  },
];

/** More pictures than a block of pixels or tiles of the small maps holds in full. */
const batch = 5;
const threadCounts = [1, 2, 3, 8];
const outputNames = ['y', 'dx', 'dweight', 'dbias'];

/** The backend without its tables: every entry runs the plain kernel that has its name. */
function plainKernels(backend: Backend): Backend {
  return {
    name: backend.name,
    description: backend.description,
    families: bindFamilies({}, undefined),
    zeroBlock: backend.zeroBlock,
    threadScratch: backend.threadScratch,
    maxBufferBytes: backend.maxBufferBytes,
    allocate: (bytes, label) => backend.allocate(bytes, label),
    free: (buffer) => backend.free(buffer),
    write: (buffer, byteOffset, data) => backend.write(buffer, byteOffset, data),
    prepare: (steps) => backend.prepare(steps),
    run: (programs, reads) => backend.run(programs, reads),
    profile: (program, steps) => backend.profile(program, steps),
    counters: () => backend.counters(),
    dispose: () => backend.dispose(),
  };
}

async function made(backend: Backend, layer: Layer) {
  const { map, kernel, channels, outChannels, stride = 1, padding = 0, residual } = layer;
  const graph = new Graph();
  const x = graph.input('x', [BATCH, ...map, channels]);
  const weight = graph.input('weight', [...kernel, channels, outChannels]);
  const bias = graph.input('bias', [outChannels]);
  const options = { stride, padding };
  const plain = conv2d(x, weight, { ...options, bias });
  const shape = [batch, ...plain.shape.slice(1)];
  const y = residual ? conv2d(x, weight, { ...options, bias, residual: graph.input('residual', plain.shape) }) : plain;
  const dy = graph.input('dy', y.shape);
  const [dx, dweight, dbias] = gradients(y, [x, weight, bias], dy, add);
  const store = new Store(backend);
  const outputs = { y, dx: dx!, dweight: dweight!, dbias: dbias! };
  const plan = await Plan.create(graph, outputs, backend, store, { batchSize: batch, fuse: false });
  const shapes = {
    x: [batch, ...map, channels],
    weight: [...kernel, channels, outChannels],
    bias: [outChannels],
    ...(residual ? { residual: shape } : {}),
  };
  const inputs = Object.fromEntries(
    Object.entries({ ...shapes, dy: shape }).map(([name, of], index) => {
      const random = uniform(index + 1);
      return [name, Float32Array.from({ length: size(of) }, random)];
    }),
  );
  const kernels = plan.steps.map((step) => step.kernel);
  return { plan, store, inputs, shapes, shape, options, kernels };
}

const sha = (values: Float32Array) =>
  createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex');

/** The kernel that computes an entry in a family. */
const kernelOf: Readonly<Record<string, readonly [forward: string, backward: string]>> = {
  direct: ['direct', 'inputGradientDirect'],
  'winograd-f2': ['winogradF2', 'inputGradientWinogradF2'],
  'winograd-f4': ['winogradF4', 'inputGradientWinogradF4'],
  'winograd-f2-5x5': ['winogradF2K5', 'inputGradientWinogradF2K5'],
};
const weightKernelOf: Readonly<Record<string, string>> = {
  direct: 'weightGradientDirect',
  'winograd-f3-4x4': 'weightGradientWinogradF3',
  'winograd-f5-2x2': 'weightGradientWinogradF5',
};

for (const relaxed of [false, true]) {
  describe(`conv2d on wasm, ${relaxed ? 'relaxed' : 'plain'}`, async () => {
    const opened = await Promise.all(threadCounts.map((threads) => wasmBackend({ relaxed, threads })));
    afterAll(async () => {
      for (const backend of opened) await backend.dispose();
    });

    for (const layer of layers) {
      test(layer.why, async () => {
        const hashes = new Map<string, Set<string>>(outputNames.map((name) => [name, new Set()]));
        const plainHashes = new Map<string, Set<string>>(outputNames.map((name) => [name, new Set()]));
        for (const backend of opened) {
          const { plan, store, inputs, shapes, shape, options, kernels } = await made(backend, layer);
          try {
            expect(kernels).toContain(kernelOf[layer.forward]![0]);
            expect(kernels).toContain(kernelOf[layer.backward]![1]);
            expect(kernels).toContain(weightKernelOf[layer.weights ?? 'direct']);
            plan.poison();
            const actual = await plan.run(inputs);
            for (const name of outputNames) hashes.get(name)!.add(sha(actual[name]!));

            const plain = await made(plainKernels(backend), layer);
            expect(plain.kernels).toEqual(
              expect.arrayContaining(['forward', 'inputGradient', 'weightGradient', 'biasGradient']),
            );
            plain.plan.poison();
            const simple = await plain.plan.run(inputs);
            plain.plan.dispose();
            plain.store.dispose();
            for (const name of outputNames) plainHashes.get(name)!.add(sha(simple[name]!));
            if (layer.forward === 'direct') expect(sha(simple.y!), 'packed and plain kernel').toBe(sha(actual.y!));

            if (backend === opened[0]) {
              const exact = Object.fromEntries(
                Object.entries(inputs).map(([name, values]) => [name, Float64Array.from(values)]),
              );
              const { dy, ...given } = exact;
              const reference = spec.gradient!(given, dy!, shapes, options, shape);
              const expected: Record<string, Float64Array> = {
                y: spec.forward(given, shapes, options, shape),
                dx: reference.x!,
                dweight: reference.weight!,
                dbias: reference.bias!,
              };
              for (const name of outputNames) {
                const magnitude = spec.magnitude!(name, given, dy!, shapes, options);
                const bound = spec.bound(name, shapes, options, shape);
                // Transforms with six points enlarge rounding errors to about four times a plain sum's, which itself stays far below
                // the bound: twice the bound. Gradients of weights are transformed back once,
                // after the sum over tiles: their bound is the plain sum's.
                const families = { y: layer.forward, dx: layer.backward, dweight: layer.weights };
                const family = families[name as keyof typeof families] ?? 'direct';
                const error = worstError(actual[name]!, expected[name]!, magnitude);
                expect(error, `error of ${name}`).toBeLessThanOrEqual(bound * (/f4|5x5/.test(family) ? 2 : 1));
                const simpleError = worstError(simple[name]!, expected[name]!, magnitude);
                expect(simpleError, `error of ${name}, plain kernel`).toBeLessThanOrEqual(bound);
              }
            }

            // Pictures alone have the bits they have in the batch.
            const rows = (name: string) => inputs[name]!.length / batch;
            const perPicture = ['x', 'dy', ...(layer.residual ? ['residual'] : [])];
            const broken = inputs.x!.slice();
            broken[broken.length - rows('x')] = Number.NaN;
            await expect(plan.run({ ...inputs, x: broken })).rejects.toThrow('every value must be finite');

            for (const place of [0, batch - 1]) {
              const alone = { ...inputs };
              for (const name of perPicture)
                alone[name] = inputs[name]!.slice(place * rows(name), (place + 1) * rows(name));
              const result = await plan.run(alone, 1, ['y', 'dx']);
              for (const name of ['y', 'dx']) {
                const length = actual[name]!.length / batch;
                expect(sha(result[name]!), `${name} of picture ${place} alone`).toBe(
                  sha(actual[name]!.slice(place * length, (place + 1) * length)),
                );
              }
            }
          } finally {
            plan.dispose();
            store.dispose();
          }
        }
        for (const [name, set] of [...hashes, ...plainHashes])
          expect(set.size, `${name} on ${threadCounts.join(', ')} threads`).toBe(1);
      });
    }
  });
}
