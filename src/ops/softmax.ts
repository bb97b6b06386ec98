import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape } from '../graph/shape.ts';

const strided = ['x', 'y', 'output', 'dy', 'dx'];
const params = (x: Shape) => ({ rows: rows(x), columns: columns(x) });

const forward: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }) => x as Shape,
  params: ({ x }) => params(x as Shape),
  launch: ({ x }) => ({ workgroups: [rows(x as Shape)] }),
  gradient: ({ y, dy }) => ({ x: y.graph.apply(softmaxOperator, 'inputGradient', { output: y, dy }) }),
};

/** dx = y * (dy - sum over the row of y * dy). */
const inputGradient: Entry<Attributes> = {
  inputs: ['output', 'dy'],
  output: 'dx',
  strided,
  shape({ output, dy }) {
    requireEqual('softmax.inputGradient', 'dy', dy as Shape, output as Shape);
    return output as Shape;
  },
  params: ({ output }) => params(output as Shape),
  launch: ({ output }) => ({ workgroups: [rows(output as Shape)] }),
};

export const softmaxOperator = defineOperator({
  name: 'softmax',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward, inputGradient },
});

/**
 * exp(x) / (sum of exp(x)) over the last dimension: x [..., columns] -> y of the same shape, each row summing to 1.
 *
 * The row's maximum is subtracted first, so large finite values neither overflow nor lose the answer.
 */
export function softmax(x: Value): Value {
  return x.graph.apply(softmaxOperator, 'forward', { x });
}
