import { FaceNetError } from '../../errors.ts';
import { Philox } from '../../graph/philox.ts';
import type { VectorSet } from '../distance.ts';
import { evaluateAllPairs, identityNumbers } from './all-pairs.ts';
import type { RatesAtFar } from './rates.ts';
import { type Summary, summarise } from './statistics.ts';

export interface SplitResult extends RatesAtFar {
  readonly images: number;
  readonly people: number;
  readonly samePairs: number;
  readonly differentPairs: number;
}

export interface SplitEvaluation extends Summary {
  readonly splits: readonly SplitResult[];
}

export interface SplitOptions {
  /** 1e-3 by default, the paper's. */
  readonly far?: number;
  /** 5 by default, the paper's. */
  readonly splits?: number;
  /**
   * 'people' (default): no person is in two splits, so that the splits are independent. 'images': images are dealt out, as the paper's
   * wording ("five disjoint sets of 200k images") can be read; small sets then lose most pairs of one person.
   */
  readonly by?: 'people' | 'images';
  readonly seed?: number;
  readonly signal?: AbortSignal;
}

/**
 * The paper's hold-out protocol (section 4.1): the faces are dealt into five disjoint splits, VAL at FAR 1e-3 is counted on each over
 * all its pairs, and the mean is given with the standard error over the splits (`standardError`). Splits by people are filled
 * evenly: in a seeded order, each person goes to the split with the fewest images.
 */
export async function splitEvaluation(
  vectors: VectorSet,
  labels: ArrayLike<number | string>,
  options: SplitOptions = {},
): Promise<SplitEvaluation> {
  const { far = 1e-3, splits = 5, by = 'people', seed = 1, signal } = options;
  if (!Number.isInteger(splits) || splits < 2 || splits > 1000) {
    throw new FaceNetError('input', `splits: must be 2 to 1,000, got ${splits}. The paper takes 5.`);
  }
  const people = identityNumbers(labels, vectors.count);
  const results: SplitResult[] = [];
  for (const rows of deal(people, splits, by, new Philox(seed, 0x5b117))) {
    const chosen = {
      data: vectors.data.slice(0, rows.length * vectors.dimensions),
      count: rows.length,
      dimensions: vectors.dimensions,
    };
    rows.forEach((row, i) =>
      chosen.data.set(
        vectors.data.subarray(row * vectors.dimensions, (row + 1) * vectors.dimensions),
        i * vectors.dimensions,
      ),
    );
    const names = rows.map((row) => people[row]!);
    const {
      samePairs,
      differentPairs,
      valAtFar: [rates],
    } = await evaluateAllPairs(chosen, names, { fars: [far], intervals: false, ...(signal && { signal }) });
    const { valInterval: _, farInterval: __, ...counted } = rates!;
    results.push({ ...counted, images: rows.length, people: new Set(names).size, samePairs, differentPairs });
  }
  return { ...summarise(results.map(({ val }) => val)), splits: results };
}

function deal(people: Uint32Array, splits: number, by: 'people' | 'images', random: Philox): number[][] {
  const images = new Map<number, number[]>();
  people.forEach((person, row) => {
    const rows = images.get(person);
    if (rows) rows.push(row);
    else images.set(person, [row]);
  });
  const units = by === 'people' ? [...images.values()] : [...people].map((_, row) => [row]);
  const dealt = Array.from({ length: splits }, (): number[] => []);
  for (const unit of random.shuffle(units)) {
    dealt.reduce((least, split) => (split.length < least.length ? split : least)).push(...unit);
  }
  return dealt.map((rows) => rows.sort((a, b) => a - b));
}
