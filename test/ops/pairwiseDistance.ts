import { pairwiseDistance, pairwiseDistanceOperator } from '../../src/ops/pairwiseDistance.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

/** Calls back with every pair and column: indices into a, into b, and into y. */
function each({ a, b = a }: Tensors, columns: number, visit: (ai: number, bi: number, pair: number) => void): void {
  const others = b!.length / columns;
  for (let i = 0; i < a!.length / columns; i++) {
    for (let j = 0; j < others; j++) {
      for (let c = 0; c < columns; c++) visit(i * columns + c, j * columns + c, i * others + j);
    }
  }
}

function distances(inputs: Tensors, columns: number): Float64Array {
  const { a, b = a } = inputs;
  const y = new Float64Array((a!.length / columns) * (b!.length / columns));
  each(inputs, columns, (i, j, pair) => {
    y[pair]! += (a![i]! - b![j]!) ** 2;
  });
  return y;
}

/** dy, or what arrives behind the square root; 0 where the root is. */
const squaredGradient = (inputs: Tensors, dy: Float64Array, columns: number, squared: unknown) =>
  squared === false
    ? distances(inputs, columns).map((square, pair) => (square > 0 ? dy[pair]! / (2 * Math.sqrt(square)) : 0))
    : dy;

export const spec: OperatorSpec = {
  operator: pairwiseDistanceOperator,
  inputs: ['a', 'b'],
  build: ({ a, b }, options) => pairwiseDistance(a!, b, options),
  forward(inputs, shapes, { squared = true }) {
    const y = distances(inputs, shapes.a![1]!);
    return squared ? y : y.map(Math.sqrt);
  },
  gradient(inputs, dy, shapes, { squared }) {
    const { a, b = a } = inputs;
    const columns = shapes.a![1]!;
    const weights = squaredGradient(inputs, dy, columns, squared);
    const da = new Float64Array(a!.length);
    const db = inputs.b ? new Float64Array(b!.length) : da;
    each(inputs, columns, (i, j, pair) => {
      const slope = 2 * weights[pair]! * (a![i]! - b![j]!);
      da[i]! += slope;
      db[j]! -= slope;
    });
    return { a: da, b: db };
  },
  // y: `columns` positive terms, each with a rounding of the difference (twice, by the square), of the product and of the sum;
  // the root halves that. Gradients: as many terms as partners, each rounded in the weight, the difference, the product and the sum,
  // relative to the sum of their magnitudes; behind a root the weight carries the forward error as well.
  bound(what, shapes, { squared }) {
    const [rows, columns] = shapes.a as [number, number];
    const forward = (columns + 4) * UNIT;
    if (what === 'y') return forward;
    const partners = what === 'da' ? (shapes.b?.[0] ?? 2 * rows) : rows;
    return (partners + 5) * UNIT + (squared === false ? forward + 4 * UNIT : 0);
  },
  magnitude(what, inputs, dy, shapes, { squared }) {
    if (what === 'y') return 0;
    const { a, b = a } = inputs;
    const weights = squaredGradient(inputs, dy, shapes.a![1]!, squared);
    const da = new Float64Array(a!.length);
    const db = inputs.b ? new Float64Array(b!.length) : da;
    each(inputs, shapes.a![1]!, (i, j, pair) => {
      const slope = Math.abs(2 * weights[pair]! * (a![i]! - b![j]!));
      da[i]! += slope;
      db[j]! += slope;
    });
    return Math.max(...(what === 'da' ? da : db));
  },
  cases: [
    { why: 'one pair of one number', shapes: { a: [1, 1], b: [1, 1] } },
    { why: 'not a multiple of any block', shapes: { a: [5, 7], b: [3, 7] } },
    { why: 'primes', shapes: { a: [13, 11], b: [17, 11] } },
    { why: 'embeddings', shapes: { a: [6, 128], b: [10, 128] } },
    { why: 'a set with itself', shapes: { a: [11, 13] } },
    { why: 'more rows than one gathering of the gradient', shapes: { a: [2, 3], b: [515, 3] } },
    { why: 'a large set with itself', shapes: { a: [259, 2] } },
    { why: 'equal rows: distance 0, gradient 0', shapes: { a: [4, 3] }, fill: { a: (i) => i % 3 } },
    { why: 'plain distances', shapes: { a: [4, 5], b: [3, 5] }, options: { squared: false } },
    {
      why: 'plain distances of equal rows: gradient 0, not infinite',
      shapes: { a: [4, 3] },
      options: { squared: false },
      fill: { a: (i) => (i % 3) + (i > 8 ? 1 : 0) },
    },
    { why: 'channel ranges', shapes: { a: [3, 8], b: [5, 8] }, slices: ['a', 'b'] },
  ],
};
