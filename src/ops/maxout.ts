import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

interface Maxout extends Attributes {
  readonly pieces: number;
}

const strided = ['x', 'y', 'dy', 'dx'];

function reduced(operator: string, x: Shape, { pieces }: Maxout): Shape {
  if (!(Number.isInteger(pieces) && pieces >= 1 && x.length > 0 && columns(x) % pieces === 0)) {
    throw new FaceNetError(
      'input',
      `${operator}: pieces must be a whole number that divides the ${columns(x)} channels of x, got ${pieces}.`,
    );
  }
  return [...x.slice(0, -1), columns(x) / pieces];
}

const forward: Entry<Maxout> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }, a) => reduced('maxout', x as Shape, a),
  params: ({ y }, { pieces }) => ({ rows: rows(y as Shape), columns: columns(y as Shape), pieces }),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(maxoutOperator, 'inputGradient', { x, dy }, attributes),
  }),
};

/** dy goes to the first piece that holds the maximum, 0 to the others. */
const inputGradient: Entry<Maxout> = {
  inputs: ['x', 'dy'],
  output: 'dx',
  strided,
  shape({ x, dy }, a) {
    requireEqual('maxout.inputGradient', 'dy', dy as Shape, reduced('maxout.inputGradient', x as Shape, a));
    return x as Shape;
  },
  params: ({ dy }, { pieces }) => ({ rows: rows(dy as Shape), columns: columns(dy as Shape), pieces }),
  launch: ({ dy }) => ({ invocations: size(dy as Shape) }),
};

export const maxoutOperator = defineOperator({
  name: 'maxout',
  params: { rows: 'u32', columns: 'u32', pieces: 'u32' },
  entries: { forward, inputGradient },
});

/**
 * Largest of `pieces` values: x [..., pieces * channels] -> y [..., channels], y[c] = max over p of x[p * channels + c].
 *
 * Piece p is the p-th block of channels, so that the pieces of a linear layer are column blocks of its weight.
 * Source: Goodfellow et al. 2013; fc1 and fc2 of NN1 in Schroff et al. 2015, table 1 (maxout p = 2).
 * @throws 'input' when `pieces` does not divide the channels.
 */
export function maxout(x: Value, { pieces = 2 }: { pieces?: number } = {}): Value {
  return x.graph.apply(maxoutOperator, 'forward', { x }, { pieces });
}
