import { FaceNetError } from '../../errors.ts';
import { thresholdWithin } from './rates.ts';
import { type Summary, summarise } from './statistics.ts';

/** A pair of a fold; `distance` is null when one of its images is missing. */
export interface FoldPair {
  readonly distance: number | null;
  readonly same: boolean;
}

export interface FoldResult {
  readonly fold: number;
  readonly pairsTested: number;
  /** Accuracy on all the other folds at the threshold chosen there. */
  readonly trainAccuracy: number;
  /** Thresholds in [thresholdFrom, thresholdBelow) hold the best ones; `threshold` is one of the best. */
  readonly thresholdFrom: number;
  readonly thresholdBelow: number;
  readonly threshold: number;
  readonly accuracy: number;
}

export interface FoldEvaluation extends Summary {
  readonly folds: readonly FoldResult[];
  readonly skipped: number;
  /** Which pairs were skipped, when some were. */
  readonly note?: string;
}

/**
 * Accuracy by LFW's protocol (View 2): for each fold the threshold that is best on all other folds, tested on this one. A missing
 * pair leaves its fold smaller; no pair moves to another fold. A fold with no pair left is not tested. Throws 'input' for fewer than two
 * folds with pairs, and for distances that are negative or not finite.
 */
export function foldAccuracy(folds: readonly (readonly FoldPair[])[]): FoldEvaluation {
  const kept = folds.map((pairs, fold) =>
    pairs.filter((pair): pair is { distance: number; same: boolean } => {
      if (pair.distance !== null && !(pair.distance >= 0 && Number.isFinite(pair.distance))) {
        throw new FaceNetError(
          'input',
          `fold ${fold}: distances must be finite and 0 or more, got ${pair.distance}. Give null for a missing pair.`,
        );
      }
      return pair.distance !== null;
    }),
  );
  const total = folds.reduce((sum, pairs) => sum + pairs.length, 0);
  const tested = kept.flatMap((pairs, fold) => (pairs.length > 0 ? [fold] : []));
  const skippedIn = folds.flatMap((pairs, fold) => (kept[fold]!.length < pairs.length ? [fold] : []));
  const skipped = total - kept.reduce((sum, pairs) => sum + pairs.length, 0);
  if (tested.length < 2) {
    throw new FaceNetError(
      'input',
      `folds: at least two must have pairs, got ${tested.length} of ${folds.length} (${skipped} of ${total} pairs skipped). Check where the images are looked for.`,
    );
  }
  const results = tested.map((fold): FoldResult => {
    const best = bestThreshold(kept.flatMap((pairs, other) => (other === fold ? [] : pairs)));
    const pairs = kept[fold]!;
    const right = pairs.filter(({ distance, same }) => distance <= best.threshold === same).length;
    return { fold, pairsTested: pairs.length, ...best, accuracy: right / pairs.length };
  });
  return {
    ...summarise(results.map(({ accuracy }) => accuracy)),
    folds: results,
    skipped,
    ...(skipped > 0 && {
      note: `${skipped} of ${total} pairs skipped, fold${skippedIn.length > 1 ? 's' : ''} ${skippedIn.join(', ')}`,
    }),
  };
}

/**
 * The thresholds of greatest accuracy among the observed distances. Where several stretches are equally good, `threshold` is the middle
 * of the widest, of equally wide ones the lowest.
 */
export function bestThreshold(pairs: readonly { distance: number; same: boolean }[]): {
  trainAccuracy: number;
  thresholdFrom: number;
  thresholdBelow: number;
  threshold: number;
} {
  if (pairs.length === 0)
    throw new FaceNetError(
      'input',
      'threshold: needs pairs to choose from, got none. Check where the images are looked for.',
    );
  const sorted = [...pairs].sort((a, b) => a.distance - b.distance);
  // Refusing all is right for every pair of two people; each accepted pair adds or takes one.
  let right = sorted.filter(({ same }) => !same).length;
  let best = -1;
  let stretches: { from: number; below: number }[] = [];
  for (let i = 0; i < sorted.length; ) {
    const from = sorted[i]!.distance;
    for (; i < sorted.length && sorted[i]!.distance === from; i++) right += sorted[i]!.same ? 1 : -1;
    const below = i < sorted.length ? sorted[i]!.distance : Number.POSITIVE_INFINITY;
    if (right > best) {
      best = right;
      stretches = [];
    }
    if (right === best) {
      const last = stretches[stretches.length - 1];
      if (last?.below === from) last.below = below;
      else stretches.push({ from, below });
    }
  }
  const width = ({ from, below }: { from: number; below: number }) =>
    below === Number.POSITIVE_INFINITY ? 0 : below - from;
  const widest = stretches.reduce((a, b) => (width(b) > width(a) ? b : a));
  return {
    trainAccuracy: best / sorted.length,
    thresholdFrom: stretches[0]!.from,
    thresholdBelow: stretches[stretches.length - 1]!.below,
    threshold: thresholdWithin(widest.from, widest.below),
  };
}
