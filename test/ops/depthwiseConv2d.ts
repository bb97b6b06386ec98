import type { KernelOptions } from '../../src/graph/kernel.ts';
import type { Shape } from '../../src/graph/shape.ts';
import { depthwiseConv2d, depthwiseConv2dOperator } from '../../src/ops/depthwiseConv2d.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
type Shapes = Readonly<Record<string, Shape>>;
type Sizes = readonly [number, number, number, number];

/** Calls `visit` with the flat indices of every product: y[y] += x[x] * weight[w]. */
function eachProduct(
  shapes: Shapes,
  { stride = 1, padding = 0 }: KernelOptions,
  y: Shape,
  visit: (y: number, x: number, w: number) => void,
): void {
  const [, height, width, channels] = shapes.x as unknown as Sizes;
  const [kernelHeight, kernelWidth] = shapes.weight as unknown as Sizes;
  const [batch, outHeight, outWidth] = y as unknown as Sizes;
  const [strideY, strideX] = typeof stride === 'number' ? [stride, stride] : stride;
  const [top, left] = typeof padding === 'number' ? [padding, padding] : padding;
  for (let n = 0; n < batch; n++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++)
        for (let ky = 0; ky < kernelHeight; ky++)
          for (let kx = 0; kx < kernelWidth; kx++) {
            const iy = oy * strideY + ky - top;
            const ix = ox * strideX + kx - left;
            if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
            for (let c = 0; c < channels; c++) {
              visit(
                ((n * outHeight + oy) * outWidth + ox) * channels + c,
                ((n * height + iy) * width + ix) * channels + c,
                (ky * kernelWidth + kx) * channels + c,
              );
            }
          }
}

/** Number of terms of the sums behind a result. */
function terms(what: string, shapes: Shapes, pixels: number): number {
  const [kernelHeight, kernelWidth] = shapes.weight as unknown as Sizes;
  return what === 'dweight' ? pixels : kernelHeight * kernelWidth;
}

export const spec: OperatorSpec = {
  operator: depthwiseConv2dOperator,
  inputs: ['x', 'weight'],
  build: ({ x, weight }, options) => depthwiseConv2d(x!, weight!, options),
  forward({ x, weight }, shapes, options, outputShape) {
    const y = new Float64Array(outputShape.reduce((a, b) => a * b));
    eachProduct(shapes, options, outputShape, (to, from, w) => {
      y[to]! += x![from]! * weight![w]!;
    });
    return y;
  },
  gradient({ x, weight }, dy, shapes, options, outputShape) {
    const dx = new Float64Array(x!.length);
    const dweight = new Float64Array(weight!.length);
    eachProduct(shapes, options, outputShape, (to, from, w) => {
      dx[from]! += dy[to]! * weight![w]!;
      dweight[w]! += dy[to]! * x![from]!;
    });
    return { x: dx, weight: dweight };
  },
  // As conv2d: K roundings of partial sums add as a random walk, 4 of its standard deviations, and some for the products.
  bound: (what, shapes, _, y) => (4 * Math.sqrt(terms(what, shapes, y[0]! * y[1]! * y[2]!)) + 4) * UNIT,
  magnitude: (what, _, dy, shapes) => Math.sqrt(terms(what, shapes, dy.length / shapes.weight![2]!)) / 3,
  cases: [
    { why: 'one product', shapes: { x: [1, 1, 1, 1], weight: [1, 1, 1] } },
    { why: '3x3, same size, odd sizes', shapes: { x: [2, 7, 11, 5], weight: [3, 3, 5] }, options: { padding: 1 } },
    {
      why: '3x3, same size, channels by four, an odd number of inner pixels',
      shapes: { x: [2, 6, 7, 20], weight: [3, 3, 20] },
      options: { padding: 1 },
    },
    {
      why: '3x3, same size, more lines than a strip has, an odd number of pixels across',
      shapes: { x: [2, 19, 5, 8], weight: [3, 3, 8] },
      options: { padding: 1 },
    },
    {
      why: '3x3, padding of two lines above and three columns before',
      shapes: { x: [1, 4, 3, 4], weight: [3, 3, 4] },
      options: { padding: [2, 3, 1, 2] },
    },
    { why: '3x3 without padding', shapes: { x: [1, 5, 6, 8], weight: [3, 3, 8] } },
    {
      why: '3x3, stride 2, even size: padding below and right (TensorFlow SAME)',
      shapes: { x: [2, 8, 10, 16], weight: [3, 3, 16] },
      options: { stride: 2, padding: [0, 0, 1, 1] },
    },
    {
      why: '3x3, stride 2, odd size, several blocks of channels and a tail',
      shapes: { x: [1, 9, 7, 39], weight: [3, 3, 39] },
      options: { stride: 2, padding: 1 },
    },
    {
      why: 'an image smaller than the kernel',
      shapes: { x: [1, 1, 2, 8], weight: [3, 3, 8] },
      options: { padding: 1 },
    },
    {
      why: 'padding wider than the kernel: windows that hold no pixel',
      shapes: { x: [1, 3, 2, 4], weight: [2, 1, 4] },
      options: { padding: [3, 2, 2, 4] },
    },
    {
      why: 'kernel, stride and padding differ by direction',
      shapes: { x: [1, 8, 9, 6], weight: [5, 2, 6] },
      options: { stride: [2, 3], padding: [2, 0, 1, 1] },
    },
    {
      why: 'stride above the kernel: pixels without a gradient',
      shapes: { x: [2, 7, 5, 4], weight: [1, 2, 4] },
      options: { stride: [3, 4] },
    },
    { why: 'kernel as large as the image', shapes: { x: [2, 3, 4, 8], weight: [3, 4, 8] } },
    {
      why: 'a channel range',
      shapes: { x: [2, 5, 6, 8], weight: [3, 3, 8] },
      options: { padding: 1 },
      slices: ['x'],
    },
    {
      why: 'a layer of the landmark net',
      shapes: { x: [1, 28, 28, 64], weight: [3, 3, 64] },
      options: { padding: 1 },
    },
  ],
};
