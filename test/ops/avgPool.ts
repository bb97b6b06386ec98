import { type AvgPoolOptions, avgPool, avgPoolOperator } from '../../src/ops/avgPool.ts';
import { type OracleWindow, windowSizes, windows } from '../oracles/window.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const divisor = ({ pixels, padded }: OracleWindow, options: Readonly<Record<string, unknown>>) =>
  options.countPadding ? padded : pixels.length;

export const spec: OperatorSpec = {
  operator: avgPoolOperator,
  inputs: ['x'],
  build: ({ x }, options) => avgPool(x!, options as unknown as AvgPoolOptions),
  forward: ({ x }, shapes, options, outputShape) =>
    Float64Array.from(
      windows(shapes.x!, options, outputShape),
      (window) => window.pixels.reduce((sum, p) => sum + x![p]!, 0) / divisor(window, options),
    ),
  gradient({ x }, dy, shapes, options, outputShape) {
    const dx = new Float64Array(x!.length);
    for (const window of windows(shapes.x!, options, outputShape)) {
      for (const p of window.pixels) dx[p]! += dy[window.output]! / divisor(window, options);
    }
    return { x: dx };
  },
  // Values below 1. y: a row's sum, then the sum of the rows, at most `sides` additions each below the divisor; a division, 2.5 ulp in
  // WGSL. dx: `holders` quotients below 1, each of 2.5 ulp, added.
  bound(what, _, options) {
    const { sides, holders } = windowSizes(options);
    return (what === 'y' ? sides + 5 : holders * (holders + 5)) * UNIT;
  },
  magnitude: () => 1,
  cases: [
    { why: 'one pixel', shapes: { x: [1, 1, 1, 1] }, options: { size: 1 } },
    { why: 'no padding', shapes: { x: [2, 7, 5, 4] }, options: { size: 3, stride: 2 } },
    {
      why: 'padding is not averaged in (OP-03b)',
      shapes: { x: [2, 6, 6, 3] },
      options: { size: 3, stride: 2, padding: 1 },
    },
    {
      why: 'padding counted',
      shapes: { x: [2, 6, 6, 3] },
      options: { size: 3, stride: 2, padding: 1, countPadding: true },
    },
    {
      why: 'ceil, cut off at the padded edge',
      shapes: { x: [1, 6, 6, 5] },
      options: { size: 3, stride: 2, padding: 1, ceil: true },
    },
    {
      why: 'ceil, cut off at the padded edge, padding counted',
      shapes: { x: [1, 6, 6, 5] },
      options: { size: 3, stride: 2, padding: 1, ceil: true, countPadding: true },
    },
    {
      why: 'asymmetric padding, counted, directions differ',
      shapes: { x: [2, 5, 6, 7] },
      options: { size: [4, 2], stride: [1, 3], padding: [2, 1, 1, 0], countPadding: true },
    },
    {
      why: 'stride above the window: pixels without a gradient',
      shapes: { x: [1, 7, 7, 2] },
      options: { size: 2, stride: 3 },
    },
    { why: 'the whole image, 736 channels as in nn4.small2', shapes: { x: [1, 3, 3, 736] }, options: { size: 3 } },
    { why: 'a channel range', shapes: { x: [2, 5, 5, 6] }, options: { size: 3, padding: 1 }, slices: ['x'] },
  ],
};
