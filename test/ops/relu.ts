import { relu, reluOperator } from '../../src/ops/relu.ts';
import type { OperatorSpec } from './operator-spec.ts';

export const spec: OperatorSpec = {
  operator: reluOperator,
  inputs: ['x'],
  build: ({ x }) => relu(x!),
  forward: ({ x }) => x!.map((v) => Math.max(v, 0)),
  gradient: ({ x }, dy) => ({ x: dy.map((d, i) => (x![i]! > 0 ? d : 0)) }),
  // Values are selected, none is computed.
  bound: () => 0,
  cases: [
    { why: 'one element', shapes: { x: [1, 1] } },
    { why: 'scalar tail of one to three channels', shapes: { x: [5, 7] } },
    { why: 'an image', shapes: { x: [2, 3, 5, 12] } },
    { why: 'channels by four, rows that fill no strip', shapes: { x: [2, 5, 5, 12] } },
    { why: 'no positive value', shapes: { x: [3, 6] }, fill: { x: (_, uniform) => -Math.abs(uniform()) } },
    {
      why: 'exactly zero: the gradient is 0',
      shapes: { x: [2, 5] },
      fill: { x: (i, uniform) => (i % 2 ? 0 : uniform()) },
    },
    { why: 'a channel range', shapes: { x: [2, 3, 2, 6] }, slices: ['x'] },
  ],
};
