import { type ScaleShiftOptions, scaleShift, scaleShiftOperator } from '../../src/ops/scaleShift.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const at = (value: number | readonly number[] | undefined, i: number, otherwise: number) =>
  value === undefined ? otherwise : typeof value === 'number' ? value : value[i % value.length]!;
const largest = (value: number | readonly number[] | undefined, otherwise: number) =>
  Math.max(...[value ?? otherwise].flat().map(Math.abs));

export const spec: OperatorSpec = {
  operator: scaleShiftOperator,
  inputs: ['x'],
  build: ({ x }, options) => scaleShift(x!, options as ScaleShiftOptions),
  forward: ({ x }, _, { scale, shift }: ScaleShiftOptions) => x!.map((v, i) => v * at(scale, i, 1) + at(shift, i, 0)),
  gradient: (_, dy, __, { scale }: ScaleShiftOptions) => ({ x: dy.map((d, i) => d * at(scale, i, 1)) }),
  // Scale and shift are rounded to f32, then a product and a sum.
  bound: () => 4 * UNIT,
  magnitude: (what, { x }, _, __, { scale, shift }: ScaleShiftOptions) =>
    what === 'y' ? largest(scale, 1) * x!.reduce((a, v) => Math.max(a, Math.abs(v)), 0) + largest(shift, 0) : 0,
  cases: [
    { why: 'one element, nothing to do', shapes: { x: [1, 1] } },
    {
      why: 'one number for all channels',
      shapes: { x: [2, 3, 2, 3] },
      options: { scale: 1 / 128, shift: -0.996 },
      fill: { x: (i) => (i * 37) % 256 },
    },
    {
      why: 'a mean for each channel',
      shapes: { x: [2, 2, 3, 3] },
      options: { scale: 1 / 256, shift: [-0.485, -0.456, -0.406] },
      fill: { x: (i) => (i * 37) % 256 },
    },
    {
      why: 'both for each channel, with a tail',
      shapes: { x: [3, 5] },
      options: { scale: [1, -2, 0.3, 0, 5], shift: [0.1, 0.2, 0, -1, 3] },
    },
    {
      why: 'a channel range',
      shapes: { x: [3, 2, 2, 6] },
      options: { scale: [1, 2, 3, 4, 5, 6], shift: 0.5 },
      slices: ['x'],
    },
  ],
};
