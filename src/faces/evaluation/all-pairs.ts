import { FaceNetError } from '../../errors.ts';
import { checkUnitVectors, type DistanceRows, distancesToRow, hostRows, type VectorSet } from '../distance.ts';
import { type BootstrapOptions, bootstrapRates, identifiedPairs, widerFarInterval } from './bootstrap.ts';
import {
  binOf,
  binOfRank,
  bins,
  type CoarseHistogram,
  coarseHistogram,
  curveOfBins,
  firstOfBin,
  nonEmptyBefore,
  type PairCounts,
  scale,
} from './distance-bins.ts';
import { ImpostorTail, tailBin } from './impostor-tail.ts';
import {
  allowedFalseAccepts,
  type CurvePoint,
  countBelow,
  countUpTo,
  crossing,
  needDifferent,
  needSame,
  type RatesAtFar,
  ratesAtFar,
} from './rates.ts';
import type { Interval } from './statistics.ts';

export interface AllPairsOptions extends BootstrapOptions {
  /** Target false accept rates; 1e-1 .. 1e-6 by default. */
  readonly fars?: readonly number[];
  /** Where distances come from (every block is asked for twice); float64 differences on the host by default. */
  readonly rows?: DistanceRows;
  /**
   * Vectors of the same faces by another network, row by row: then the pairs are row i here with row j there, for all i != j, and
   * `rows` gives whole rows of that matrix. Harmonic embeddings (the paper's appendix) are judged so.
   */
  readonly against?: VectorSet;
  /** No bootstrap intervals. */
  readonly intervals?: boolean;
  readonly signal?: AbortSignal;
  /** Rows done of all rows of both passes. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface AllPairsEvaluation {
  readonly samePairs: number;
  readonly differentPairs: number;
  readonly valAtFar: (RatesAtFar & { readonly valInterval: Interval | null; readonly farInterval: Interval | null })[];
  readonly areaUnderRoc: number;
  readonly equalErrorRate: number;
  /** Exact points of the ROC at up to some hundred thresholds. */
  readonly roc: CurvePoint[];
  readonly histogram: CoarseHistogram;
}

export const defaultFars: readonly number[] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/** The most pairs of one person, and the most decisive pairs of two, that are held: 64 MiB each. */
const largestHeld = 8 * 2 ** 20;

/**
 * VAL and FAR over ALL pairs of a set of faces, as the paper evaluates (section 4), for sets whose distances do not fit in memory: two
 * passes over blocks of distances, exact counts, about 100 MiB at most. 4,119 faces (8.5 million pairs) take seconds.
 *
 * Throws 'input' for rows that are no unit vectors, labels that do not match, or only one kind of pair; 'memory' for more than 8 million
 * pairs of one person.
 */
export async function evaluateAllPairs(
  vectors: VectorSet,
  labels: ArrayLike<number | string>,
  options: AllPairsOptions = {},
): Promise<AllPairsEvaluation> {
  const { fars = defaultFars, against } = options;
  checkUnitVectors(vectors);
  if (against) checkSameFaces(vectors, against);
  const people = identityNumbers(labels, vectors.count);
  // Across two networks each pair of faces is two pairs of vectors.
  const times = against ? 2 : 1;
  const counts = pairCounts(people, times);
  needSame(counts.same);
  needDifferent(counts.different);
  if (counts.same > largestHeld) {
    throw new FaceNetError(
      'memory',
      `all pairs: at most ${largestHeld} pairs of one person are held, got ${counts.same}. Evaluate a sample of each person's images.`,
    );
  }
  const walk = pairWalk(vectors, people, options);

  // First pass: all distances of one person, and how many of two people fall into each fine bin.
  const same = { distance: new Float64Array(counts.same), person: new Uint32Array(counts.same), filled: 0 };
  const histogram = new Float64Array(bins);
  await walk((distance, a, b) => {
    if (a === b) {
      same.distance[same.filled] = distance;
      same.person[same.filled++] = a;
    } else {
      histogram[binOf(distance)]!++;
    }
  });
  const sameSorted = identifiedPairs(same.distance, same.person, same.person);
  const upTo = new Float64Array(bins + 1); // impostors in all bins before
  for (let bin = 0; bin < bins; bin++) upTo[bin + 1] = upTo[bin]! + histogram[bin]!;
  const sameUpTo = new Float64Array(bins + 1);
  for (const distance of sameSorted.distance) sameUpTo[binOf(distance) + 1]!++;
  for (let bin = 0; bin < bins; bin++) sameUpTo[bin + 1]! += sameUpTo[bin]!;

  // Second pass: the impostors that decide something, exactly.
  const wanted = new Uint8Array(bins);
  for (const far of fars) {
    const bin = binOfRank(upTo, allowedFalseAccepts(far, counts.different));
    if (bin < bins) wanted[bin] = 1;
    const before = nonEmptyBefore(histogram, bin);
    if (before >= 0) wanted[before] = 1;
  }
  const errorBin = equalErrorBin(upTo, sameUpTo, counts);
  wanted[errorBin] = 1;
  const tail = new ImpostorTail(options.intervals === false ? 0 : tailBin(upTo, fars, counts.different), upTo);
  const decisive = new Float64Array(decisiveCount(wanted, histogram));
  let decided = 0;
  let twiceBelow = 0;
  await walk((distance, a, b) => {
    if (a === b) return;
    const bin = binOf(distance);
    if (wanted[bin]) decisive[decided++] = distance;
    tail.add(bin, distance, a, b);
    // Pairs of one person below this distance count twice, those equal to it once.
    const from = sameUpTo[bin]!;
    const to = sameUpTo[bin + 1]!;
    twiceBelow += 2 * from;
    if (to > from) {
      const inBin = sameSorted.distance.subarray(from, to);
      twiceBelow += countBelow(inBin, distance) + countUpTo(inBin, distance);
    }
  });
  const sorted = decisive.sort();

  const rates = fars.map((far) => rateAt(far, { sorted, histogram, upTo, same: sameSorted.distance, counts }));
  const intervals =
    tail.limit === 0
      ? null
      : bootstrapRates(
          {
            identities: counts.people.length,
            same: sameSorted,
            different: tail.sorted(),
            differentWeight: (drawn) => times * impostorWeight(counts.people, drawn),
          },
          fars,
          rates.map(({ threshold }) => threshold),
          options,
        );
  return {
    samePairs: counts.same,
    differentPairs: counts.different,
    valAtFar: rates.map((rate, i) => ({
      ...rate,
      valInterval: intervals?.val[i] ?? null,
      farInterval:
        intervals && binOf(Math.max(0, rate.threshold)) < tail.limit
          ? widerFarInterval(intervals.far[i]!, rate.falseAccepts, counts.different, options.confidence)
          : null,
    })),
    areaUnderRoc: twiceBelow / 2 / (counts.same * counts.different),
    equalErrorRate: equalError(errorBin, sorted, sameSorted.distance, upTo, sameUpTo, counts),
    roc: curveOfBins(upTo, sameUpTo, counts),
    histogram: coarseHistogram(upTo, sameUpTo),
  };
}

/** People as numbers from 0 in order of first appearance. */
export function identityNumbers(labels: ArrayLike<number | string>, count: number): Uint32Array {
  if (labels.length !== count) {
    throw new FaceNetError(
      'input',
      `labels: must be one for each face, got ${labels.length} for ${count}. Pass them in the order of the faces.`,
    );
  }
  const numbers = new Map<number | string, number>();
  return Uint32Array.from({ length: count }, (_, i) => {
    const label = labels[i]!;
    let number = numbers.get(label);
    if (number === undefined) numbers.set(label, (number = numbers.size));
    return number;
  });
}

function pairCounts(people: Uint32Array, times: number): PairCounts {
  const images = new Uint32Array(people.reduce((most, person) => Math.max(most, person + 1), 0));
  for (const person of people) images[person]!++;
  let same = 0;
  for (const n of images) same += (times * n * (n - 1)) / 2;
  return { same, different: (times * people.length * (people.length - 1)) / 2 - same, people: images };
}

function checkSameFaces(vectors: VectorSet, against: VectorSet): void {
  checkUnitVectors(against, 'against');
  if (against.count !== vectors.count || against.dimensions !== vectors.dimensions) {
    throw new FaceNetError(
      'mismatch',
      `all pairs: both networks' vectors must be of the same faces and length, got ${vectors.count} x ${vectors.dimensions} and ${against.count} x ${against.dimensions}. Embed the same faces with both.`,
    );
  }
}

/** Whole rows of distances between two sets, by float64 differences on the host. */
function rowsAcross(a: VectorSet, b: VectorSet): DistanceRows {
  return (first, last) => {
    const block = new Float64Array((last - first) * b.count);
    for (let i = first; i < last; i++)
      distancesToRow(a, i, b, 0, b.count, block.subarray((i - first) * b.count, (i - first + 1) * b.count));
    return block;
  };
}

/** Sum over pairs of people of times_i n_i times_j n_j: what all impostor pairs weigh in a draw. */
function impostorWeight(images: Uint32Array, times: Float64Array): number {
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < images.length; i++) {
    const weight = images[i]! * times[i]!;
    sum += weight;
    squares += weight * weight;
  }
  return (sum * sum - squares) / 2;
}

/** Calls `visit` for every pair i < j, in order; across two networks for every i != j. */
function pairWalk(vectors: VectorSet, people: Uint32Array, options: AllPairsOptions) {
  const { count } = vectors;
  const { against, rows = against ? rowsAcross(vectors, against) : hostRows(vectors), signal, onProgress } = options;
  const step = Math.max(1, Math.min(count, Math.floor(2 ** 18 / count)));
  let done = 0;
  return async (visit: (distance: number, a: number, b: number) => void): Promise<void> => {
    for (let first = 0; first < count; first += step) {
      if (signal?.aborted)
        throw new FaceNetError('aborted', 'all pairs: the evaluation was aborted, got a signal. Nothing was changed.');
      const last = Math.min(first + step, count);
      const block = await rows(first, last);
      if (block.length < (last - first) * count) {
        throw new FaceNetError(
          'internal',
          `all pairs: a block must hold ${(last - first) * count} distances, got ${block.length}. This is a fault of the distance function.`,
        );
      }
      for (let i = first; i < last; i++) {
        const person = people[i]!;
        const base = (i - first) * count;
        for (let j = against ? 0 : i + 1; j < count; j++) {
          if (j === i) continue;
          const distance = block[base + j]!;
          if (!(distance >= 0 && distance < Number.POSITIVE_INFINITY)) {
            throw new FaceNetError(
              'input',
              `distance: must be finite and 0 or more, got ${distance} between rows ${i} and ${j}. Leave these faces out.`,
              { index: i },
            );
          }
          visit(distance, person, people[j]!);
        }
      }
      done += last - first;
      onProgress?.(done, 2 * count);
    }
  };
}

/** Impostors in the bins that are collected. In a collapsed embedding space all lie in one. */
function decisiveCount(wanted: Uint8Array, histogram: Float64Array): number {
  let held = 0;
  for (let bin = 0; bin < bins; bin++) if (wanted[bin]) held += histogram[bin]!;
  if (held > largestHeld) {
    throw new FaceNetError(
      'memory',
      `all pairs: at most ${largestHeld} pairs of two people may lie within ${1 / scale} of a threshold, got ${held}. The embeddings lie nearly in one point; the model has collapsed.`,
    );
  }
  return held;
}

function rateAt(
  targetFar: number,
  known: { sorted: Float64Array; histogram: Float64Array; upTo: Float64Array; same: Float64Array; counts: PairCounts },
): RatesAtFar {
  const { sorted, histogram, upTo, same, counts } = known;
  const allowed = allowedFalseAccepts(targetFar, counts.different);
  const bin = binOfRank(upTo, allowed);
  let thresholdBelow = Number.POSITIVE_INFINITY;
  let falseAccepts = counts.different;
  if (bin < bins) {
    const first = firstOfBin(sorted, bin);
    thresholdBelow = sorted[first + allowed - upTo[bin]!]!;
    falseAccepts = upTo[bin]! + countBelow(sorted, thresholdBelow) - first;
  }
  // The last impostor accepted lies in this bin, or is the last of the nearest bin before that holds any.
  const before = bin < bins && falseAccepts > upTo[bin]! ? bin : nonEmptyBefore(histogram, bin);
  const lastImpostor =
    before < 0 ? Number.NEGATIVE_INFINITY : sorted[firstOfBin(sorted, before) + falseAccepts - upTo[before]! - 1]!;
  const trueAccepts = countBelow(same, thresholdBelow);
  const lastGenuine = trueAccepts > 0 ? same[trueAccepts - 1]! : Number.NEGATIVE_INFINITY;
  return ratesAtFar({
    targetFar,
    thresholdFrom: Math.max(lastImpostor, lastGenuine),
    thresholdBelow,
    trueAccepts,
    falseAccepts,
    sameCount: same.length,
    differentCount: counts.different,
  });
}

/** The first bin at whose end FAR >= 1 - VAL. */
function equalErrorBin(upTo: Float64Array, sameUpTo: Float64Array, counts: PairCounts): number {
  let bin = 0;
  while (upTo[bin + 1]! / counts.different < 1 - sameUpTo[bin + 1]! / counts.same) bin++;
  return bin;
}

/** Walks the distances inside the bin to the point where the two error rates cross. */
function equalError(
  bin: number,
  sorted: Float64Array,
  same: Float64Array,
  upTo: Float64Array,
  sameUpTo: Float64Array,
  counts: PairCounts,
): number {
  const first = firstOfBin(sorted, bin);
  let mistaken = upTo[bin]!;
  let accepted = sameUpTo[bin]!;
  let before = { val: accepted / counts.same, far: mistaken / counts.different };
  for (;;) {
    const threshold = Math.min(
      same[accepted] ?? Number.POSITIVE_INFINITY,
      mistaken < upTo[bin + 1]! ? sorted[first + mistaken - upTo[bin]!]! : Number.POSITIVE_INFINITY,
    );
    while (accepted < same.length && same[accepted] === threshold) accepted++;
    while (mistaken < upTo[bin + 1]! && sorted[first + mistaken - upTo[bin]!] === threshold) mistaken++;
    const point = { val: accepted / counts.same, far: mistaken / counts.different };
    if (point.far >= 1 - point.val) return crossing(before, point);
    before = point;
  }
}
