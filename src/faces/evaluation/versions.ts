import type { VectorSet } from '../distance.ts';
import { type AllPairsEvaluation, type AllPairsOptions, evaluateAllPairs } from './all-pairs.ts';

/** VAL at FAR within each version of a network and across both. */
export interface VersionsEvaluation {
  readonly first: AllPairsEvaluation;
  readonly second: AllPairsEvaluation;
  /** One vector of each version. */
  readonly mixed: AllPairsEvaluation;
}

/**
 * Two versions of a network on the same faces, row by row: each alone, and pairs of one vector of each, over all pairs of different images.
 * In the paper (appendix 7, figure 8) the mixed curve of harmonic embeddings lies between the two and above that of the first alone;
 * the mixed curve of independent networks is that of chance. Throws as evaluateAllPairs(), 'mismatch' for sets of different size.
 */
export async function evaluateVersions(
  first: VectorSet,
  second: VectorSet,
  labels: ArrayLike<number | string>,
  options: Omit<AllPairsOptions, 'rows' | 'against'> = {},
): Promise<VersionsEvaluation> {
  const mixed = await evaluateAllPairs(first, labels, { ...options, against: second });
  return {
    first: await evaluateAllPairs(first, labels, options),
    second: await evaluateAllPairs(second, labels, options),
    mixed,
  };
}
