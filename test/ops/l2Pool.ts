import { type L2PoolOptions, l2Pool, l2PoolOperator } from '../../src/ops/l2Pool.ts';
import { type OracleWindow, windowSizes, windows } from '../oracles/window.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const length = ({ pixels }: OracleWindow, x: Float64Array, options: Readonly<Record<string, unknown>>) =>
  Math.sqrt(pixels.reduce((sum, p) => sum + x[p]! ** 2, 0) + ((options.epsilon as number | undefined) ?? 0));

export const spec: OperatorSpec = {
  operator: l2PoolOperator,
  inputs: ['x'],
  build: ({ x }, options) => l2Pool(x!, options as unknown as L2PoolOptions),
  forward: ({ x }, shapes, options, outputShape) =>
    Float64Array.from(windows(shapes.x!, options, outputShape), (window) => length(window, x!, options)),
  gradient({ x }, dy, shapes, options, outputShape) {
    const dx = new Float64Array(x!.length);
    for (const window of windows(shapes.x!, options, outputShape)) {
      const y = length(window, x!, options);
      for (const p of window.pixels) dx[p]! += y === 0 ? 0 : (x![p]! * dy[window.output]!) / y;
    }
    return { x: dx };
  },
  // The sum of squares has `sides` additions of positive terms and a product's rounding; the root halves that and adds its own error,
  // 4.5 ulp in WGSL. dx: terms x / y * dy below 1, each with the error of y, a quotient and a product, `holders` of them added.
  bound(what, _, options) {
    const { sides, holders } = windowSizes(options);
    const y = sides / 2 + 11;
    return (what === 'y' ? y : holders * (holders + y + 7)) * UNIT;
  },
  magnitude: (what) => (what === 'y' ? 0 : 1),
  cases: [
    { why: 'one pixel: its magnitude', shapes: { x: [1, 1, 1, 1] }, options: { size: 1 } },
    {
      why: 'stride 1, padded, as nn4.small2 defines it',
      shapes: { x: [2, 5, 4, 7] },
      options: { size: 3, padding: 1 },
    },
    { why: 'stride 3, as nn4.small2 was released', shapes: { x: [2, 6, 6, 5] }, options: { size: 3, stride: 3 } },
    {
      why: 'all-zero windows: 0, and no gradient (OP-08)',
      shapes: { x: [1, 3, 6, 4] },
      options: { size: 3, stride: 3 },
      fill: { x: (i, uniform) => (i % 24 < 12 ? 0 : uniform()) },
    },
    {
      why: 'epsilon under the root',
      shapes: { x: [1, 3, 6, 4] },
      options: { size: 3, stride: 3, epsilon: 0.25 },
      fill: { x: (i, uniform) => (i % 24 < 12 ? 0 : uniform()) },
    },
    {
      why: 'ceil and asymmetric padding',
      shapes: { x: [2, 6, 5, 3] },
      options: { size: [3, 2], stride: 2, padding: [0, 1, 1, 0], ceil: true },
    },
    { why: 'stride above the window', shapes: { x: [1, 7, 7, 2] }, options: { size: 2, stride: 4 } },
    { why: 'a channel range', shapes: { x: [2, 4, 5, 6] }, options: { size: 2 }, slices: ['x'] },
  ],
};
