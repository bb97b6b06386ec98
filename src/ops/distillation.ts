import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Lowering, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape, size } from '../graph/shape.ts';

const strided = ['x', 'teacher', 'dx'];
const params = ({ x }: Shapes) => ({ rows: rows(x as Shape), columns: columns(x as Shape) });

const forward: Entry<Attributes> = {
  inputs: ['x', 'teacher'],
  output: 'y',
  strided,
  shape({ x, teacher }) {
    requireRank('distillation', 'x', x as Shape, 2);
    requireEqual('distillation', 'teacher', teacher as Shape, x as Shape);
    return [1];
  },
  params,
  launch: ({ x }) => ({ workgroups: [rows(x as Shape)] }),
  lower: ({ x }): Lowering => ({
    steps: [
      {
        kernel: 'rowDistances',
        tensors: { x: 'x', teacher: 'teacher', perRow: 'perRow' },
        launch: { workgroups: [rows(x as Shape)] },
      },
      { kernel: 'mean', tensors: { perRow: 'perRow', y: 'y' }, launch: { workgroups: [1] } },
    ],
    scratch: { perRow: rows(x as Shape) },
  }),
  gradient: ({ y, dy, inputs: { x, teacher } }) => ({
    x: y.graph.apply(distillationOperator, 'inputGradient', { x, teacher, dy }),
  }),
};

/** dx = 2 (x - teacher) dy / rows. */
const inputGradient: Entry<Attributes> = {
  inputs: ['x', 'teacher', 'dy'],
  output: 'dx',
  strided,
  shape({ x, dy }) {
    requireEqual('distillation.inputGradient', 'dy', dy as Shape, [1]);
    return x as Shape;
  },
  params,
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
};

export const distillationOperator = defineOperator({
  name: 'distillation',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward, inputGradient },
});

/**
 * Regression to given embeddings: the mean over rows of |x - teacher|^2. x, teacher [N, D] -> [1].
 *
 * The targets, a teacher's embeddings, are data: they get no gradient. @throws 'input' when shapes differ.
 */
export function distillation(x: Value, teacher: Value): Value {
  return x.graph.apply(distillationOperator, 'forward', { x, teacher });
}
