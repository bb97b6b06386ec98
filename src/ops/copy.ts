import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, rows, type Shape, size } from '../graph/shape.ts';

const forward: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  strided: ['x', 'y'],
  shape: ({ x }) => x as Shape,
  params: ({ x }) => ({ rows: rows(x as Shape), columns: columns(x as Shape) }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  gradient: ({ dy }) => ({ x: dy }),
};

export const copyOperator = defineOperator({
  name: 'copy',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward },
});

/** The same values in memory of their own: makes a channel range dense, and a dense tensor a channel range. Any shape. */
export function copy(x: Value): Value {
  return x.graph.apply(copyOperator, 'forward', { x });
}
