import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows } from '../graph/shape.ts';

interface L2Normalize extends Attributes {
  readonly epsilon: number;
}

const strided = ['x', 'y', 'dy', 'dx'];

const forward: Entry<L2Normalize> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape({ x }) {
    requireRank('l2Normalize', 'x', x, 2);
    return x;
  },
  params: ({ x }, { epsilon }) => ({ rows: rows(x), columns: columns(x), epsilon }),
  launch: ({ x }) => ({ workgroups: [rows(x)] }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(l2NormalizeOperator, 'inputGradient', { x, dy }, attributes),
  }),
};

const inputGradient: Entry<L2Normalize> = {
  inputs: ['x', 'dy'],
  output: 'dx',
  strided,
  shape({ x, dy }) {
    requireEqual('l2Normalize.inputGradient', 'dy', dy, x);
    return x;
  },
  params: forward.params,
  launch: forward.launch,
};

export const l2NormalizeOperator = defineOperator({
  name: 'l2Normalize',
  params: { rows: 'u32', columns: 'u32', epsilon: 'f32' },
  entries: { forward, inputGradient },
});

/**
 * Scales every row to unit Euclidean length: y = x / sqrt(max(sum of x^2, epsilon)).
 *
 * x [rows, columns] -> y [rows, columns]. A row whose squared norm is below epsilon keeps its direction and stays shorter
 * than 1; a zero row stays zero, and the gradient there is dy / sqrt(epsilon).
 *
 * Source: Schroff et al. 2015, section 3.1; epsilon as in OpenFace's nn4.small2.
 */
export function l2Normalize(x: Value, { epsilon = 1e-10 }: { epsilon?: number } = {}): Value {
  return x.graph.apply(l2NormalizeOperator, 'forward', { x }, { epsilon });
}
