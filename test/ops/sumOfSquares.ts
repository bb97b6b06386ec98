import { sumOfSquares, sumOfSquaresOperator } from '../../src/ops/sumOfSquares.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

export const spec: OperatorSpec = {
  operator: sumOfSquaresOperator,
  inputs: ['x', 'before'],
  build: ({ x, before }) => sumOfSquares(x!, before),
  forward: ({ x, before }) => Float64Array.of(x!.reduce((sum, value) => sum + value * value, before?.[0] ?? 0)),
  gradient: ({ x }, dy) => ({ x: x!.map((value) => 2 * value * dy[0]!), before: dy }),
  // Positive terms: at most 1,024 in a chain of the dot product (16 in a branch of the tree), then the chunks, each rounded twice.
  bound: (what, shapes) => (what === 'y' ? Math.min(1024, shapes.x![0]!) + shapes.x![0]! / 4096 + 12 : 3) * UNIT,
  cases: [
    { why: 'one number', shapes: { x: [1] } },
    { why: 'any shape, added to what came before', shapes: { x: [3, 5, 7], before: [1] }, fill: { before: () => 9 } },
    { why: 'one chunk to the last element', shapes: { x: [4096] } },
    { why: 'one element more', shapes: { x: [4097] } },
    { why: 'zeros: gradient 0', shapes: { x: [5] }, fill: { x: () => 0 } },
    {
      why: 'more chunks than the tree is wide',
      shapes: { x: [258 * 4096 + 3] },
      fill: { x: (i, uniform) => (i % 64 ? 0 : uniform()) },
    },
  ],
};
