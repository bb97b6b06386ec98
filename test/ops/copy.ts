import { copy, copyOperator } from '../../src/ops/copy.ts';
import type { OperatorSpec } from './operator-spec.ts';

export const spec: OperatorSpec = {
  operator: copyOperator,
  inputs: ['x'],
  build: ({ x }) => copy(x!),
  forward: ({ x }) => x!.slice(),
  gradient: (_, dy) => ({ x: dy }),
  // Values are moved, none is computed.
  bound: () => 0,
  cases: [
    { why: 'one element', shapes: { x: [1] } },
    { why: 'dense to dense', shapes: { x: [2, 3, 3, 5] } },
    { why: 'a channel range made dense', shapes: { x: [7, 6] }, slices: ['x'] },
  ],
};
