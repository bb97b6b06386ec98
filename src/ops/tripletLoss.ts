import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Lowering, type Shapes } from '../graph/operator.ts';
import { requireEqual, requireRank, type Shape } from '../graph/shape.ts';

/** How the losses of triplets become one number: their sum (the paper), their mean, or the mean over those above 0. */
export type TripletReduction = 'sum' | 'mean' | 'active-mean';

interface TripletLoss extends Attributes {
  readonly margin: number;
  readonly softMargin: boolean;
  readonly scale: number;
  readonly reduction: TripletReduction;
}

const reductions: readonly TripletReduction[] = ['sum', 'mean', 'active-mean'];

/** What stands where in `summary`. Means of nothing are 0. */
export const tripletSummary = {
  /** The reduced loss. */
  loss: 0,
  /** Triplets selected, and how many of them have a loss above 0. */
  triplets: 1,
  active: 2,
  /** Ordered pairs of one person in the batch, selected or not. */
  pairs: 3,
  /** Mean distance of pairs of one person, and of strangers. */
  meanPositive: 4,
  meanNegative: 5,
  /** 1, 1 / triplets or 1 / active. */
  factor: 6,
  /** Ordered pairs of strangers. */
  strangers: 7,
} as const;

const SUMMARY = 8;

function check(shapes: Shapes, { margin, scale }: TripletLoss): number {
  const { distances, labels, choice } = shapes;
  requireRank('tripletLoss', 'distances', distances as Shape, 2);
  const count = (distances as Shape)[0] as number;
  requireEqual('tripletLoss', 'distances', distances as Shape, [count, count]);
  requireEqual('tripletLoss', 'labels', labels as Shape, [count]);
  requireEqual('tripletLoss', 'choice', choice as Shape, [count, count]);
  for (const [name, value] of Object.entries({ margin, scale })) {
    if (!(value > 0 && Number.isFinite(value))) {
      throw new FaceNetError('input', `tripletLoss: ${name} must be a number above 0, got ${value}.`);
    }
  }
  return count;
}

const params = ({ distances }: Shapes, { margin, softMargin, scale, reduction }: TripletLoss) => ({
  count: (distances as Shape)[0] as number,
  margin,
  softMargin: softMargin ? 1 : 0,
  scale,
  reduction: reductions.indexOf(reduction),
});

/** Invocations that divide the columns of one anchor in the gradient, as in the shader. */
const SHARES = 4;

const anchors = ({ distances }: Shapes) => ({ invocations: (distances as Shape)[0] as number });

const summary: Entry<TripletLoss> = {
  inputs: ['distances', 'labels', 'choice'],
  output: 'summary',
  shape(shapes, attributes) {
    check(shapes, attributes);
    return [SUMMARY];
  },
  params,
  launch: anchors,
  lower: (shapes): Lowering => ({
    steps: [
      {
        kernel: 'anchors',
        tensors: { distances: 'distances', labels: 'labels', choice: 'choice', perAnchor: 'perAnchor' },
        launch: anchors(shapes),
      },
      { kernel: 'combine', tensors: { perAnchor: 'perAnchor', result: 'summary' }, launch: { workgroups: [1] } },
    ],
    scratch: { perAnchor: SUMMARY * ((shapes.distances as Shape)[0] as number) },
  }),
};

/** The first number of the summary; distances, labels and choice are there for the gradient. */
const forward: Entry<TripletLoss> = {
  inputs: ['summary', 'distances', 'labels', 'choice'],
  output: 'y',
  shape: () => [1],
  params,
  launch: () => ({ invocations: 1 }),
  lower: () => ({
    steps: [{ kernel: 'forward', tensors: { summary: 'summary', result: 'y' }, launch: { workgroups: [1] } }],
  }),
  gradient: ({ y, dy, inputs: { summary: totals, distances, labels, choice }, attributes }) => ({
    distances: y.graph.apply(
      tripletLossOperator,
      'distanceGradient',
      { distances, labels, choice, summary: totals, dy },
      attributes,
    ),
  }),
};

const distanceGradient: Entry<TripletLoss> = {
  inputs: ['distances', 'labels', 'choice', 'summary', 'dy'],
  output: 'ddistances',
  shape({ distances, dy }) {
    requireEqual('tripletLoss.distanceGradient', 'dy', dy as Shape, [1]);
    return distances as Shape;
  },
  params,
  launch: ({ distances }) => ({ invocations: SHARES * ((distances as Shape)[0] as number) }),
};

export const tripletLossOperator = defineOperator({
  name: 'tripletLoss',
  params: { count: 'u32', margin: 'f32', softMargin: 'u32', scale: 'f32', reduction: 'u32' },
  entries: { summary, forward, distanceGradient },
});

export interface TripletLossOptions {
  /** In units of the distances. Default 0.2, the paper's for squared distances. Bounds "every semi-hard negative" of a selection as well. */
  readonly margin?: number;
  /** ln(1 + exp(scale * (positive - negative))) in place of the hinge: never 0, so every triplet is active. Default false. */
  readonly softMargin?: boolean;
  /** Of the soft margin. Default 1. */
  readonly scale?: number;
  /** Default 'active-mean'. */
  readonly reduction?: TripletReduction;
}

/**
 * Triplet loss over a selection: for each triplet (a, p, n) the hinge max(0, d(a, p) - d(a, n) + margin), or the soft margin.
 *
 * distances [N, N] (pairwiseDistance), labels i32 [N], choice i32 [N, N] (tripletSelection) -> loss [1], and `summary` [8] with what a
 * training log needs (`tripletSummary`); counts are exact to 2^24. Without a triplet, or without an active one, the loss and all
 * gradients are 0. The gradient goes to the distances, one signed count (or weight) a pair, and from there to the embeddings.
 *
 * Source: Schroff et al. 2015, equation 3; soft margin: Hermans et al. 2017. @throws 'input' when shapes do not fit.
 */
export function tripletLoss(
  distances: Value,
  labels: Value,
  choice: Value,
  { margin = 0.2, softMargin = false, scale = 1, reduction = 'active-mean' }: TripletLossOptions = {},
): { loss: Value; summary: Value } {
  if (!reductions.includes(reduction)) {
    throw new FaceNetError(
      'input',
      `tripletLoss: reduction must be one of ${reductions.join(', ')}, got ${reduction}.`,
    );
  }
  for (const [name, value] of Object.entries({ labels, choice })) {
    if (value.dtype !== 'i32') throw new FaceNetError('input', `tripletLoss: ${name} must be i32, got ${value.dtype}.`);
  }
  const attributes: TripletLoss = { margin, softMargin, scale, reduction };
  const { graph } = distances;
  const totals = graph.apply(tripletLossOperator, 'summary', { distances, labels, choice }, attributes);
  return {
    loss: graph.apply(tripletLossOperator, 'forward', { summary: totals, distances, labels, choice }, attributes),
    summary: totals,
  };
}
