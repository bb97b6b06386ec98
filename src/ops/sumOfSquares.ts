import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Lowering } from '../graph/operator.ts';
import { requireEqual, type Shape, size } from '../graph/shape.ts';

/** Elements of one workgroup's sum: 16 for each branch of its tree. Fixes the order of all sums. */
const CHUNK = 4096;

const params = ({ x }: Readonly<Record<string, Shape>>) => ({
  elements: x ? size(x) : 1,
  chunks: x ? Math.ceil(size(x) / CHUNK) : 1,
});

const forward: Entry<Attributes> = {
  inputs: ['x', 'before?'],
  output: 'y',
  shape({ before }) {
    if (before) requireEqual('sumOfSquares', 'before', before, [1]);
    return [1];
  },
  params,
  launch: (shapes) => ({ workgroups: [params(shapes).chunks] }),
  lower: (shapes): Lowering => ({
    steps: [
      { kernel: 'chunks', tensors: { x: 'x', partial: 'partial' }, launch: { workgroups: [params(shapes).chunks] } },
      { kernel: 'combine', tensors: { partial: 'partial', before: 'before', y: 'y' }, launch: { workgroups: [1] } },
    ],
    scratch: { partial: params(shapes).chunks },
  }),
  gradient: ({ y, dy, inputs: { x, before }, needs }) => ({
    x: needs('x') ? y.graph.apply(sumOfSquaresOperator, 'inputGradient', { x, dy }) : undefined,
    before: before ? dy : undefined,
  }),
};

/** dx = 2 x dy. */
const inputGradient: Entry<Attributes> = {
  inputs: ['x', 'dy'],
  output: 'dx',
  shape({ x, dy }) {
    requireEqual('sumOfSquares.inputGradient', 'dy', dy as Shape, [1]);
    return x as Shape;
  },
  params,
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
};

const scaleToLimit: Entry<Attributes> = {
  inputs: ['total', 'limit'],
  output: 'y',
  shape({ total, limit }) {
    requireEqual('sumOfSquares.clipScale', 'total', total as Shape, [1]);
    requireEqual('sumOfSquares.clipScale', 'limit', limit as Shape, [1]);
    return [1];
  },
  params: () => ({ elements: 1, chunks: 1 }),
  launch: () => ({ workgroups: [1] }),
};

export const sumOfSquaresOperator = defineOperator({
  name: 'sumOfSquares',
  params: { elements: 'u32', chunks: 'u32' },
  entries: { forward, inputGradient, clipScale: scaleToLimit },
});

/**
 * Sum of the squares of all elements, added to `before` if given: x of any shape, before [1] -> [1]. Passing each result on as the
 * next one's `before` gives the squared norm over many tensors. The order of the sum depends on the shape alone.
 */
export function sumOfSquares(x: Value, before?: Value): Value {
  return x.graph.apply(sumOfSquaresOperator, 'forward', { x, before });
}

/**
 * The factor that brings gradients of squared norm `total` [1] down to the norm `limit` [1]: limit / norm where the norm is larger, else
 * 1; 1 as well for a limit of 0, which means none. For the `gradientScale` of updates.
 */
export function clipScale(total: Value, limit: Value): Value {
  return total.graph.apply(sumOfSquaresOperator, 'clipScale', { total, limit });
}
