import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

const forward: Entry<Attributes> = {
  inputs: ['a', 'b'],
  output: 'y',
  strided: ['a', 'b', 'y'],
  shape({ a, b }) {
    requireEqual('add', 'b', b as Shape, a as Shape);
    return a as Shape;
  },
  params: ({ y }) => ({ rows: rows(y as Shape), columns: columns(y as Shape) }),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ dy }) => ({ a: dy, b: dy }),
};

export const addOperator = defineOperator({
  name: 'add',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward },
});

/** a + b, element by element; any shape, the same for both. @throws 'input' when the shapes differ. */
export function add(a: Value, b: Value): Value {
  return a.graph.apply(addOperator, 'forward', { a, b });
}
