import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Shapes } from '../graph/operator.ts';
import { requireEqual, requireRank, type Shape, text } from '../graph/shape.ts';

/**
 * Which negative a rule gives to an anchor-positive pair (a, p); d is the distance, "within the margin" means d(a, n) < d(a, p) + margin.
 *
 * - `semi-hard` (default; Schroff et al. 2015, section 3.2): beyond the positive and within the margin, the closest of them. The
 *   paper does not say which one; the closest needs no random numbers and gives the largest loss of them.
 * - `semi-hard-random`: of the same candidates a random one.   `semi-hard-all`: each of them.
 * - `semi-hard-or-easiest` (TensorFlow Addons): the closest beyond the positive, margin or not; if there is none, the farthest of all.
 * - `random-violator` (facenet by Sandberg, OpenFace): a random one within the margin, closer than the positive or not; only pairs
 *   with a < p, as they do.
 * - `random`: any negative, at random: the easy start of a curriculum.
 * - `batch-hard` (Hermans et al. 2017): one triplet an anchor, its farthest positive and its closest negative. Collapses when it
 *   starts from random weights.
 * - `batch-all`: every triplet of the batch.
 */
export type SelectionRule =
  | 'semi-hard'
  | 'semi-hard-random'
  | 'semi-hard-all'
  | 'semi-hard-or-easiest'
  | 'random-violator'
  | 'random'
  | 'batch-hard'
  | 'batch-all';

/** What stands in `choice[a, p]` where it is not the index of a negative. */
export const choiceCode = { none: -1, noPair: -2, everyNegative: -3, everySemiHard: -4 } as const;

export interface TripletSelection extends Attributes {
  readonly rule: SelectionRule;
  readonly margin: number;
}

/** Kernel of each rule and the numbers that make it that rule. */
const kernels: Readonly<Record<SelectionRule, { kernel: string; params: Readonly<Record<string, number>> }>> = {
  'semi-hard': { kernel: 'closest', params: { within: 1, easiest: 0 } },
  'semi-hard-random': { kernel: 'drawn', params: { beyond: 1, within: 1, unordered: 0 } },
  'semi-hard-all': { kernel: 'every', params: { code: choiceCode.everySemiHard } },
  'semi-hard-or-easiest': { kernel: 'closest', params: { within: 0, easiest: 1 } },
  'random-violator': { kernel: 'drawn', params: { beyond: 0, within: 1, unordered: 1 } },
  random: { kernel: 'drawn', params: { beyond: 0, within: 0, unordered: 0 } },
  'batch-hard': { kernel: 'hardest', params: {} },
  'batch-all': { kernel: 'every', params: { code: choiceCode.everyNegative } },
};

/** All rules. */
export const selectionRules = Object.keys(kernels) as readonly SelectionRule[];

/** Rules that draw, and need a key. */
const isDrawn = (rule: SelectionRule) => kernels[rule].kernel === 'drawn';

/** Invocations that divide the pairs of one anchor, as in the shader. */
const SHARES = 16;
const CLOSEST = 8;

const launch = ({ distances }: Shapes, { rule }: TripletSelection) => {
  const count = (distances as Shape)[0] as number;
  return {
    invocations: { closest: count * CLOSEST, drawn: count * SHARES, every: count * count, hardest: count }[
      kernels[rule].kernel
    ] as number,
  };
};

const forward: Entry<TripletSelection> = {
  inputs: ['distances', 'labels', 'key?'],
  output: 'choice',
  dtype: 'i32',
  shape({ distances, labels, key }, { rule, margin }) {
    requireRank('tripletSelection', 'distances', distances as Shape, 2);
    const [rows, columns] = distances as readonly [number, number];
    if (rows !== columns) {
      throw new FaceNetError('input', `tripletSelection: distances must be square, got ${text(distances as Shape)}.`);
    }
    requireEqual('tripletSelection', 'labels', labels as Shape, [rows]);
    if (!kernels[rule]) {
      throw new FaceNetError(
        'input',
        `tripletSelection: the rule must be one of ${Object.keys(kernels).join(', ')}, got ${rule}.`,
      );
    }
    if (!(margin > 0 && Number.isFinite(margin))) {
      throw new FaceNetError('input', `tripletSelection: margin must be a number above 0, got ${margin}.`);
    }
    if (isDrawn(rule)) {
      if (!key)
        throw new FaceNetError('input', `tripletSelection: the rule ${rule} draws and needs a key [4], got none.`);
      requireEqual('tripletSelection', 'key', key, [4]);
    }
    return distances as Shape;
  },
  params: ({ distances }, { rule, margin }) => ({
    count: (distances as Shape)[0] as number,
    margin,
    beyond: 0,
    within: 0,
    unordered: 0,
    easiest: 0,
    code: 0,
    ...kernels[rule].params,
  }),
  launch,
  lower(shapes, attributes) {
    const { kernel } = kernels[attributes.rule];
    const tensors = {
      labels: 'labels',
      choice: 'choice',
      ...(kernel === 'every' ? {} : { distances: 'distances' }),
      ...(kernel === 'drawn' ? { key: 'key' } : {}),
    };
    return { steps: [{ kernel, tensors, launch: launch(shapes, attributes) }] };
  },
};

export const tripletSelectionOperator = defineOperator({
  name: 'tripletSelection',
  params: { count: 'u32', margin: 'f32', beyond: 'u32', within: 'u32', unordered: 'u32', easiest: 'u32', code: 'i32' },
  entries: { forward },
});

export interface TripletSelectionOptions {
  readonly rule?: SelectionRule;
  /** In units of the distances. Default 0.2. */
  readonly margin?: number;
  /**
   * For rules that draw: i32 [4], the seed's two words, the step, and a number that is not 0. The negative of pair (a, p) is drawn
   * by Philox4x32-10 with counter (step, a, p, that number), so it depends on nothing else; counters ending in 0 are those of
   * `Philox` in src/graph.
   */
  readonly key?: Value | undefined;
}

/**
 * Online triplet mining on the device: distances [N, N], labels i32 [N] -> choice i32 [N, N]. choice[a, p] is the index of the negative
 * chosen for anchor a and positive p, or a `choiceCode`: not a pair of one person, a pair without a negative, or every negative.
 *
 * Ties go to the lower index. Comparisons are made in f32, so a distance that lies on a bound may be decided otherwise than in f64.
 * Memory O(N^2). Not differentiable. @throws 'input' when labels are no flat list of N, or a key is missing.
 */
export function tripletSelection(
  distances: Value,
  labels: Value,
  { rule = 'semi-hard', margin = 0.2, key }: TripletSelectionOptions = {},
): Value {
  for (const [name, value] of Object.entries({ labels, ...(key ? { key } : {}) })) {
    if (value.dtype !== 'i32')
      throw new FaceNetError('input', `tripletSelection: ${name} must be i32, got ${value.dtype}.`);
  }
  const inputs = { distances, labels, key: kernels[rule] && isDrawn(rule) ? key : undefined };
  return distances.graph.apply(tripletSelectionOperator, 'forward', inputs, { rule, margin });
}
