import { FaceNetError } from '../../errors.ts';
import type { NumberList } from '../distance.ts';
import { normalQuantile } from './statistics.ts';

/** Distances of pairs of one person (`same`) and of two people (`different`), each sorted upwards. */
export interface PairDistances {
  readonly same: Float64Array;
  readonly different: Float64Array;
}

/** What a threshold accepts. A pair is accepted when its distance <= threshold. */
export interface RatesAtThreshold {
  readonly threshold: number;
  readonly trueAccepts: number;
  readonly falseAccepts: number;
  /** Validation rate: trueAccepts / pairs of one person. The paper's VAL(d). */
  readonly val: number;
  /** False accept rate: falseAccepts / pairs of two people. The paper's FAR(d). */
  readonly far: number;
}

/** The most that can be accepted at a false accept rate. */
export interface RatesAtFar extends RatesAtThreshold {
  readonly targetFar: number;
  /** Every threshold in [thresholdFrom, thresholdBelow) accepts the same pairs; `threshold` lies in the middle. */
  readonly thresholdFrom: number;
  readonly thresholdBelow: number;
  /** 1 / pairs of two people: the smallest FAR above 0 that these pairs can show. */
  readonly resolution: number;
  /** Said when the target is below the resolution. */
  readonly note?: string;
}

export interface CurvePoint {
  readonly threshold: number;
  readonly val: number;
  readonly far: number;
}

/** Copies and sorts the distances. Throws 'input' with the index of a distance that is negative or not finite. */
export function pairDistances(same: NumberList, different: NumberList): PairDistances {
  return { same: sortedDistances(same, 'same'), different: sortedDistances(different, 'different') };
}

function sortedDistances(distances: NumberList, kind: string): Float64Array {
  for (let i = 0; i < distances.length; i++) {
    const distance = distances[i]!;
    if (!(distance >= 0 && Number.isFinite(distance))) {
      throw new FaceNetError(
        'input',
        `${kind} distances: must be finite and 0 or more, got ${distance} at index ${i}. Leave this pair out.`,
        { index: i },
      );
    }
  }
  return Float64Array.from(distances).sort();
}

/** How many of the sorted values are <= limit. */
export function countUpTo(sorted: Float64Array, limit: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** How many of the sorted values are < limit. */
export function countBelow(sorted: Float64Array, limit: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Share of the pairs of one person accepted at a threshold: the paper's VAL. Throws 'input' when there is no such pair. */
export function validationRate(pairs: PairDistances, threshold: number): number {
  needSame(pairs.same.length);
  return countUpTo(pairs.same, threshold) / pairs.same.length;
}

/** Share of the pairs of two people accepted at a threshold: the paper's FAR. Throws 'input' when there is no such pair. */
export function falseAcceptRate(pairs: PairDistances, threshold: number): number {
  needDifferent(pairs.different.length);
  return countUpTo(pairs.different, threshold) / pairs.different.length;
}

/** How many of n pairs of two people may be accepted at a target FAR; target x n within rounding of a whole number counts as it. */
export function allowedFalseAccepts(targetFar: number, n: number): number {
  if (!(targetFar >= 0 && targetFar <= 1)) {
    throw new FaceNetError('input', `FAR: must lie from 0 to 1, got ${targetFar}. Give a rate such as 1e-3.`);
  }
  const exact = targetFar * n;
  const nearest = Math.round(exact);
  return Math.abs(exact - nearest) <= 1e-12 * Math.max(1, exact) ? nearest : Math.floor(exact);
}

/**
 * VAL at a false accept rate, by order statistics: the largest threshold whose FAR does not exceed the target. Ties are accepted
 * or refused together; no grid, no interpolation. Throws 'input' when a kind of pair is missing or the target is no rate.
 */
export function valAtFar(pairs: PairDistances, targetFar: number): RatesAtFar {
  const { same, different } = pairs;
  needSame(same.length);
  needDifferent(different.length);
  const allowed = allowedFalseAccepts(targetFar, different.length);
  const thresholdBelow = allowed < different.length ? different[allowed]! : Number.POSITIVE_INFINITY;
  const trueAccepts = countBelow(same, thresholdBelow);
  const falseAccepts = countBelow(different, thresholdBelow);
  const thresholdFrom = Math.max(
    trueAccepts > 0 ? same[trueAccepts - 1]! : Number.NEGATIVE_INFINITY,
    falseAccepts > 0 ? different[falseAccepts - 1]! : Number.NEGATIVE_INFINITY,
  );
  return ratesAtFar({
    targetFar,
    thresholdFrom,
    thresholdBelow,
    trueAccepts,
    falseAccepts,
    sameCount: same.length,
    differentCount: different.length,
  });
}

/** Puts counts into the form of RatesAtFar; shared with the evaluation over all pairs, which counts in another way. */
export function ratesAtFar(counts: {
  targetFar: number;
  thresholdFrom: number;
  thresholdBelow: number;
  trueAccepts: number;
  falseAccepts: number;
  sameCount: number;
  differentCount: number;
}): RatesAtFar {
  const { targetFar, thresholdFrom, thresholdBelow, trueAccepts, falseAccepts } = counts;
  const resolution = 1 / counts.differentCount;
  // FAR 0 is an exact demand, not one that needs resolving.
  const unresolved = targetFar > 0 && targetFar < resolution;
  return {
    targetFar,
    thresholdFrom,
    thresholdBelow,
    trueAccepts,
    falseAccepts,
    resolution,
    threshold: thresholdWithin(thresholdFrom, thresholdBelow),
    val: trueAccepts / counts.sameCount,
    far: falseAccepts / counts.differentCount,
    ...(unresolved && { note: `target FAR ${targetFar} is below the resolution ${Number(resolution.toPrecision(3))}` }),
  };
}

/**
 * One threshold of [from, below): the middle, which keeps away from both neighbours; `from` where there is nothing above. When nothing at
 * all is accepted (from = -Infinity) half of the first refused distance, or -1 (accepts nothing) when that is 0.
 */
export function thresholdWithin(from: number, below: number): number {
  if (from === Number.NEGATIVE_INFINITY) return below > 0 && below < Number.POSITIVE_INFINITY ? below / 2 : -1;
  if (below === Number.POSITIVE_INFINITY) return from;
  const middle = from + (below - from) / 2;
  return middle < below ? middle : from;
}

/**
 * The ROC: one point for every distinct distance. `points` thins it to about so many, keeping both ends and the steps that matter
 * (evenly spaced by rank on the FAR axis and on the VAL axis).
 */
export function rocCurve(pairs: PairDistances, points = Number.POSITIVE_INFINITY): CurvePoint[] {
  const { same, different } = pairs;
  needSame(same.length);
  needDifferent(different.length);
  const curve: CurvePoint[] = [];
  let accepted = 0;
  let mistaken = 0;
  const step = 2 / Math.max(2, points);
  let keptVal = Number.NEGATIVE_INFINITY;
  let keptFar = Number.NEGATIVE_INFINITY;
  while (accepted < same.length || mistaken < different.length) {
    const threshold = Math.min(
      same[accepted] ?? Number.POSITIVE_INFINITY,
      different[mistaken] ?? Number.POSITIVE_INFINITY,
    );
    while (accepted < same.length && same[accepted] === threshold) accepted++;
    while (mistaken < different.length && different[mistaken] === threshold) mistaken++;
    const val = accepted / same.length;
    const far = mistaken / different.length;
    const last = accepted === same.length && mistaken === different.length;
    if (
      points === Number.POSITIVE_INFINITY ||
      curve.length === 0 ||
      last ||
      val - keptVal >= step ||
      far - keptFar >= step
    ) {
      curve.push({ threshold, val, far });
      keptVal = val;
      keptFar = far;
    }
  }
  return curve;
}

/** Area under the ROC: the chance that a pair of one person is nearer than a pair of two, ties counted half. Exact. */
export function areaUnderRoc(pairs: PairDistances): number {
  const { same, different } = pairs;
  needSame(same.length);
  needDifferent(different.length);
  let below = 0;
  let upTo = 0;
  let twice = 0;
  // For every pair of two people: the pairs of one person below it, and half of those equal to it.
  for (const distance of different) {
    while (below < same.length && same[below]! < distance) below++;
    while (upTo < same.length && same[upTo]! <= distance) upTo++;
    twice += below + upTo;
  }
  return twice / 2 / (same.length * different.length);
}

/** Equal error rate: where FAR = 1 - VAL on the ROC with straight lines between its points (the line of areaUnderRoc()). */
export function equalErrorRate(pairs: PairDistances): number {
  const curve = rocCurve(pairs);
  // The last point has FAR 1 and VAL 1, so that one is always found.
  const after = curve.findIndex(({ val, far }) => far >= 1 - val);
  return crossing(curve[after - 1] ?? { val: 0, far: 0 }, curve[after]!);
}

/** FAR where the line from `before` to `after` meets FAR = 1 - VAL. */
export function crossing(before: { val: number; far: number }, after: { val: number; far: number }): number {
  const gapBefore = 1 - before.val - before.far; // > 0
  const gapAfter = 1 - after.val - after.far; // <= 0
  return before.far + ((after.far - before.far) * gapBefore) / (gapBefore - gapAfter);
}

/** A point of a DET curve: both error rates, and their normal deviates (the curve's axes). */
export interface DetPoint {
  readonly threshold: number;
  readonly far: number;
  readonly falseRejectRate: number;
  readonly x: number;
  readonly y: number;
}

/** The ROC as detection error trade-off; points with a rate of exactly 0 or 1, which lie at infinity, are left out. */
export function detCurve(roc: readonly CurvePoint[]): DetPoint[] {
  return roc
    .filter(({ val, far }) => val > 0 && val < 1 && far > 0 && far < 1)
    .map(({ threshold, val, far }) => ({
      threshold,
      far,
      falseRejectRate: 1 - val,
      x: normalQuantile(far),
      y: normalQuantile(1 - val),
    }));
}

export function needSame(count: number): void {
  if (count === 0)
    throw new FaceNetError('input', 'VAL: needs pairs of one person, got none. Add some, or ask for the FAR only.');
}

export function needDifferent(count: number): void {
  if (count === 0)
    throw new FaceNetError('input', 'FAR: needs pairs of two people, got none. Add some, or ask for the VAL only.');
}
