import { cast, castOperator, fromHalves } from '../../src/ops/cast.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
/** The float whose 32 bits are two binary16 patterns. */
const word = (low: number, high: number): number =>
  new Float32Array(Uint32Array.of(low + high * 65536).buffer)[0] as number;
/** A binary16 pattern as a number, by its definition. */
function half(pattern: number): number {
  const exponent = (pattern >> 10) & 31;
  const fraction = pattern & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return pattern & 0x8000 ? -magnitude : magnitude;
}
const byte = (i: number) => (i * 91 + 255) % 256;

export const spec: OperatorSpec = {
  operator: castOperator,
  inputs: ['whole', 'pixels', 'halves'],
  integers: ['whole', 'pixels'],
  bytes: ['pixels'],
  differentiable: [],
  build: ({ whole, pixels, halves }, options) => (halves ? fromHalves(halves) : cast((whole ?? pixels)!, options)),
  forward({ whole, pixels, halves }, _, { scale = 1, min = 0 }) {
    if (!halves) return (whole ?? pixels)!.map((v) => v * (scale as number) + (min as number));
    const bits = new Uint32Array(Float32Array.from(halves).buffer);
    return Float64Array.from({ length: 2 * bits.length }, (_, i) =>
      half(i % 2 ? bits[i >> 1]! >>> 16 : bits[i >> 1]! & 0xffff),
    );
  },
  // Halves are exact. The integer, scale and min are each rounded to f32; a product and a sum.
  bound: (_, { halves }) => (halves ? 0 : 5 * UNIT),
  magnitude: (_, { whole, pixels }, __, ___, { scale = 1, min = 0 }) =>
    (whole ?? pixels ?? new Float64Array()).reduce((a, v) => Math.max(a, Math.abs(v)), 0) * Math.abs(scale as number) +
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
    { why: 'one word', shapes: { halves: [1, 1] }, fill: { halves: () => word(0x3c01, 0xb800) } },
    {
      why: 'halves of a kernel: words that fill no vector, of every exponent',
      shapes: { halves: [3, 3, 5, 7] },
      fill: { halves: (i) => word((i * 2477) % 0x7c00, 0x8000 + ((i * 1663) % 0x7c00)) },
    },
    {
      why: 'the ends of 32 bits, scaled',
      shapes: { whole: [3, 2] },
      options: { scale: 1e-6, min: 3 },
      fill: { whole: (i) => [2 ** 31 - 1, -(2 ** 31), 0, 1, -1, 2 ** 24 + 1][i]! },
    },
  ],
};
