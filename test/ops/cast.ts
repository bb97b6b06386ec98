import { cast, castOperator } from '../../src/ops/cast.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const byte = (i: number) => (i * 91 + 255) % 256;

export const spec: OperatorSpec = {
  operator: castOperator,
  inputs: ['whole', 'pixels'],
  integers: ['whole', 'pixels'],
  bytes: ['pixels'],
  differentiable: [],
  build: ({ whole, pixels }, options) => cast((whole ?? pixels)!, options),
  forward: ({ whole, pixels }, _, { scale = 1, min = 0 }) =>
    (whole ?? pixels)!.map((v) => v * (scale as number) + (min as number)),
  // The integer, scale and min are each rounded to f32; a product and a sum.
  bound: () => 5 * UNIT,
  magnitude: (_, { whole, pixels }, __, ___, { scale = 1, min = 0 }) =>
    (whole ?? pixels)!.reduce((a, v) => Math.max(a, Math.abs(v)), 0) * Math.abs(scale as number) +
    Math.abs(min as number),
  cases: [
    { why: 'one byte', shapes: { pixels: [1] }, fill: { pixels: () => 255 } },
    {
      why: 'an RGB image: bytes that do not fill the last word',
      shapes: { pixels: [1, 3, 5, 3] },
      fill: { pixels: byte },
    },
    {
      why: 'weights quantised to bytes',
      shapes: { pixels: [3, 3, 4, 8] },
      options: { scale: 0.0123, min: -1.7 },
      fill: { pixels: byte },
    },
    { why: 'labels, negative ones too', shapes: { whole: [7] }, fill: { whole: (i) => i * 1000 - 3000 } },
    { why: 'up to 2^24 exactly', shapes: { whole: [2, 5] }, fill: { whole: (i) => (i % 2 ? -1 : 1) * (2 ** 24 - i) } },
    {
      why: 'the ends of 32 bits, scaled',
      shapes: { whole: [3, 2] },
      options: { scale: 1e-6, min: 3 },
      fill: { whole: (i) => [2 ** 31 - 1, -(2 ** 31), 0, 1, -1, 2 ** 24 + 1][i]! },
    },
  ],
};
