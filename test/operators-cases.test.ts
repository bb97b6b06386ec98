// area: operators
// on: none lavapipe swiftshader
// Small inputs that broke other libraries (test/cases/operators.json, values in float64 and NCHW), through plans on every backend.
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import { add } from '../src/ops/add.ts';
import { avgPool } from '../src/ops/avgPool.ts';
import { batchNorm } from '../src/ops/batchNorm.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { l2Pool } from '../src/ops/l2Pool.ts';
import { lrn } from '../src/ops/lrn.ts';
import { maxPool } from '../src/ops/maxPool.ts';
import { relu } from '../src/ops/relu.ts';
import { resize } from '../src/ops/resize.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import { uniform, worstError } from './numeric.ts';

type Nested = readonly (number | Nested)[];
/** A tensor as the kernels see it. */
interface Tensor {
  readonly shape: Shape;
  readonly data: Float32Array<ArrayBuffer>;
}

const file = JSON.parse(readFileSync(new URL('./cases/operators.json', import.meta.url), 'utf8')) as {
  cases: { id: string }[];
};
// biome-ignore lint/suspicious/noExplicitAny: every case has fields of its own
const find = (id: string): any => {
  const found = file.cases.find((entry) => entry.id === id);
  if (!found) throw new Error(`operators.json has no ${id}`);
  return found;
};

function sizes(nested: Nested): number[] {
  const found: number[] = [];
  for (let level: number | Nested = nested; typeof level !== 'number'; level = level[0] as number | Nested)
    found.push(level.length);
  return found;
}

/** Dimensions in another order: transposed(x, [0, 2, 3, 1]) makes NCHW NHWC, and [2, 3, 1, 0] a convolution's OIHW HWIO. */
function transposed(nested: Nested, order: readonly number[]): Tensor {
  const from = sizes(nested);
  const flat: number[] = [];
  const flatten = (list: Nested) =>
    list.forEach((item) => {
      if (typeof item === 'number') flat.push(item);
      else flatten(item);
    });
  flatten(nested);
  const shape = order.map((axis) => from[axis] as number);
  const data = Float32Array.from({ length: flat.length }, (_, i) => {
    const at = new Array<number>(from.length);
    let rest = i;
    for (let k = shape.length - 1; k >= 0; k--) {
      at[order[k] as number] = rest % (shape[k] as number);
      rest = Math.floor(rest / (shape[k] as number));
    }
    return flat[at.reduce((index, value, axis) => index * (from[axis] as number) + value, 0)] as number;
  });
  return { shape, data };
}
const image = (nchw: Nested) => transposed(nchw, [0, 2, 3, 1]);
const map = (hw: Nested) => image([[hw]]);
const fourSides = ([top, bottom, left, right]: readonly number[]) =>
  [top, left, bottom, right] as [number, number, number, number];

/** The difference that a case allows: absolute if it says so, else 1e-5 of the largest expected magnitude. */
function expectNear(
  actual: Float32Array,
  expected: ArrayLike<number>,
  { absTolerance }: { absTolerance?: number } = {},
): void {
  const largest = Math.max(...Array.from(expected, Math.abs)) || 1;
  const error = worstError(actual, expected) * largest;
  expect(error, `[${[...actual].slice(0, 12)}], expected [${Array.from(expected).slice(0, 12)}]`).toBeLessThanOrEqual(
    absTolerance ?? 1e-5 * largest,
  );
}

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

for (const backend of opened) {
  /** Values named by `build`, computed from tensors named by their keys. */
  const run = async (
    inputs: Readonly<Record<string, Tensor>>,
    build: (values: Record<string, Value>, graph: Graph) => Record<string, Value>,
    { fuse = false, times = 1 } = {},
  ) => {
    const graph = new Graph();
    const values = Object.fromEntries(
      Object.entries(inputs).map(([name, { shape }]) => [name, graph.input(name, shape)]),
    );
    const outputs = build(values, graph);
    const store = new Store(backend);
    const plan = await Plan.create(graph, outputs, backend, store, { batchSize: 1, fuse });
    try {
      plan.poison();
      const given = Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, data]));
      const results = [];
      for (let i = 0; i < times; i++) results.push(await plan.run(given));
      return {
        shapes: Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, value.shape])),
        results,
        y: results[0]?.y as Float32Array,
        dx: results[0]?.dx as Float32Array,
      };
    } finally {
      plan.dispose();
      store.dispose();
    }
  };
  const constant = (graph: Graph, ...numbers: number[]) => graph.constant(Float32Array.from(numbers), [numbers.length]);

  describe(`cases of operators.json on ${title(backend)}`, () => {
    for (const rule of ['sameUpper', 'sameLower', 'symmetricPad1'] as const) {
      test(`OP-01 ${rule} with stride 2`, async () => {
        const { input, weight, bias, stride, [rule]: expected } = find('OP-01');
        const { y } = await run(
          { x: image(input), weight: transposed(weight, [2, 3, 1, 0]) },
          ({ x, weight }, graph) => ({
            y: conv2d(x as Value, weight as Value, {
              bias: constant(graph, ...bias),
              stride,
              padding: fourSides(expected.pads),
            }),
          }),
        );
        expectNear(y, image(expected.output).data);
      });
    }

    test('OP-03b max and average pooling, floor and ceil', async () => {
      const { input, cases } = find('OP-03b');
      for (const { kernel, stride, pad, ceil, max, averageCountingPad, averageWithoutPad } of cases) {
        const options = { size: kernel, stride, padding: pad, ceil };
        const {
          results: [result],
        } = await run({ x: image(input) }, ({ x }) => ({
          max: maxPool(x as Value, options),
          without: avgPool(x as Value, options),
          counting: avgPool(x as Value, { ...options, countPadding: true }),
        }));
        expectNear(result?.max as Float32Array, image(max).data);
        expectNear(result?.without as Float32Array, image(averageWithoutPad).data);
        expectNear(result?.counting as Float32Array, image(averageCountingPad).data);
      }
    });

    test('OP-04 negative maxima', async () => {
      const { input, kernel, stride, pad, output } = find('OP-04');
      const { y } = await run({ x: image(input) }, ({ x }) => ({
        y: maxPool(x as Value, { size: kernel, stride, padding: pad }),
      }));
      expectNear(y, image(output).data);
    });

    test('OP-06a a convolution whose stride is larger than its kernel', async () => {
      const { input, weight, bias, stride, pads, output } = find('OP-06a');
      const { y } = await run(
        { x: image(input), weight: transposed(weight, [2, 3, 1, 0]) },
        ({ x, weight }, graph) => ({
          y: conv2d(x as Value, weight as Value, { bias: constant(graph, ...bias), stride, padding: fourSides(pads) }),
        }),
      );
      expectNear(y, image(output).data);
    });

    test('OP-06b pooling that only samples', async () => {
      const {
        inputShape: [n, c, h, w],
        fill,
        kernel,
        stride,
        outputShape,
        outputFill,
      } = find('OP-06b');
      const shape = [n, h, w, c];
      const { y, shapes } = await run({ x: { shape, data: new Float32Array(size(shape)).fill(fill) } }, ({ x }) => ({
        y: maxPool(x as Value, { size: kernel, stride }),
      }));
      expect(shapes.y).toEqual([outputShape[0], outputShape[2], outputShape[3], outputShape[1]]);
      expectNear(y, new Float32Array(size(outputShape)).fill(outputFill));
    });

    test('OP-07 LRN, odd sizes', async () => {
      const { input, alpha, beta, k, ...expected } = find('OP-07');
      for (const [name, windowSize] of [
        ['size1', 1],
        ['size3', 3],
        ['size5', 5],
        ['size11WiderThanChannels', 11],
      ] as const) {
        const { y } = await run({ x: { shape: [1, 1, 1, input.length], data: Float32Array.from(input) } }, ({ x }) => ({
          y: lrn(x as Value, { size: windowSize, alpha, beta, k }),
        }));
        expectNear(y, expected[name]);
      }
    });

    test('OP-08 L2 pooling over zeros and its gradient', async () => {
      const { input, kernel, stride, output, outputGradient, inputGradient, absTolerance } = find('OP-08');
      const { y, dx } = await run({ x: map(input), dy: map(outputGradient) }, ({ x, dy }) => {
        const pooled = l2Pool(x as Value, { size: kernel, stride });
        return { y: pooled, dx: gradients(pooled, [x as Value], dy as Value, add)[0] as Value };
      });
      expectNear(y, map(output).data, { absTolerance });
      expectNear(dx, map(inputGradient).data, { absTolerance });
      for (let i = 0; i < 18; i++) if (i % 6 < 3) expect(dx[i]).toBe(0);
    });

    test('OP-09 bilinear resize takes pixel centres at half pixels', async () => {
      for (const id of ['OP-09a', 'OP-09b']) {
        const { input, halfPixel, absTolerance } = find(id);
        const { y } = await run({ x: map(input) }, ({ x }) => ({
          y: resize(x as Value, { height: halfPixel.length, width: halfPixel[0].length }),
        }));
        expectNear(y, map(halfPixel).data, { absTolerance });
      }
    });

    test('OP-12 odd widths, three runs: equal bits, and right', async () => {
      for (const width of [1, 3, 5, 7, 113]) {
        const random = uniform(width);
        const x = Float32Array.from({ length: 3 * width }, random);
        const weight = Float32Array.from({ length: 9 }, random);
        const { results } = await run(
          { x: { shape: [1, 3, width, 1], data: x }, weight: { shape: [3, 3, 1, 1], data: weight } },
          ({ x, weight }) => ({ y: conv2d(x as Value, weight as Value, { padding: 1 }) }),
          { times: 3 },
        );
        const expected = Array.from({ length: 3 * width }, (_, i) => {
          let sum = 0;
          for (let k = 0; k < 9; k++) {
            const iy = Math.floor(i / width) + Math.floor(k / 3) - 1;
            const ix = (i % width) + (k % 3) - 1;
            if (iy >= 0 && iy < 3 && ix >= 0 && ix < width)
              sum += (weight[k] as number) * (x[iy * width + ix] as number);
          }
          return sum;
        });
        for (const result of results) {
          expectNear(result.y as Float32Array, expected);
          expect(new Uint32Array((result.y as Float32Array).buffer)).toEqual(
            new Uint32Array((results[0] as { y: Float32Array }).y.buffer),
          );
        }
      }
    });

    test('OP-13 what is not finite is reported, by its bits', async () => {
      const { bitsHex, finite } = find('OP-13');
      for (const [index, hex] of (bitsHex as string[]).entries()) {
        const data = new Float32Array(4);
        new Uint32Array(data.buffer)[2] = Number.parseInt(hex, 16);
        const result = run(
          { x: { shape: [1, 2, 2, 1], data }, weight: { shape: [1, 1, 1, 1], data: Float32Array.of(1) } },
          ({ x, weight }) => ({ y: conv2d(x as Value, weight as Value, { activation: 'relu' }) }),
        );
        if (finite[index]) await result;
        else await expect(result, hex).rejects.toThrow(/must be finite, got NaN or infinity after conv2d/);
      }
    });

    for (const fuse of [false, true]) {
      test(`OP-17 the epsilon of batch norm belongs to the weights${fuse ? ', folded' : ''}`, async () => {
        const { inputs: constantChannel, relTolerance, ...a } = find('OP-17a');
        const { inputs: channel, absTolerance, ...b } = find('OP-17b');
        for (const epsilon of ['eps1e-5', 'eps1e-3'] as const) {
          const dead = await run(
            { x: { shape: [1, 1, 3, 1], data: Float32Array.from(constantChannel) } },
            ({ x }, graph) => {
              const convolved = conv2d(x as Value, graph.constant(Float32Array.of(1.5), [1, 1, 1, 1]), {
                bias: constant(graph, 0.25),
              });
              return {
                y: batchNorm(convolved, {
                  mean: constant(graph, 0.5),
                  variance: constant(graph, 0),
                  gamma: constant(graph, 2),
                  beta: constant(graph, 1),
                  epsilon: a[epsilon].eps,
                }),
              };
            },
            { fuse },
          );
          (a[epsilon].output as number[]).forEach((expected, i) => {
            expect(
              Math.abs((dead.y[i] as number) - expected),
              `${epsilon}[${i}]: ${dead.y[i]}, expected ${expected}`,
            ).toBeLessThanOrEqual(relTolerance * Math.abs(expected));
          });
          const { y } = await run(
            { x: { shape: [1, 1, 3, 1], data: Float32Array.from(channel) } },
            ({ x }, graph) => ({
              y: batchNorm(x as Value, {
                mean: constant(graph, 0.3),
                variance: constant(graph, 0.04),
                gamma: constant(graph, 1.5),
                beta: constant(graph, -0.5),
                epsilon: b[epsilon].eps,
              }),
            }),
            { fuse },
          );
          expectNear(y, b[epsilon].output, { absTolerance });
        }
      });
    }

    test('OP-21 overflow inside a layer is reported', async () => {
      const one = (value: number, shape: Shape): Tensor => ({ shape, data: Float32Array.of(value) });
      await expect(
        run({ x: one(1e30, [1, 1, 1, 1]), weight: one(1e30, [1, 1, 1, 1]) }, ({ x, weight }) => ({
          y: conv2d(x as Value, weight as Value),
        })),
      ).rejects.toThrow(/must be finite, got NaN or infinity after conv2d/);
    });

    for (const lanes of [64, 256]) {
      test(`OP-22 one element more than 65,535 workgroups of ${lanes}`, async () => {
        const count = 65535 * lanes + 1;
        const data = new Float32Array(count);
        for (let i = 0; i < count; i++) data[i] = ((i + 3) % 5) - 2;
        const { y } = await run({ x: { shape: [count, 1], data } }, ({ x }) => ({ y: relu(x as Value) }));
        expect(y[count - 1]).toBe(1);
        let wrong = 0;
        for (let i = 0; i < count; i++) if (!(y[i] === Math.max(data[i] as number, 0))) wrong++;
        expect(wrong).toBe(0);
      });
    }
  });
}

describe('cases of operators.json that are decided when the graph is built', () => {
  const x = (shape: Shape) => new Graph().input('x', shape);

  test('OP-03a pooled sizes, floor and ceil', () => {
    for (const { in: pixels, kernel, stride, pad, floor, ceil } of find('OP-03a').sizes) {
      for (const pool of [maxPool, avgPool, l2Pool]) {
        const options = { size: kernel, stride, padding: pad };
        expect(pool(x([1, pixels, pixels, 1]), options).shape).toEqual([1, floor, floor, 1]);
        expect(pool(x([1, pixels, pixels, 1]), { ...options, ceil: true }).shape).toEqual([1, ceil, ceil, 1]);
      }
    }
  });

  test('OP-05 a window of padding alone is an error that names the side', () => {
    const {
      inputShape: [n, c, h, w],
      kernel,
      stride,
      pad,
    } = find('OP-05');
    for (const pool of [maxPool, avgPool, l2Pool]) {
      expect(() => pool(x([n, h, w, c]), { size: kernel, stride, padding: pad })).toThrow(FaceNetError);
    }
    expect(() => maxPool(x([1, 5, 5, 1]), { size: 3, padding: [0, 0, 0, 2] })).toThrow(
      'maxPool: padRight must be at most half the window (3 pixels), since a window of padding alone has no answer, got 2.',
    );
  });

  test('OP-07 an even LRN window is an error', () => {
    expect(() => lrn(x([1, 1, 1, 6]), { size: 4 })).toThrow(
      'lrn: size must be an odd whole number of channels, since an even window has no middle, got 4.',
    );
  });
});
