import type { WindowOptions } from '../../src/graph/window.ts';
import { maxPool, maxPoolOperator } from '../../src/ops/maxPool.ts';
import { windowSizes, windows } from '../oracles/window.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const steps = (_: number, uniform: () => number) => Math.floor(uniform() * 2); // -2, -1, 0, 1: many ties

export const spec: OperatorSpec = {
  operator: maxPoolOperator,
  inputs: ['x'],
  build: ({ x }, options) => maxPool(x!, options as unknown as WindowOptions),
  forward: ({ x }, shapes, options, outputShape) =>
    Float64Array.from(windows(shapes.x!, options, outputShape), ({ pixels }) => Math.max(...pixels.map((p) => x![p]!))),
  gradient({ x }, dy, shapes, options, outputShape) {
    const dx = new Float64Array(x!.length);
    for (const { output, pixels } of windows(shapes.x!, options, outputShape)) {
      const values = pixels.map((p) => x![p]!);
      dx[pixels[values.indexOf(Math.max(...values))]!]! += dy[output]!;
    }
    return { x: dx };
  },
  // y is selected. dx adds up to `holders` values below 1: each addition rounds a partial sum below `holders`.
  bound: (what, _, options) => (what === 'y' ? 0 : windowSizes(options).holders ** 2 * UNIT),
  magnitude: () => 1,
  cases: [
    { why: 'one pixel', shapes: { x: [1, 1, 1, 1] }, options: { size: 1 } },
    {
      why: 'padding never wins over negative values (OP-04)',
      shapes: { x: [2, 4, 4, 5] },
      options: { size: 3, stride: 2, padding: 1 },
      fill: { x: (_, uniform) => uniform() - 1.5 },
    },
    { why: 'floor, no padding, prime size', shapes: { x: [2, 7, 11, 3] }, options: { size: 3, stride: 2 } },
    { why: 'ceil: a window beyond the edge', shapes: { x: [1, 6, 8, 4] }, options: { size: 3, stride: 2, ceil: true } },
    {
      why: 'ceil with padding: the last window starts in the image',
      shapes: { x: [1, 6, 6, 2] },
      options: { size: 3, stride: 2, padding: 1, ceil: true },
    },
    {
      why: 'ceil: a window that would start in the padding is dropped',
      shapes: { x: [1, 5, 5, 3] },
      options: { size: 2, stride: 2, padding: 1, ceil: true },
    },
    {
      why: 'stride above the window: pixels that nobody looks at (OP-06)',
      shapes: { x: [2, 4, 4, 3] },
      options: { size: 1, stride: [4, 3] },
    },
    {
      why: 'window and stride differ by direction, padding on all four sides',
      shapes: { x: [2, 5, 6, 7] },
      options: { size: [4, 2], stride: [1, 3], padding: [2, 1, 1, 0] },
    },
    {
      why: 'stride 1: nine windows a pixel, 16 channels and a tail',
      shapes: { x: [1, 5, 4, 23] },
      options: { size: 3, padding: 1 },
    },
    {
      why: 'ties: the first in row-major order takes the gradient',
      shapes: { x: [2, 5, 5, 6] },
      options: { size: 3, padding: 1 },
      fill: { x: steps },
    },
    {
      why: 'all equal',
      shapes: { x: [1, 4, 5, 3] },
      options: { size: 3, stride: 2, padding: 1 },
      fill: { x: () => 0.5 },
    },
    { why: 'a channel range', shapes: { x: [2, 5, 5, 8] }, options: { size: 3, stride: 2, padding: 1 }, slices: ['x'] },
  ],
};
