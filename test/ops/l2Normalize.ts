import { l2Normalize, l2NormalizeOperator } from '../../src/ops/l2Normalize.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const largest = (values: Float64Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export const spec: OperatorSpec = {
  operator: l2NormalizeOperator,
  inputs: ['x'],
  build: ({ x }, options) => l2Normalize(x!, options),
  forward({ x }, shapes, { epsilon = 1e-10 }) {
    const [rows, columns] = shapes.x as [number, number];
    const y = new Float64Array(x!.length);
    for (let r = 0; r < rows; r++) {
      const row = x!.subarray(r * columns, (r + 1) * columns);
      const norm = Math.sqrt(
        Math.max(
          row.reduce((sum, v) => sum + v * v, 0),
          epsilon as number,
        ),
      );
      row.forEach((v, c) => {
        y[r * columns + c] = v / norm;
      });
    }
    return y;
  },
  gradient({ x }, dy, shapes, { epsilon = 1e-10 }) {
    const [rows, columns] = shapes.x as [number, number];
    const dx = new Float64Array(x!.length);
    for (let r = 0; r < rows; r++) {
      const row = x!.subarray(r * columns, (r + 1) * columns);
      const dyRow = dy.subarray(r * columns, (r + 1) * columns);
      const square = row.reduce((sum, v) => sum + v * v, 0);
      const scale = 1 / Math.sqrt(Math.max(square, epsilon as number));
      const inner = row.reduce((sum, v, c) => sum + v * dyRow[c]!, 0);
      row.forEach((v, c) => {
        dx[r * columns + c] = scale * (dyRow[c]! - (square > (epsilon as number) ? v * inner * scale * scale : 0));
      });
    }
    return { x: dx };
  },
  // Two sums of `columns` products, a root and two products after them; each rounding is at most 2^-24 of its result, and the
  // projection in the gradient can cancel down to the size of dy: twice the sums.
  bound: (what, shapes) => (what === 'y' ? 1 : 2) * ((shapes.x![1] as number) / 4 + 8) * UNIT,
  // dx is dy / |x| less its projection on x, which can be all of it (one column).
  magnitude: (what, { x }, dy, shapes) =>
    what === 'y' ? 0 : largest(dy) / Math.max(1e-5, largest(x!)) / Math.sqrt(shapes.x![1] as number),
  cases: [
    { why: 'one element: y is its sign', shapes: { x: [1, 1] } },
    { why: 'a FaceNet batch', shapes: { x: [3, 128] } },
    { why: 'not a multiple of any number of lanes', shapes: { x: [2, 513] } },
    { why: 'squared norm below epsilon', shapes: { x: [2, 7] }, options: { epsilon: 10 } },
    { why: 'zero rows: zero, not NaN', shapes: { x: [2, 5] }, options: { epsilon: 0.01 }, fill: { x: () => 0 } },
    { why: 'rows inside wider rows', shapes: { x: [3, 12] }, slices: ['x'] },
  ],
};
