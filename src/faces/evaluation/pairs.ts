import { FaceNetError } from '../../errors.ts';
import type { OperatingPoint } from '../operating-point.ts';
import { defaultFars } from './all-pairs.ts';
import { type BootstrapOptions, bootstrapRates, type IdentifiedPairs, identifiedPairs } from './bootstrap.ts';
import { calibrate } from './calibration.ts';
import { bestThreshold, type FoldEvaluation, type FoldPair, foldAccuracy } from './folds.ts';
import { type GroupReport, groupReports } from './groups.ts';
import {
  areaUnderRoc,
  type CurvePoint,
  type DetPoint,
  detCurve,
  equalErrorRate,
  pairDistances,
  rocCurve,
} from './rates.ts';
import type { Interval } from './statistics.ts';

/** A pair to evaluate. */
export interface ScoredPair {
  /** Squared distance; null when one of the images could not be read or embedded. */
  readonly distance: number | null;
  readonly same: boolean;
  readonly fold?: number;
  readonly group?: string;
  /** The people in it; when every pair names them, intervals are bootstrapped over identities. */
  readonly people?: readonly [string, string];
  /** Path of the first image, shown when nothing at all could be read. */
  readonly path?: string;
}

export interface PairEvaluationOptions extends BootstrapOptions {
  /** Number of folds when the pairs name none: each kind is dealt out in order, evenly. 10 by default. */
  readonly folds?: number;
  readonly fars?: readonly number[];
  /** What the pairs are; kept in every operating point. */
  readonly source?: string;
  /** What paths are expected to look like; shown when nothing at all could be read. */
  readonly pattern?: string;
}

/** The evaluation of a list of pairs. */
export interface PairEvaluation {
  /** Mean over the folds: threshold from the others, tested on this one. */
  readonly accuracy: number;
  readonly standardError: number;
  /** Sample deviation over the folds. */
  readonly standardDeviation: number;
  /** Divided by n instead of n - 1, as OpenFace and facenet print. */
  readonly populationDeviation: number;
  /** Best threshold on all pairs together. */
  readonly threshold: number;
  readonly auc: number;
  readonly eer: number;
  readonly valAtFar: (OperatingPoint & { readonly valInterval: Interval | null })[];
  readonly roc: CurvePoint[];
  readonly det: DetPoint[];
  readonly skipped: number;
  /** Operating points of each group alone. */
  readonly groups: Record<string, OperatingPoint[]>;
  /** What the common threshold does in each group. */
  readonly groupReports: Map<string, GroupReport>;
  readonly foldResults: FoldEvaluation;
  readonly samePairs: number;
  readonly differentPairs: number;
  readonly notes: string[];
}

/**
 * Evaluates pairs as LFW does (folds keep their pairs when some are missing), and adds VAL at FAR with intervals, ROC, DET, AUC, EER and
 * groups. Throws 'input' when nothing can be read (naming the first path and the pattern), when a kind of pair is missing, or for
 * distances that are negative or not finite.
 */
export function evaluatePairs(list: Iterable<ScoredPair>, options: PairEvaluationOptions = {}): PairEvaluation {
  const { fars = defaultFars, source = 'pairs given by the user' } = options;
  const all = [...list];
  const pairs = all.filter((pair): pair is ScoredPair & { distance: number } => pair.distance !== null);
  if (pairs.length === 0) {
    throw new FaceNetError(
      'input',
      `pairs: at least one must be readable, got 0 of ${all.length}; the first path tried was ${all[0]?.path ?? 'not given'}, expected ${options.pattern ?? 'an image'}. Check the folder and the file suffix.`,
    );
  }
  const folds = foldAccuracy(foldsOf(all, options.folds ?? 10));
  const sorted = pairDistances(distancesOf(pairs, true), distancesOf(pairs, false));
  const people = identified(pairs);
  const points = fars.map((far) => calibrate(sorted, { far, source, ...(people && { people, bootstrap: options }) }));
  const intervals = people ? bootstrapRates(people, fars, [], options).val : null;
  const { threshold } = bestThreshold(pairs);
  const groups = groupReports(
    pairs.filter((pair): pair is ScoredPair & { distance: number; group: string } => pair.group !== undefined),
    threshold,
    fars,
  );
  const roc = rocCurve(sorted, 1000);
  return {
    accuracy: folds.mean,
    standardError: folds.standardError,
    standardDeviation: folds.sampleDeviation,
    populationDeviation: folds.populationDeviation,
    threshold,
    auc: areaUnderRoc(sorted),
    eer: equalErrorRate(sorted),
    valAtFar: points.map((point, i) => ({ ...point, valInterval: intervals?.[i] ?? null })),
    roc,
    det: detCurve(roc),
    skipped: folds.skipped,
    groups: Object.fromEntries([...groups].map(([group, { points: own }]) => [group, own])),
    groupReports: groups,
    foldResults: folds,
    samePairs: sorted.same.length,
    differentPairs: sorted.different.length,
    notes: [...(folds.note ? [folds.note] : []), ...points.flatMap(({ note }) => (note ? [note] : []))],
  };
}

function distancesOf(pairs: readonly (ScoredPair & { distance: number })[], same: boolean): number[] {
  return pairs.filter((pair) => pair.same === same).map(({ distance }) => distance);
}

/** The folds the pairs name, or each kind of pair dealt out in order. Missing pairs keep their places. */
function foldsOf(pairs: readonly ScoredPair[], count: number): FoldPair[][] {
  const named = pairs.filter(({ fold }) => fold !== undefined).length;
  if (named > 0 && named < pairs.length) {
    throw new FaceNetError(
      'input',
      `pairs: either all or none must name a fold, got ${named} of ${pairs.length}. Name the others' folds.`,
    );
  }
  if (named === 0 && (!Number.isInteger(count) || count < 2)) {
    throw new FaceNetError('input', `folds: must be a whole number of 2 or more, got ${count}. LFW takes 10.`);
  }
  const folds: FoldPair[][] = [];
  const totals = [pairs.filter(({ same }) => !same).length, pairs.filter(({ same }) => same).length];
  const seen = [0, 0];
  pairs.forEach((pair, index) => {
    const kind = pair.same ? 1 : 0;
    const fold = pair.fold ?? Math.floor((seen[kind]!++ * count) / totals[kind]!);
    if (!Number.isInteger(fold) || fold < 0 || fold >= 10_000) {
      throw new FaceNetError(
        'input',
        `pairs: folds must be whole numbers from 0 to 9,999, got ${fold} at pair ${index}. Number them from 0.`,
        { index },
      );
    }
    while (folds.length <= fold) folds.push([]);
    folds[fold]!.push(pair);
  });
  return folds;
}

/** The pairs with their people as numbers, for bootstrapping over identities; null unless every pair names them. */
export function identified(
  pairs: readonly (ScoredPair & { distance: number })[],
): { identities: number; same: IdentifiedPairs; different: IdentifiedPairs } | null {
  if (!pairs.every(({ people }) => people)) return null;
  const numbers = new Map<string, number>();
  const numberOf = (name: string): number => {
    const number = numbers.get(name) ?? numbers.size;
    numbers.set(name, number);
    return number;
  };
  const side = (same: boolean): IdentifiedPairs => {
    const chosen = pairs.filter((pair) => pair.same === same);
    return identifiedPairs(
      chosen.map(({ distance }) => distance),
      chosen.map(({ people }) => numberOf(people![0])),
      chosen.map(({ people }) => numberOf(people![1])),
    );
  };
  const [same, different] = [side(true), side(false)];
  return { identities: numbers.size, same, different };
}
