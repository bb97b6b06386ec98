import { maxout, maxoutOperator } from '../../src/ops/maxout.ts';
import type { OperatorSpec } from './operator-spec.ts';

/** Indices into x of the pieces of every element of y. */
function pieces(x: readonly number[], { pieces: count = 2 }: Readonly<Record<string, unknown>>): number[][] {
  const width = x[x.length - 1]!;
  const columns = width / (count as number);
  const rows = x.slice(0, -1).reduce((a, b) => a * b, 1);
  return Array.from({ length: rows * columns }, (_, i) =>
    Array.from({ length: count as number }, (_, p) => Math.floor(i / columns) * width + p * columns + (i % columns)),
  );
}

export const spec: OperatorSpec = {
  operator: maxoutOperator,
  inputs: ['x'],
  build: ({ x }, options) => maxout(x!, options),
  forward: ({ x }, shapes, options) =>
    Float64Array.from(pieces(shapes.x!, options), (list) => Math.max(...list.map((p) => x![p]!))),
  gradient({ x }, dy, shapes, options) {
    const dx = new Float64Array(x!.length);
    pieces(shapes.x!, options).forEach((list, i) => {
      const values = list.map((p) => x![p]!);
      dx[list[values.indexOf(Math.max(...values))]!] = dy[i]!;
    });
    return { x: dx };
  },
  // Values are selected, none is computed.
  bound: () => 0,
  cases: [
    { why: 'two of one channel', shapes: { x: [1, 2] } },
    { why: 'one piece: x itself', shapes: { x: [2, 5] }, options: { pieces: 1 } },
    { why: 'two pieces, as NN1', shapes: { x: [3, 22] } },
    { why: 'three pieces of an image', shapes: { x: [2, 2, 3, 21] }, options: { pieces: 3 } },
    {
      why: 'ties: the first piece takes the gradient',
      shapes: { x: [3, 15] },
      options: { pieces: 3 },
      fill: { x: (_, uniform) => Math.floor(uniform() * 2) },
    },
    { why: 'a channel range', shapes: { x: [3, 8] }, slices: ['x'] },
  ],
};
