import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Lowering } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape, size, text } from '../graph/shape.ts';

const strided = ['a', 'b'];

const forward: Entry<Attributes> = {
  inputs: ['a', 'b'],
  output: 'y',
  strided,
  shape({ a, b }) {
    requireRank('pairwiseDistance', 'a', a as Shape, 2);
    requireRank('pairwiseDistance', 'b', b as Shape, 2);
    if (columns(a as Shape) !== columns(b as Shape)) {
      throw new FaceNetError(
        'input',
        `pairwiseDistance: b must have ${columns(a as Shape)} columns as a has, got ${text(b as Shape)}.`,
      );
    }
    return [(a as Shape)[0] as number, (b as Shape)[0] as number];
  },
  params: ({ a, b }) => ({ aRows: rows(a as Shape), bRows: rows(b as Shape), columns: columns(a as Shape) }),
  launch: ({ a, b }) => ({ invocations: Math.ceil(rows(a as Shape) / 4) * Math.ceil(rows(b as Shape) / 4) }),
  multiplyAdds: ({ a, b }) => size(a as Shape) * rows(b as Shape),
  gradient: ({ y, dy, inputs: { a, b }, needs }) => ({
    a: needs('a') ? y.graph.apply(pairwiseDistanceOperator, 'aGradient', { a, b, dy }) : undefined,
    b: needs('b') ? y.graph.apply(pairwiseDistanceOperator, 'bGradient', { a, b, dy }) : undefined,
  }),
};

/** A set with itself: the same kernel, unless a backend has one that computes half of the symmetric matrix. */
const self: Entry<Attributes> = {
  inputs: ['a'],
  output: 'y',
  strided,
  shape: ({ a }) => forward.shape({ a, b: a }, {}),
  params: ({ a }) => forward.params({ a, b: a }, {}),
  launch: ({ a }) => forward.launch({ a, b: a }, {}),
  lower: ({ a }) => ({
    steps: [{ kernel: 'forward', tensors: { a: 'a', b: 'a', y: 'y' }, launch: forward.launch({ a, b: a }, {}) }],
  }),
  multiplyAdds: ({ a }) => size(a as Shape) * rows(a as Shape),
  gradient: ({ y, dy, inputs: { a } }) => ({ a: y.graph.apply(pairwiseDistanceOperator, 'selfGradient', { a, dy }) }),
};

/** Which of the two sets the gradient is for: its rows are `points`, those of the other set `others`. */
function gradient(points: 'a' | 'b', others: 'a' | 'b', output: string): Entry<Attributes> {
  const symmetric = points === others;
  const params = (shapes: Readonly<Record<string, Shape>>) => {
    const bRows = rows(shapes[symmetric ? 'a' : 'b'] as Shape);
    return {
      pointRows: rows(shapes[points] as Shape),
      otherRows: rows(shapes[others] as Shape),
      columns: columns(shapes.a as Shape),
      rowStep: points === 'a' ? bRows : 1,
      columnStep: points === 'a' ? 1 : bRows,
      symmetric: symmetric ? 1 : 0,
    };
  };
  const launch = (shapes: Readonly<Record<string, Shape>>) => ({
    invocations: rows(shapes[points] as Shape) * Math.ceil(columns(shapes.a as Shape) / 4),
  });
  return {
    inputs: symmetric ? ['a', 'dy'] : ['a', 'b', 'dy'],
    output,
    strided,
    shape(shapes) {
      const b = shapes[symmetric ? 'a' : 'b'] as Shape;
      requireEqual('pairwiseDistance', 'dy', shapes.dy as Shape, [(shapes.a as Shape)[0] as number, b[0] as number]);
      return shapes[points] as Shape;
    },
    params,
    launch,
    lower(shapes): Lowering {
      return {
        steps: [
          {
            kernel: 'gather',
            tensors: { dy: 'dy', list: 'pairs' },
            launch: { invocations: rows(shapes[points] as Shape) },
          },
          { kernel: 'gradient', tensors: { points, others, pairs: 'pairs', dpoints: output }, launch: launch(shapes) },
        ],
        scratch: { pairs: 2 * size(shapes.dy as Shape) },
      };
    },
    multiplyAdds: (shapes) => size(shapes.a as Shape) * rows(shapes[symmetric ? 'a' : 'b'] as Shape),
  };
}

const flat = (x: Shape) => ({ elements: size(x) });

const squareRoot: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  shape: ({ x }) => x as Shape,
  params: ({ x }) => flat(x as Shape),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  gradient: ({ y, dy }) => ({ x: y.graph.apply(pairwiseDistanceOperator, 'squareRootGradient', { output: y, dy }) }),
};

/** dx = dy / (2 output), and 0 where the output is 0: the paper's squared distances need none of this, plain ones do. */
const squareRootGradient: Entry<Attributes> = {
  inputs: ['output', 'dy'],
  output: 'dx',
  shape({ output, dy }) {
    requireEqual('pairwiseDistance.squareRootGradient', 'dy', dy as Shape, output as Shape);
    return output as Shape;
  },
  params: ({ output }) => flat(output as Shape),
  launch: ({ output }) => ({ invocations: size(output as Shape) }),
};

export const pairwiseDistanceOperator = defineOperator({
  name: 'pairwiseDistance',
  params: {
    aRows: 'u32',
    bRows: 'u32',
    columns: 'u32',
    pointRows: 'u32',
    otherRows: 'u32',
    rowStep: 'u32',
    columnStep: 'u32',
    symmetric: 'u32',
    elements: 'u32',
  },
  entries: {
    forward,
    self,
    aGradient: gradient('a', 'b', 'da'),
    bGradient: gradient('b', 'a', 'db'),
    selfGradient: gradient('a', 'a', 'da'),
    squareRoot,
    squareRootGradient,
  },
});

/**
 * Squared Euclidean distance of every row of `a` to every row of `b` (default: `a` itself): a [N, D], b [M, D] -> [N, M].
 *
 * Summed from differences, never as |a|^2 + |b|^2 - 2ab, which cancels for near pairs: every value is >= 0, a row's distance to
 * itself is exactly 0, and the matrix of a set with itself is symmetric bit for bit. Unit rows give values in [0, 4].
 * Gradient: da_i = 2 sum_j dy_ij (a_i - b_j); entries dy_ij that are 0 cost next to nothing, so a loss over few pairs is cheap.
 *
 * `squared: false` takes the square root; its gradient at distance 0 is 0.
 * Source: Schroff et al. 2015, section 3.1. @throws 'input' when the columns differ.
 */
export function pairwiseDistance(a: Value, b: Value = a, { squared = true }: { squared?: boolean } = {}): Value {
  const y =
    a === b
      ? a.graph.apply(pairwiseDistanceOperator, 'self', { a })
      : a.graph.apply(pairwiseDistanceOperator, 'forward', { a, b });
  return squared ? y : a.graph.apply(pairwiseDistanceOperator, 'squareRoot', { x: y });
}
