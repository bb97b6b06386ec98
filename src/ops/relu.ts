import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape } from '../graph/shape.ts';

const strided = ['x', 'y', 'output', 'dy', 'dx'];
const params = (shape: Shape) => ({ rows: rows(shape), columns: columns(shape) });

const forward: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }) => x as Shape,
  params: ({ x }) => params(x as Shape),
  launch: ({ x }) => ({ invocations: rows(x as Shape) * columns(x as Shape) }),
  gradient: ({ y, dy }) => ({ x: y.graph.apply(reluOperator, 'inputGradient', { output: y, dy }) }),
};

/** Reads the output, not the input: y > 0 exactly where x > 0, and fused kernels keep only y. */
const inputGradient: Entry<Attributes> = {
  inputs: ['output', 'dy'],
  output: 'dx',
  strided,
  shape({ output, dy }) {
    requireEqual('relu.inputGradient', 'dy', dy as Shape, output as Shape);
    return output as Shape;
  },
  params: ({ output }) => params(output as Shape),
  launch: ({ output }) => ({ invocations: rows(output as Shape) * columns(output as Shape) }),
};

export const reluOperator = defineOperator({
  name: 'relu',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward, inputGradient },
});

/** max(x, 0), any shape. The gradient at x = 0 is 0. */
export function relu(x: Value): Value {
  return x.graph.apply(reluOperator, 'forward', { x });
}
