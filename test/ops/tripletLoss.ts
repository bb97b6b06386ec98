import { type TripletLossOptions, tripletLoss, tripletLossOperator } from '../../src/ops/tripletLoss.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

/** Calls back with every selected triplet: indices of d(a, p) and d(a, n) in the matrix. */
export function eachTriplet(
  { distances, labels, choice }: Tensors,
  margin: number,
  visit: (positive: number, negative: number) => void,
): void {
  const count = labels!.length;
  for (let a = 0; a < count; a++) {
    for (let p = 0; p < count; p++) {
      if (p === a || labels![p] !== labels![a]) continue;
      const code = choice![a * count + p]!;
      for (let n = 0; n < count; n++) {
        const [near, far] = [distances![a * count + p]!, distances![a * count + n]!];
        const semiHard = far > near && far < near + margin;
        const chosen = labels![n] !== labels![a] && (code === n || code === -3 || (code === -4 && semiHard));
        if (chosen) visit(a * count + p, a * count + n);
      }
    }
  }
}

/** Loss and slopes in float64. */
export function reference(
  inputs: Tensors,
  { margin = 0.2, softMargin = false, scale = 1, reduction = 'active-mean' }: TripletLossOptions,
) {
  const { distances } = inputs;
  const slopes = new Float64Array(distances!.length);
  let [loss, triplets, active] = [0, 0, 0];
  eachTriplet(inputs, margin, (positive, negative) => {
    const difference = distances![positive]! - distances![negative]!;
    const term = softMargin ? Math.log1p(Math.exp(scale * difference)) : Math.max(0, difference + margin);
    const slope = softMargin ? scale / (1 + Math.exp(-scale * difference)) : Number(term > 0);
    triplets++;
    if (term > 0) active++;
    loss += term;
    slopes[positive]! += slope;
    slopes[negative]! -= slope;
  });
  const count = { sum: 1, mean: triplets, 'active-mean': active }[reduction];
  const factor = count > 0 ? 1 / count : 0;
  return { loss: loss * factor, slopes: slopes.map((slope) => slope * factor), triplets, active, factor };
}

/** People by position: 0 0 1 1 2 ... */
const twos = (i: number) => Math.floor(i / 2);

export const spec: OperatorSpec = {
  operator: tripletLossOperator,
  inputs: ['distances', 'labels', 'choice'],
  integers: ['labels', 'choice'],
  build: ({ distances, labels, choice }, options) => tripletLoss(distances!, labels!, choice!, options).loss,
  forward: (inputs, _, options) => Float64Array.of(reference(inputs, options).loss),
  gradient: (inputs, dy, _, options) => ({
    distances: reference(inputs, options).slopes.map((slope) => slope * dy[0]!),
  }),
  // A term carries three roundings of distances up to 2, the soft one six more and the error of exp, up to (3 + 2 |z|) units of values that fall
  // faster; sums of non-negative terms: a chain of at most `count` in an anchor, one of `count` anchors. Slopes are counts times one factor, or soft.
  bound: (what, shapes, { softMargin, margin = 0.2 }) =>
    (softMargin ? 16 : what === 'y' ? 6 / (margin as number) : 4) * UNIT + 2 * shapes.labels![0]! * UNIT,
  cases: [
    {
      why: 'one image: no triplet, loss and gradient 0',
      shapes: { distances: [1, 1], labels: [1], choice: [1, 1] },
      fill: { choice: () => -2 },
    },
    {
      why: 'a hinge',
      shapes: { distances: [3, 3], labels: [3], choice: [3, 3] },
      options: { margin: 1.5 },
      fill: { distances: (_, uniform) => uniform() + 1, labels: twos, choice: () => 2 },
    },
    {
      why: 'every triplet, sum',
      shapes: { distances: [7, 7], labels: [7], choice: [7, 7] },
      options: { reduction: 'sum', margin: 0.5 },
      fill: { distances: (_, uniform) => uniform() + 1, labels: (i) => i % 3, choice: () => -3 },
    },
    {
      why: 'every triplet, mean',
      shapes: { distances: [11, 11], labels: [11], choice: [11, 11] },
      options: { reduction: 'mean' },
      fill: { distances: (_, uniform) => uniform() + 1, labels: twos, choice: () => -3 },
    },
    {
      why: 'every semi-hard triplet',
      shapes: { distances: [13, 13], labels: [13], choice: [13, 13] },
      options: { margin: 0.4 },
      fill: { distances: (_, uniform) => uniform() + 1, labels: (i) => i % 4, choice: () => -4 },
    },
    {
      why: 'pairs without a negative',
      shapes: { distances: [6, 6], labels: [6], choice: [6, 6] },
      fill: {
        distances: (_, uniform) => uniform() + 1,
        labels: twos,
        choice: (i) => [5, 5, -1, -1, 0, 0][Math.floor(i / 6)]!,
      },
    },
    {
      why: 'no active triplet: 0, never 0/0',
      shapes: { distances: [4, 4], labels: [4], choice: [4, 4] },
      fill: { distances: (i) => (twos(i % 4) === twos(Math.floor(i / 4)) ? 0 : 3), labels: twos, choice: () => -3 },
    },
    {
      why: 'soft margin',
      shapes: { distances: [9, 9], labels: [9], choice: [9, 9] },
      options: { softMargin: true, reduction: 'mean' },
      fill: { distances: (_, uniform) => uniform() + 1, labels: twos, choice: () => -3 },
    },
    {
      why: 'soft margin, steep',
      shapes: { distances: [9, 9], labels: [9], choice: [9, 9] },
      options: { softMargin: true, scale: 40, reduction: 'sum' },
      fill: { distances: (_, uniform) => uniform() + 1, labels: twos, choice: () => -3 },
    },
    {
      why: 'labels that float32 cannot tell apart',
      shapes: { distances: [4, 4], labels: [4], choice: [4, 4] },
      fill: { distances: (_, uniform) => uniform() + 1, labels: (i) => 16777216 + twos(i), choice: () => -3 },
    },
    {
      why: 'more anchors and pairs than the trees are wide, one negative each',
      shapes: { distances: [263, 263], labels: [263], choice: [263, 263] },
      fill: {
        distances: (_, uniform) => uniform() + 1,
        labels: (i) => Number(i === 100),
        choice: (i) => (i % 263 === 100 ? -2 : 100),
      },
    },
  ],
};
