import { softmax, softmaxOperator } from '../../src/ops/softmax.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

function forward(x: Float64Array, columns: number): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += columns) {
    const row = x.subarray(start, start + columns);
    const largest = row.reduce((a, b) => Math.max(a, b));
    const sum = row.reduce((total, v) => total + Math.exp(v - largest), 0);
    row.forEach((v, c) => {
      y[start + c] = Math.exp(v - largest) / sum;
    });
  }
  return y;
}
const columnsOf = (shape: readonly number[]) => shape[shape.length - 1]!;

export const spec: OperatorSpec = {
  operator: softmaxOperator,
  inputs: ['x'],
  build: ({ x }) => softmax(x!),
  forward: ({ x }, shapes) => forward(x!, columnsOf(shapes.x!)),
  gradient({ x }, dy, shapes) {
    const columns = columnsOf(shapes.x!);
    const y = forward(x!, columns);
    return {
      x: y.map((v, i) => {
        const start = i - (i % columns);
        const inner = dy.subarray(start, start + columns).reduce((sum, d, c) => sum + d * y[start + c]!, 0);
        return v * (dy[i]! - inner);
      }),
    };
  },
  // The difference rounds once, which exp turns into a factor of (1 + difference * 2^-24); exp itself is within 3 + 2 |x| ulp in WGSL.
  // `range` bounds the differences of a row. The sum of positive terms has columns / 4 + 3 additions, the division 2.5 ulp, the
  // product one rounding. dx doubles that of y, and adds that of a second sum.
  bound(what, shapes, { range = 2 }) {
    const y = (range as number) + 6 + 4 * (range as number) + columnsOf(shapes.x!) / 4 + 10 + 6;
    return (what === 'y' ? y : 3 * y) * UNIT;
  },
  magnitude: (what, { x }, _, shapes) => (what === 'y' ? 0 : Math.max(...forward(x!, columnsOf(shapes.x!)))),
  cases: [
    { why: 'one column: 1, and no gradient', shapes: { x: [3, 1] } },
    { why: 'a tail of three', shapes: { x: [2, 7] } },
    { why: 'more columns than the tree is wide', shapes: { x: [2, 261] } },
    { why: 'a map of two classes, as MTCNN', shapes: { x: [2, 3, 5, 2] } },
    { why: 'all negative and far from 0', shapes: { x: [2, 6] }, fill: { x: (_, uniform) => uniform() - 1000 } },
    {
      why: 'beyond the range of exp: the largest is subtracted',
      shapes: { x: [2, 5] },
      options: { range: 300 },
      fill: { x: (i) => [200, 100, -100, 199, 0][i % 5]! },
    },
    { why: 'a channel range', shapes: { x: [3, 6] }, slices: ['x'] },
  ],
};
