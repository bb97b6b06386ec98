import { type CurvePoint, countUpTo } from './rates.ts';

/**
 * Exact counting with bins: distances are counted in fine bins whose edges are exact numbers, so that every count up to an edge is
 * exact; only the few bins in which something is decided are looked into. `upTo[b]` is the number of distances in all bins before b.
 */

/** Bins per unit of squared distance: a power of two, so that multiplying by it rounds nothing. */
export const scale = 2 ** 16;
/** Bins from 0 to 4 and one for what lies above. */
export const bins = 4 * scale + 2;
/** Bins of the histogram in the report, per unit of distance. */
const coarse = 32;

/** Counts per bin of distance: bin i holds distances in (i / binsPerUnit, (i + 1) / binsPerUnit]; 0 is in bin 0. */
export interface CoarseHistogram {
  readonly binsPerUnit: number;
  readonly same: number[];
  readonly different: number[];
}

/** Pairs of each kind, and how the images are spread over people. */
export interface PairCounts {
  readonly same: number;
  readonly different: number;
  /** Images of each person. */
  readonly people: Uint32Array;
}

/** The bin of a distance: bin b holds ((b - 1) / scale, b / scale], so that all bins up to b hold exactly the distances <= b / scale. */
export function binOf(distance: number): number {
  return Math.min(Math.ceil(distance * scale), bins - 1);
}

/** The bin that holds the impostor of a rank (0 = nearest); `bins` when there are not so many. */
export function binOfRank(upTo: Float64Array, rank: number): number {
  return countUpTo(upTo, rank) - 1;
}

/** The last bin before `bin` that holds something, or -1. */
export function nonEmptyBefore(histogram: Float64Array, bin: number): number {
  let before = Math.min(bin, bins) - 1;
  while (before >= 0 && histogram[before] === 0) before--;
  return before;
}

/** Where the values of a bin begin in a sorted list that holds the bin whole. */
export function firstOfBin(sorted: Float64Array, bin: number): number {
  return bin === 0 ? 0 : countUpTo(sorted, (bin - 1) / scale);
}

/** Points at bin ends, dense where FAR is small: whenever FAR has grown by 5 % of itself, or VAL by half a percent. */
export function curveOfBins(upTo: Float64Array, sameUpTo: Float64Array, counts: PairCounts): CurvePoint[] {
  const curve: CurvePoint[] = [];
  let kept = { val: -1, far: -1 };
  for (let bin = 0; bin < bins - 1; bin++) {
    const point = {
      threshold: bin / scale,
      val: sameUpTo[bin + 1]! / counts.same,
      far: upTo[bin + 1]! / counts.different,
    };
    if (point.far === kept.far && point.val === kept.val) continue;
    const end = point.far === 1 && point.val === 1;
    if (end || kept.val < 0 || point.far >= kept.far * 1.05 + 1e-12 || point.val >= kept.val + 0.005) {
      curve.push(point);
      kept = point;
    }
    if (end) break;
  }
  return curve;
}

export function coarseHistogram(upTo: Float64Array, sameUpTo: Float64Array): CoarseHistogram {
  const width = scale / coarse;
  // Bin 0 of the fine histogram holds only distance 0 and belongs to the first coarse bin.
  const sum = (counts: Float64Array) =>
    Array.from(
      { length: 4 * coarse },
      (_, i) =>
        (i === 4 * coarse - 1 ? counts[bins]! : counts[(i + 1) * width + 1]!) - (i === 0 ? 0 : counts[i * width + 1]!),
    );
  return { binsPerUnit: coarse, same: sum(sameUpTo), different: sum(upTo) };
}
