import { add, addOperator } from '../../src/ops/add.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

export const spec: OperatorSpec = {
  operator: addOperator,
  inputs: ['a', 'b'],
  build: ({ a, b }) => add(a!, b!),
  forward: ({ a, b }) => a!.map((v, i) => v + b![i]!),
  gradient: (_, dy) => ({ a: dy, b: dy }),
  // One rounding; the gradients are dy itself.
  bound: (what) => (what === 'y' ? UNIT : 0),
  cases: [
    { why: 'one element', shapes: { a: [1], b: [1] } },
    { why: 'an odd number of channels', shapes: { a: [3, 7], b: [3, 7] } },
    { why: 'a residual block', shapes: { a: [2, 5, 3, 32], b: [2, 5, 3, 32] } },
    { why: 'one operand a channel range', shapes: { a: [5, 12], b: [5, 12] }, slices: ['b'] },
    { why: 'both channel ranges, with a tail', shapes: { a: [3, 2, 2, 5], b: [3, 2, 2, 5] }, slices: ['a', 'b'] },
  ],
};
