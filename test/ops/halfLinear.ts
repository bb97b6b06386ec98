import { halfLinear, halfLinearOperator } from '../../src/ops/halfLinear.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

/** A binary16 pattern as a number, by its definition. */
function half(pattern: number): number {
  const exponent = (pattern >> 10) & 31;
  const fraction = pattern & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return pattern & 0x8000 ? -magnitude : magnitude;
}
/** The float whose 32 bits are two halves. */
const word = (low: number, high: number): number =>
  new Float32Array(Uint32Array.of(low + high * 65536).buffer)[0] as number;
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] as number;

/** Halves of magnitude 2^-6 to below 2, of either sign. */
const patterns = (_: number, uniform: () => number): number => {
  const draw = () =>
    (uniform() < 0 ? 0x8000 : 0) + ((9 + Math.floor((uniform() + 1) * 3.5)) << 10) + Math.floor((uniform() + 1) * 512);
  return word(draw(), draw());
};

export const spec: OperatorSpec = {
  operator: halfLinearOperator,
  inputs: ['x', 'weight', 'bias'],
  differentiable: [],
  build: ({ x, weight, bias }, options) => halfLinear(x!, weight!, { ...options, bias }),
  forward({ x, weight, bias }, shapes, { activation = 'none' }) {
    const [features, words] = shapes.weight as [number, number];
    const batch = shapes.x![0]!;
    const y = new Float64Array(batch * words * 2);
    for (let n = 0; n < batch; n++) {
      for (let o = 0; o < 2 * words; o++) {
        let sum = bias ? bias[o]! : 0;
        for (let i = 0; i < features; i++) {
          const bits = bitsOf(weight![i * words + (o >> 1)]!);
          sum += x![n * features + i]! * half(o % 2 ? bits >>> 16 : bits & 0xffff);
        }
        y[n * words * 2 + o] = activation === 'relu' ? Math.max(0, sum) : sum;
      }
    }
    return y;
  },
  // The weights themselves are exact; a sum of `features` products of up to 2, each rounded once: 4 sqrt(features) roundings.
  bound: (_, shapes) => 4 * Math.sqrt(shapes.weight![0]! + 1) * UNIT,
  magnitude: () => 2,
  cases: [
    {
      why: 'one feature: the halves themselves',
      shapes: { x: [1, 1], weight: [1, 4], bias: [8] },
      fill: { weight: patterns, x: () => 1, bias: () => 0 },
    },
    { why: 'several images, without bias', shapes: { x: [3, 37], weight: [37, 8] }, fill: { weight: patterns } },
    {
      why: 'pictures: features in the order of NHWC, and relu',
      shapes: { x: [2, 2, 3, 5], weight: [30, 12], bias: [24] },
      options: { activation: 'relu' },
      fill: { weight: patterns },
    },
    {
      why: 'zeros, the largest half, the smallest normal one',
      shapes: { x: [1, 2], weight: [2, 4], bias: [8] },
      fill: { weight: (i) => word([0, 0x8000, 0x7bff, 0x0400][i % 4]!, [0xfbff, 0x3c00, 0x8400, 0][i % 4]!) },
    },
    {
      why: 'more groups than threads, rows inside wider rows',
      shapes: { x: [2, 12], weight: [12, 20], bias: [40] },
      slices: ['x'],
      fill: { weight: patterns },
    },
  ],
};
