import { globalAveragePool, globalAveragePoolOperator } from '../../src/ops/globalAveragePool.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
/** Element of y that element i of x belongs to. */
const target = (i: number, [, height, width, channels]: readonly number[]) =>
  Math.floor(i / (height! * width! * channels!)) * channels! + (i % channels!);

export const spec: OperatorSpec = {
  operator: globalAveragePoolOperator,
  inputs: ['x'],
  build: ({ x }) => globalAveragePool(x!),
  forward({ x }, shapes, _, outputShape) {
    const [, height, width] = shapes.x as readonly number[];
    const y = new Float64Array(outputShape[0]! * outputShape[1]!);
    x!.forEach((v, i) => {
      y[target(i, shapes.x!)]! += v / (height! * width!);
    });
    return y;
  },
  gradient({ x }, dy, shapes) {
    const [, height, width] = shapes.x as readonly number[];
    return { x: x!.map((_, i) => dy[target(i, shapes.x!)]! / (height! * width!)) };
  },
  // Values below 1. Blocks of 64 pixels, then the blocks: that many additions of partial sums below the number of pixels; a division,
  // 2.5 ulp in WGSL.
  bound(what, shapes) {
    const [, height, width] = shapes.x as readonly number[];
    const pixels = height! * width!;
    return (what === 'y' ? Math.min(64, pixels) + Math.ceil(pixels / 64) + 5 : 5) * UNIT;
  },
  magnitude: (what) => (what === 'y' ? 1 : 0),
  cases: [
    { why: 'one pixel', shapes: { x: [1, 1, 1, 1] } },
    { why: 'a block and a part of the next, odd channels', shapes: { x: [2, 9, 11, 5] } },
    { why: 'exactly one block', shapes: { x: [2, 8, 8, 3] } },
    { why: 'as dlib: many channels, few pixels', shapes: { x: [3, 4, 4, 256] } },
    { why: '16 channels and a tail', shapes: { x: [1, 3, 5, 37] } },
    { why: 'a channel range', shapes: { x: [2, 3, 3, 6] }, slices: ['x'] },
  ],
};
