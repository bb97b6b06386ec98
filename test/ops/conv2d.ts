import type { Shape } from '../../src/graph/shape.ts';
import { type Conv2dOptions, conv2d, conv2dOperator } from '../../src/ops/conv2d.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;
type Shapes = Readonly<Record<string, Shape>>;
type Sizes = [number, number, number, number];

function geometry(shapes: Shapes, { stride = 1, padding = 0, activation = 'none' }: Conv2dOptions) {
  const [strideY, strideX] = typeof stride === 'number' ? [stride, stride] : stride;
  const [top, left] = typeof padding === 'number' ? [padding, padding] : padding;
  return {
    x: shapes.x as Sizes,
    weight: shapes.weight as Sizes,
    strideY,
    strideX,
    top,
    left,
    relu: activation === 'relu',
  };
}

/** Calls `visit` with the flat indices of every product of the convolution: y[y] += x[x] * weight[w]. */
function eachProduct(
  shapes: Shapes,
  options: Conv2dOptions,
  y: Sizes,
  visit: (y: number, x: number, w: number) => void,
): void {
  const {
    x: [, height, width, channels],
    weight: [kernelHeight, kernelWidth],
    strideY,
    strideX,
    top,
    left,
  } = geometry(shapes, options);
  const [batch, outHeight, outWidth, outChannels] = y;
  for (let n = 0; n < batch; n++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++) {
        for (let ky = 0; ky < kernelHeight; ky++)
          for (let kx = 0; kx < kernelWidth; kx++) {
            const iy = oy * strideY + ky - top;
            const ix = ox * strideX + kx - left;
            if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
            for (let ci = 0; ci < channels; ci++)
              for (let co = 0; co < outChannels; co++) {
                visit(
                  ((n * outHeight + oy) * outWidth + ox) * outChannels + co,
                  ((n * height + iy) * width + ix) * channels + ci,
                  ((ky * kernelWidth + kx) * channels + ci) * outChannels + co,
                );
              }
          }
      }
}

/** bias + convolution + residual, before the activation. */
export function convolution(
  { x, weight, bias, residual }: Tensors,
  shapes: Shapes,
  options: Conv2dOptions,
  y: Shape,
): Float64Array {
  const outChannels = y[3] as number;
  const out = new Float64Array(y.reduce((a, b) => a * b));
  eachProduct(shapes, options, y as Sizes, (to, from, w) => {
    out[to]! += x![from]! * weight![w]!;
  });
  return out.map((value, i) => value + (bias ? bias[i % outChannels]! : 0) + (residual ? residual[i]! : 0));
}

const relu = (options: Readonly<Record<string, unknown>>) => options.activation === 'relu';

/** Number of terms of the sums behind a result. */
function terms(what: string, shapes: Shapes, rows: number): number {
  const [kernelHeight, kernelWidth, channels, outChannels] = shapes.weight as Sizes;
  const taps = kernelHeight * kernelWidth;
  return { y: taps * channels + 2, dx: taps * outChannels, dweight: rows, dbias: rows, dresidual: 1 }[what] as number;
}

export const spec: OperatorSpec = {
  operator: conv2dOperator,
  inputs: ['x', 'weight', 'bias', 'residual'],
  build: ({ x, weight, bias, residual }, options) => conv2d(x!, weight!, { ...options, bias, residual }),
  forward: (inputs, shapes, options, y) =>
    convolution(inputs, shapes, options, y).map((v) => (relu(options) ? Math.max(v, 0) : v)),
  gradient(inputs, dy, shapes, options, y) {
    const { x, weight } = inputs as { x: Float64Array; weight: Float64Array };
    const before = convolution(inputs, shapes, options, y);
    const g = dy.map((v, i) => (relu(options) && before[i]! <= 0 ? 0 : v));
    const dx = new Float64Array(x.length);
    const dweight = new Float64Array(weight.length);
    eachProduct(shapes, options, y as Sizes, (to, from, w) => {
      dx[from]! += g[to]! * weight[w]!;
      dweight[w]! += g[to]! * x[from]!;
    });
    const outChannels = y[3] as number;
    const dbias = new Float64Array(outChannels);
    g.forEach((v, i) => {
      dbias[i % outChannels]! += v;
    });
    return { x: dx, weight: dweight, bias: dbias, residual: g };
  },
  // A sum of K terms rounds K times, each time by at most 2^-24 of the partial sum; the signs are random, so the errors add as a
  // random walk: sqrt(K) times, and 4 standard deviations of it. Two more for products and epilogue. Partial sums are as large as
  // the largest result or as the standard deviation of a sum of K products of uniform values, sqrt(K) / 3, if that is larger.
  bound: (what, shapes, _, y) => (4 * Math.sqrt(terms(what, shapes, y[0]! * y[1]! * y[2]!)) + 4) * UNIT,
  magnitude: (what, _, dy, shapes) => Math.sqrt(terms(what, shapes, dy.length / (shapes.weight as Sizes)[3])) / 3,
  cases: [
    { why: 'one product', shapes: { x: [1, 1, 1, 1], weight: [1, 1, 1, 1] } },
    {
      why: 'first layer: stride, uneven image, bias, relu',
      shapes: { x: [2, 13, 11, 3], weight: [7, 7, 3, 8], bias: [8] },
      options: { stride: 2, padding: 3, activation: 'relu' },
    },
    {
      why: 'same padding',
      shapes: { x: [2, 5, 7, 8], weight: [3, 3, 8, 12], bias: [12] },
      options: { padding: 1, activation: 'relu' },
    },
    {
      why: '1x1 with residual',
      shapes: { x: [3, 3, 3, 16], weight: [1, 1, 16, 20], bias: [20], residual: [3, 3, 3, 20] },
      options: { activation: 'relu' },
    },
    {
      why: 'residual without bias and activation',
      shapes: { x: [1, 4, 4, 4], weight: [3, 3, 4, 4], residual: [1, 4, 4, 4] },
      options: { padding: 1 },
    },
    {
      why: 'stride 2, padding below but not left (SAME_UPPER)',
      shapes: { x: [1, 5, 6, 4], weight: [3, 3, 4, 8], bias: [8] },
      options: { stride: 2, padding: [1, 0, 1, 1] },
    },
    {
      why: 'one channel, SAME_UPPER',
      shapes: { x: [1, 5, 6, 1], weight: [3, 3, 1, 1], bias: [1] },
      options: { stride: 2, padding: [1, 0, 1, 1] },
    },
    {
      why: 'stride larger than the kernel',
      shapes: { x: [1, 6, 5, 1], weight: [2, 1, 1, 2], bias: [2] },
      options: { stride: [5, 2], padding: [0, 0, 1, 0] },
    },
    {
      why: 'stride larger than the kernel, channels by four',
      shapes: { x: [2, 7, 5, 8], weight: [1, 2, 8, 4] },
      options: { stride: [3, 4] },
    },
    {
      why: '1x1 with stride 2: pixels without a gradient',
      shapes: { x: [2, 5, 4, 8], weight: [1, 1, 8, 16] },
      options: { stride: 2 },
    },
    {
      why: 'padding wider than the kernel',
      shapes: { x: [1, 3, 2, 4], weight: [1, 1, 4, 4], bias: [4] },
      options: { padding: [2, 1, 0, 3] },
    },
    {
      why: 'primes',
      shapes: { x: [1, 11, 7, 5], weight: [3, 5, 5, 7], bias: [7], residual: [1, 9, 3, 7] },
      options: { activation: 'relu' },
    },
    { why: 'kernel as large as the image', shapes: { x: [2, 3, 4, 8], weight: [3, 4, 8, 8], bias: [8] } },
    {
      why: 'more pixels and channels than any tile',
      shapes: { x: [1, 9, 9, 36], weight: [3, 3, 36, 76], bias: [76] },
      options: { padding: 1 },
    },
    { why: 'many channels, one pixel', shapes: { x: [1, 1, 1, 260], weight: [1, 1, 260, 132], bias: [132] } },
    {
      why: 'asymmetric strides and padding',
      shapes: { x: [1, 8, 9, 4], weight: [5, 2, 4, 4] },
      options: { stride: [2, 3], padding: [2, 0, 1, 1] },
    },
    {
      why: 'input and residual are channel ranges',
      shapes: { x: [2, 4, 5, 8], weight: [3, 3, 8, 4], bias: [4], residual: [2, 4, 5, 4] },
      options: { padding: 1, activation: 'relu' },
      slices: ['x', 'residual'],
    },
    {
      why: 'a channel range that no vec4 fits',
      shapes: { x: [1, 4, 4, 6], weight: [3, 3, 6, 4] },
      options: { padding: 1 },
      slices: ['x'],
    },
    {
      why: 'a layer of nn4.small2',
      shapes: { x: [1, 12, 12, 96], weight: [3, 3, 96, 128], bias: [128] },
      options: { padding: 1, activation: 'relu' },
    },
    {
      why: 'enough tiles for Winograd, odd sizes',
      shapes: { x: [2, 16, 15, 80], weight: [3, 3, 80, 84], bias: [84], residual: [2, 15, 15, 84] },
      options: { padding: [1, 1, 0, 1], activation: 'relu' },
    },
    {
      why: 'enough tiles for Winograd, no epilogue, channel range',
      shapes: { x: [1, 14, 12, 64], weight: [3, 3, 64, 96] },
      slices: ['x'],
    },
    {
      why: 'more pixels than a chunk of the weight gradient',
      shapes: { x: [1, 50, 45, 4], weight: [3, 3, 4, 4] },
      options: { padding: 1 },
    },
    {
      why: 'a batch at 3x3',
      shapes: { x: [7, 3, 3, 96], weight: [1, 1, 96, 64], bias: [64] },
      options: { activation: 'relu' },
    },
  ],
};
