// area: operators
// on: lavapipe
// Convolution beyond the conformance test: published values, and the promise that the choice of a tile changes no bits.
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import {
  bestTile,
  families,
  forwardLowering,
  type How,
  hasSubgroupTiles,
  inputGradientLowering,
  splitLowering,
  type Tile,
  tiles,
} from '../src/backends/webgpu/families/conv2d.ts';
import { families as linearFamilies } from '../src/backends/webgpu/families/linear.ts';
import type { WebGpuAdapter } from '../src/backends/webgpu/webgpu-backend.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import { add } from '../src/ops/add.ts';
import { type Conv2d, type Conv2dOptions, conv2d, conv2dOperator } from '../src/ops/conv2d.ts';
import { bindFamilies, type FamilyTable } from '../src/plan/lowering.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { webgpuBackend } from './backends.ts';
import { caseTitle, conform, planCase } from './conformance.ts';
import { uniform } from './numeric.ts';
import { spec as conv2dSpec, convolution } from './ops/conv2d.ts';
import { spec as linearSpec } from './ops/linear.ts';
import type { Case } from './ops/operator-spec.ts';

interface OperatorCase {
  id: string;
  input: number[][][][];
  weight: number[][][][];
  bias: number[];
  stride: [number, number];
  pads: number[];
  output: number[][][][];
}

describe('published values', () => {
  const { cases } = JSON.parse(readFileSync(new URL('cases/operators.json', import.meta.url), 'utf8')) as {
    cases: { id: string }[];
  };
  const find = (id: string) =>
    cases.find((c) => c.id === id) as unknown as OperatorCase &
      Record<string, { pads: number[]; output: number[][][][] }>;

  /** NCHW nested to NHWC flat; OIHW weights to HWIO with `order` [2, 3, 1, 0]. */
  function flat(
    nested: number[][][][],
    order: readonly [number, number, number, number],
  ): { data: Float64Array; shape: number[] } {
    const sizes = [nested.length, nested[0]!.length, nested[0]![0]!.length, nested[0]![0]![0]!.length];
    const shape = order.map((axis) => sizes[axis]!);
    const data = new Float64Array(size(shape));
    let at = 0;
    const index = [0, 0, 0, 0];
    const walk = (axis: number) => {
      if (axis === 4) {
        data[at++] = nested[index[0]!]![index[1]!]![index[2]!]![index[3]!]!;
        return;
      }
      for (let i = 0; i < shape[axis]!; i++) {
        index[order[axis]!] = i;
        walk(axis + 1);
      }
    };
    walk(0);
    return { data, shape };
  }

  const check = (c: OperatorCase, [top, bottom, left, right]: number[], output: number[][][][]) => {
    const x = flat(c.input, [0, 2, 3, 1]);
    const weight = flat(c.weight, [2, 3, 1, 0]);
    const y = flat(output, [0, 2, 3, 1]);
    const options: Conv2dOptions = { stride: c.stride, padding: [top!, left!, bottom!, right!] };
    const graph = new Graph();
    const shape = conv2d(graph.input('x', x.shape), graph.input('weight', weight.shape), options).shape;
    expect(shape).toEqual(y.shape);
    const actual = convolution(
      { x: x.data, weight: weight.data, bias: Float64Array.from(c.bias) },
      { x: x.shape, weight: weight.shape },
      options,
      shape,
    );
    actual.forEach((value, i) => {
      expect(value).toBeCloseTo(y.data[i]!, 9);
    });
  };

  // The conformance test holds every backend to this oracle.
  test.each(['sameUpper', 'sameLower', 'symmetricPad1'])('OP-01 %s', (kind) => {
    const c = find('OP-01');
    check(c, c[kind]!.pads, c[kind]!.output);
  });
  test('OP-06a stride larger than the kernel', () => {
    const c = find('OP-06a');
    check(c, c.pads, c.output);
  });
});

const backend = await webgpuBackend();
afterAll(() => backend?.dispose());

/** The backend with other tables, for an adapter as it might be. */
function machine(adapter: WebGpuAdapter, tables: Parameters<typeof bindFamilies<WebGpuAdapter>>[0]): Backend {
  return new Proxy(backend as Backend, {
    get(target, key) {
      if (key === 'families') return bindFamilies(tables, adapter);
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe.skipIf(!backend)('kernels for other adapters', () => {
  const { adapter } = (backend ?? {}) as { adapter: WebGpuAdapter };
  const machines: [string, WebGpuAdapter][] = [
    ['a GPU', { ...adapter, software: false }],
    ['no subgroups', { ...adapter, software: true, subgroups: false }],
  ];
  for (const [name, other] of machines) {
    for (const spec of [conv2dSpec, linearSpec]) {
      test.each(spec.cases.map((c) => [caseTitle(c), c] as const))(
        `${spec.operator.name} on ${name}: %s`,
        async (_, c) => {
          for (const { what, error, bound } of await conform(
            machine(other, { conv2d: families, linear: linearFamilies }),
            spec,
            c,
          )) {
            expect(error, `${what}: error ${error}, bound ${bound}`).toBeLessThanOrEqual(bound);
          }
        },
        120_000,
      );
    }
  }
});

describe.skipIf(!backend)('sums that a GPU splits', () => {
  const { adapter } = (backend ?? {}) as { adapter: WebGpuAdapter };
  const gpu: WebGpuAdapter = { ...adapter, software: false };
  const tables = { conv2d: families, linear: linearFamilies };
  const convolutions: Case[] = [
    {
      why: 'two slices of a 3x3 window',
      shapes: { x: [2, 3, 3, 128], weight: [3, 3, 128, 20], bias: [20] },
      options: { padding: 1, activation: 'relu' },
    },
    {
      why: 'slices that end inside a tap, a short last one, residual',
      shapes: { x: [1, 4, 5, 104], weight: [3, 5, 104, 12], residual: [1, 4, 5, 12] },
      options: { padding: [1, 2, 1, 2] },
    },
    {
      why: '1x1 over channels that only steps of eight divide, in a wider tensor',
      shapes: { x: [3, 1, 2, 1048], weight: [1, 1, 1048, 36], bias: [36] },
      slices: ['x', 'y'],
    },
    {
      why: 'stride 2, whose input gradient is not split',
      shapes: { x: [1, 7, 5, 120], weight: [3, 3, 120, 8], bias: [8] },
      options: { stride: 2, padding: 1 },
    },
    {
      why: 'an input gradient in slices',
      shapes: { x: [2, 3, 5, 12], weight: [3, 3, 12, 136] },
      options: { padding: [0, 1, 2, 1] },
    },
  ];
  const layers: Case[] = [
    { why: 'three slices', shapes: { x: [3, 1608], weight: [1608, 12], bias: [12] }, options: { activation: 'relu' } },
  ];
  const all = [
    ...convolutions.map((c) => [conv2dSpec, c] as const),
    ...layers.map((c) => [linearSpec, c] as const),
  ].map(([spec, c]) => [`${spec.operator.name}: ${c.why}`, spec, c] as const);

  test.each(all)(
    '%s',
    async (_, spec, c) => {
      const on = machine(gpu, tables);
      const { plan, store } = await planCase(on, spec, c);
      const slices = plan.steps.filter(({ kernel }) => kernel === 'sumSlices').map(({ params }) => params.chunks);
      plan.dispose();
      store.dispose();
      expect(slices.length).toBeGreaterThanOrEqual(1);
      for (const count of slices) expect(count).toBeGreaterThanOrEqual(2);
      for (const { what, error, bound } of await conform(on, spec, c))
        expect(error, `${what}: error ${error}, bound ${bound}`).toBeLessThanOrEqual(bound);
    },
    120_000,
  );

  test('neither the tile nor the batch changes bits', { timeout: 120_000 }, async () => {
    const [height, width, channels, outChannels] = [3, 5, 72, 68];
    const next = uniform(5);
    const image = () => Float32Array.from({ length: height * width * channels }, next);
    const images = [image(), image(), image()];
    const weight = Float32Array.from({ length: 25 * channels * outChannels }, next);
    /** Bits of y of some images, by the tile of this index. */
    const bits = async (index: number, batch: readonly Float32Array[]) => {
      const table: FamilyTable<WebGpuAdapter> = families.map((family) => ({
        ...family,
        lower(shapes, attributes: Conv2d) {
          expect(family.name).toBe('split');
          const params = conv2dOperator.entries.forward.params(shapes as never, attributes);
          const grid = { gridHeight: params.outHeight, gridWidth: params.outWidth, stepY: 1, stepX: 1 };
          const problem = { ...params, ...grid, startY: 0, startX: 0 } as unknown as Parameters<typeof tiles>[0];
          const tile = tiles(problem, gpu, true)[index] as Tile;
          return splitLowering(forwardLowering(problem, tile, { x: 'x', y: 'y' }), problem, tile, { y: 'y' });
        },
      }));
      const graph = new Graph();
      const x = graph.input('x', [batch.length, height, width, channels]);
      const y = conv2d(x, graph.input('weight', [5, 5, channels, outChannels]), { padding: 2 });
      const on = machine(gpu, { conv2d: table });
      const store = new Store(on);
      const plan = await Plan.create(graph, { y }, on, store, { batchSize: 1 });
      const pixels = Float32Array.from(batch.flatMap((one) => [...one]));
      const found = await plan.run({ x: pixels, weight });
      plan.dispose();
      store.dispose();
      return new Uint32Array((found.y as Float32Array).buffer);
    };
    const together = await bits(0, images);
    const parted = await Promise.all(images.map((one) => bits(0, [one])));
    expect(together).toEqual(Uint32Array.from(parted.flatMap((one) => [...one])));
    for (const index of [1, 2]) expect(await bits(index, images), `tile ${index}`).toEqual(together);
  });
});

describe.skipIf(!backend)('tiles change no bits', () => {
  const problems: { why: string; x: Shape; weight: Shape; options: Conv2dOptions; residual?: boolean }[] = [
    {
      why: '3x3 with a residual',
      x: [3, 7, 5, 12],
      weight: [3, 3, 12, 20],
      options: { padding: 1, activation: 'relu' },
      residual: true,
    },
    { why: 'stride 2', x: [1, 9, 11, 8], weight: [3, 3, 8, 36], options: { stride: 2, padding: [1, 0, 1, 1] } },
    { why: '1x1', x: [2, 9, 9, 80], weight: [1, 1, 80, 40], options: { activation: 'relu' } },
    { why: 'first layer', x: [2, 15, 13, 3], weight: [5, 5, 3, 16], options: { stride: 2, padding: 2 } },
    { why: 'weights in two parts', x: [2, 5, 7, 128], weight: [1, 1, 128, 140], options: {}, residual: true },
    {
      why: 'lines of an image',
      x: [2, 23, 20, 3],
      weight: [3, 3, 3, 16],
      options: { padding: [1, 0, 1, 1], activation: 'relu' },
    },
    { why: 'lines of an image without padding', x: [1, 11, 12, 3], weight: [3, 3, 3, 4], options: {} },
    {
      why: 'every other line',
      x: [2, 18, 28, 3],
      weight: [3, 3, 3, 32],
      options: { stride: 2, padding: [0, 0, 1, 1] },
    },
  ];

  /** y, dx and dweight, as the bits of floats. */
  async function run(
    table: FamilyTable<WebGpuAdapter>,
    adapter: WebGpuAdapter,
    { x, weight, options, residual }: (typeof problems)[number],
  ): Promise<Record<string, Uint32Array>> {
    const graph = new Graph();
    const values: Record<string, Value> = {
      x: graph.input('x', x),
      weight: graph.input('weight', weight),
      bias: graph.input('bias', [weight[3] as number]),
    };
    const plain = conv2d(values.x as Value, values.weight as Value, options);
    if (residual) values.residual = graph.input('residual', plain.shape);
    const y = conv2d(values.x as Value, values.weight as Value, {
      ...options,
      bias: values.bias,
      residual: values.residual,
    });
    values.dy = graph.input('dy', y.shape);
    const [dx, dweight] = gradients(y, [values.x as Value, values.weight as Value], values.dy, add);
    const inputs = Object.fromEntries(
      Object.entries(values).map(([name, value], index) => {
        const next = uniform(index + 1);
        return [name, Float32Array.from({ length: size(value.shape) }, next)];
      }),
    );
    const chosen = machine(adapter, { conv2d: table });
    const store = new Store(chosen);
    const plan = await Plan.create(graph, { y, dx: dx as Value, dweight: dweight as Value }, chosen, store, {
      batchSize: 1,
      fuse: false,
    });
    try {
      const results = await plan.run(inputs);
      return Object.fromEntries(
        Object.entries(results).map(([name, floats]) => [
          name,
          new Uint32Array(floats.buffer, floats.byteOffset, floats.length),
        ]),
      );
    } finally {
      plan.dispose();
      store.dispose();
    }
  }

  /** Kernels that were compared. */
  const taken = new Set<string>();

  /** The family table with the tile of this index wherever there are several. */
  const withTile = (index: number): FamilyTable<WebGpuAdapter> =>
    families.map((family) => ({
      ...family,
      lower(shapes, attributes: Conv2d, adapter, views) {
        const pick = (problem: Parameters<typeof tiles>[0], vec4: boolean, how: How = {}): Tile => {
          const tile = tiles(problem, adapter, vec4, how)[index] ?? bestTile(problem, adapter, vec4, how);
          taken.add(tile.kernel);
          return tile;
        };
        const params = conv2dOperator.entries[family.entry as 'forward'].params(shapes, attributes);
        const problem = {
          ...params,
          gridHeight: params.outHeight,
          gridWidth: params.outWidth,
          stepY: 1,
          stepX: 1,
          startY: 0,
          startX: 0,
        } as unknown as Parameters<typeof tiles>[0];
        if (family.entry === 'forward') {
          const how = { dense: !shapes.residual, parts: true };
          return forwardLowering(problem, pick(problem, problem.channels % 4 === 0, how), {
            x: 'x',
            bias: 'bias',
            residual: shapes.residual && 'residual',
            y: 'y',
          });
        }
        if (family.entry === 'inputGradient')
          return inputGradientLowering(problem, (part) => pick(part, true), { dy: 'dy', dx: 'dx' });
        return family.lower(shapes, attributes, adapter, views);
      },
    }));

  for (const problem of problems) {
    test(`${problem.why} (${problem.x.join('x')}, ${problem.weight.join('x')})`, async () => {
      const { adapter } = backend as { adapter: WebGpuAdapter };
      const expected = await run([], adapter, problem);
      const without: WebGpuAdapter = { ...adapter, software: true, subgroups: false };
      const gpu: WebGpuAdapter = { ...adapter, software: false };
      let compared = 0;
      for (const other of [...(hasSubgroupTiles(adapter) ? [adapter] : []), without, gpu]) {
        for (let index = 0; index < 4; index++) {
          const actual = await run(withTile(index), other, problem);
          const how = other.software ? `subgroups ${other.subgroups}` : 'GPU';
          for (const name of Object.keys(expected))
            expect(actual[name], `${name}, tile ${index}, ${how}`).toEqual(expected[name]);
          compared++;
        }
      }
      expect(compared).toBeGreaterThanOrEqual(8);
    }, 300_000);
  }

  test.skipIf(backend?.adapter.subgroups !== 8)('all kernels of subgroups of eight were among them', () => {
    for (const kernel of ['forwardPixels', 'forwardChannels', 'forwardImage', 'forwardUniform', 'forwardRows'])
      expect([...taken]).toContain(kernel);
  });
});
