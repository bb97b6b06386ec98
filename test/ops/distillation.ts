import { distillation, distillationOperator } from '../../src/ops/distillation.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

export const spec: OperatorSpec = {
  operator: distillationOperator,
  inputs: ['x', 'teacher'],
  differentiable: ['x'],
  build: ({ x, teacher }) => distillation(x!, teacher!),
  forward: ({ x, teacher }, shapes) =>
    Float64Array.of(x!.reduce((sum, value, i) => sum + (value - teacher![i]!) ** 2, 0) / shapes.x![0]!),
  gradient: ({ x, teacher }, dy, shapes) => ({
    x: x!.map((value, i) => (2 * dy[0]! * (value - teacher![i]!)) / shapes.x![0]!),
  }),
  // Positive terms, at most columns / 4 and then rows of them in a chain, each with four roundings of its own; the gradient: four.
  bound: (what, shapes) => (what === 'y' ? shapes.x![1]! / 4 + shapes.x![0]! + 8 : 4) * UNIT,
  cases: [
    { why: 'one number', shapes: { x: [1, 1], teacher: [1, 1] } },
    { why: 'embeddings', shapes: { x: [7, 128], teacher: [7, 128] } },
    { why: 'more rows and columns than the trees are wide', shapes: { x: [263, 269], teacher: [263, 269] } },
    {
      why: 'at the target: loss 0, gradient 0',
      shapes: { x: [3, 5], teacher: [3, 5] },
      fill: { x: (i) => i / 8, teacher: (i) => i / 8 },
    },
    { why: 'channel ranges', shapes: { x: [3, 8], teacher: [3, 8] }, slices: ['x', 'teacher'] },
  ],
};
