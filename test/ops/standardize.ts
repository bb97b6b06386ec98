import { standardize, standardizeOperator } from '../../src/ops/standardize.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const picture = (shape: readonly number[]) => shape.slice(1).reduce((a, b) => a * b, 1);

/** Mean and divisor of each picture, by numpy's formulas: population deviation, at least 1 / sqrt(n). */
function rules(x: Float64Array, n: number): { mean: number; divisor: number }[] {
  return Array.from({ length: x.length / n }, (_, image) => {
    const own = x.subarray(image * n, (image + 1) * n);
    const mean = own.reduce((sum, v) => sum + v, 0) / n;
    const deviation = Math.sqrt(own.reduce((sum, v) => sum + (v - mean) ** 2, 0) / n);
    return { mean, divisor: Math.max(deviation, 1 / Math.sqrt(n)) };
  });
}

const bytes = (_: number, uniform: () => number) => Math.floor((uniform() + 1) * 128);

export const spec: OperatorSpec = {
  operator: standardizeOperator,
  inputs: ['x'],
  differentiable: [],
  build: ({ x }) => standardize(x!),
  forward({ x }, shapes) {
    const n = picture(shapes.x!);
    const found = rules(x!, n);
    return x!.map((v, i) => {
      const { mean, divisor } = found[Math.floor(i / n)]!;
      return (v - mean) / divisor;
    });
  },
  // Sums of n / 256 terms and a tree of 8 for mean and for variance, and a few roundings behind them, each of at most twice the largest
  // |x| (differences from the first value), over the divisor.
  bound: (_, shapes) => 4 * (picture(shapes.x!) / 256 + 8 + 4) * UNIT,
  magnitude(_, { x }, __, shapes) {
    const n = picture(shapes.x!);
    return Math.max(
      ...rules(x!, n).map(({ divisor }, image) =>
        x!.subarray(image * n, (image + 1) * n).reduce((most, v) => Math.max(most, Math.abs(v) / divisor), 0),
      ),
    );
  },
  cases: [
    { why: 'one value: zero, not NaN', shapes: { x: [1, 1, 1, 1] } },
    { why: 'bytes of three pictures, each by its own mean', shapes: { x: [3, 9, 7, 3] }, fill: { x: bytes } },
    { why: 'more pixels than the tree is wide', shapes: { x: [2, 23, 19, 3] }, fill: { x: bytes } },
    { why: 'one colour: zeros', shapes: { x: [2, 20, 16, 3] }, fill: { x: () => 201 } },
    {
      why: 'nearly one colour: the deviation is below 1 / sqrt(n), which takes its place',
      shapes: { x: [1, 6, 5, 3] },
      fill: { x: (i) => (i === 44 ? 0.5 : 0) },
    },
    { why: 'channels of wider pixels', shapes: { x: [2, 5, 4, 6] }, slices: ['x'] },
  ],
};
