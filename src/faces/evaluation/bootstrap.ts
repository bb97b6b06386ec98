import { FaceNetError } from '../../errors.ts';
import { Philox } from '../../graph/philox.ts';
import { allowedFalseAccepts, countBelow, countUpTo } from './rates.ts';
import { clopperPearson, type Interval } from './statistics.ts';

/** Pairs sorted by distance, with the people on both sides as numbers from 0. For pairs of one person a = b. */
export interface IdentifiedPairs {
  readonly distance: Float64Array;
  readonly a: Uint32Array;
  readonly b: Uint32Array;
}

export interface BootstrapInput {
  /** How many people there are. */
  readonly identities: number;
  readonly same: IdentifiedPairs;
  /** All pairs of two people, or the nearest of them (then `differentWeight` must count all). */
  readonly different: IdentifiedPairs;
  /** Sum of the weights of ALL pairs of two people when person i is drawn times[i] times. */
  readonly differentWeight?: (times: Float64Array) => number;
}

export interface BootstrapOptions {
  /** Draws; 1,000 by default. */
  readonly replicates?: number;
  readonly seed?: number;
  readonly confidence?: number;
}

export interface BootstrapIntervals {
  /** For each target FAR: the interval of VAL, or null when `different` is cut too short to tell. */
  readonly val: (Interval | null)[];
  /** For each threshold: the interval of its FAR. */
  readonly far: Interval[];
  /** Draws that had pairs of both kinds, of those asked for. */
  readonly replicates: number;
}

/**
 * Intervals by bootstrap over identities: each draw takes as many people as there are, with replacement; a pair of one person
 * counts as often as the person was drawn, a pair of two people as often as both were (the product). Pairs share people, so intervals that
 * take pairs for independent are too narrow. Percentile intervals; the same seed gives the same intervals.
 */
export function bootstrapRates(
  input: BootstrapInput,
  fars: readonly number[],
  thresholds: readonly number[],
  options: BootstrapOptions = {},
): BootstrapIntervals {
  const { replicates = 1000, seed = 1, confidence = 0.95 } = options;
  if (!Number.isInteger(replicates) || replicates < 20 || replicates > 1_000_000) {
    throw new FaceNetError(
      'input',
      `bootstrap: replicates must be 20 to 1,000,000, got ${replicates}. 1,000 is usual.`,
    );
  }
  const { identities, same, different } = input;
  const random = new Philox(seed, 0xb007);
  const times = new Float64Array(identities); // whole numbers; sums of their products stay exact
  const vals: number[][] = fars.map(() => []);
  const rates: number[][] = thresholds.map(() => []);
  const short = fars.map(() => false);
  // Thresholds and targets are visited upwards, so that one walk over the pairs serves all.
  const thresholdCounts = thresholds.map((threshold) => countUpTo(different.distance, threshold));
  const thresholdOrder = thresholds.map((_, i) => i).sort((i, j) => thresholdCounts[i]! - thresholdCounts[j]!);
  const farOrder = fars.map((_, i) => i).sort((i, j) => fars[i]! - fars[j]!);
  const sameUpTo = new Float64Array(same.distance.length + 1);
  let counted = 0;

  for (let replicate = 0; replicate < replicates; replicate++) {
    times.fill(0);
    for (let i = 0; i < identities; i++) times[random.below(identities)]!++;
    for (let i = 0; i < same.distance.length; i++) sameUpTo[i + 1] = sameUpTo[i]! + times[same.a[i]!]!;
    const sameWeight = sameUpTo[same.distance.length]!;
    const differentWeight = input.differentWeight?.(times) ?? weightOf(different, times, 0, different.distance.length);
    if (sameWeight === 0 || differentWeight === 0) continue;
    counted++;

    const walk = new WeightWalk(different, times);
    for (const index of thresholdOrder) rates[index]!.push(walk.upTo(thresholdCounts[index]!) / differentWeight);
    walk.restart();
    for (const index of farOrder) {
      const allowed = allowedFalseAccepts(fars[index]!, differentWeight);
      // The first pair whose weight takes the sum past what is allowed bounds the threshold from above.
      const first = walk.firstPast(allowed);
      if (first < different.distance.length)
        vals[index]!.push(sameUpTo[countBelow(same.distance, different.distance[first]!)]! / sameWeight);
      else if (allowed >= differentWeight) vals[index]!.push(1);
      else short[index] = true;
    }
  }
  if (counted < replicates / 2) {
    throw new FaceNetError(
      'input',
      `bootstrap: needs pairs of both kinds from several people, got them in ${counted} of ${replicates} draws of ${identities} people. Evaluate more people, or ask for no interval.`,
    );
  }
  return {
    val: vals.map((values, i) => (short[i] ? null : percentileInterval(values, confidence))),
    far: rates.map((values) => percentileInterval(values, confidence)),
    replicates: counted,
  };
}

/** Sum of the pairs' weights. Four sums at once, exact in any order. */
function weightOf({ a, b }: IdentifiedPairs, times: Float64Array, from: number, to: number): number {
  let [w0, w1, w2, w3] = [0, 0, 0, 0];
  let i = from;
  for (; i + 4 <= to; i += 4) {
    w0 += times[a[i]!]! * times[b[i]!]!;
    w1 += times[a[i + 1]!]! * times[b[i + 1]!]!;
    w2 += times[a[i + 2]!]! * times[b[i + 2]!]!;
    w3 += times[a[i + 3]!]! * times[b[i + 3]!]!;
  }
  for (; i < to; i++) w0 += times[a[i]!]! * times[b[i]!]!;
  return w0 + w1 + w2 + w3;
}

/** Goes through the pairs upwards and adds their weights; questions must come in rising order. */
class WeightWalk {
  readonly #pairs: IdentifiedPairs;
  readonly #times: Float64Array;
  #at = 0;
  #weight = 0;

  constructor(pairs: IdentifiedPairs, times: Float64Array) {
    this.#pairs = pairs;
    this.#times = times;
  }

  restart(): void {
    this.#at = 0;
    this.#weight = 0;
  }

  /** Weight of the first `count` pairs. */
  upTo(count: number): number {
    this.#weight += weightOf(this.#pairs, this.#times, this.#at, count);
    this.#at = count;
    return this.#weight;
  }

  /** Index of the first pair with which the sum exceeds `allowed`; the number of pairs when it never does. */
  firstPast(allowed: number): number {
    const total = this.#pairs.distance.length;
    while (this.#at < total) {
      const to = Math.min(this.#at + 256, total);
      const weight = weightOf(this.#pairs, this.#times, this.#at, to);
      if (this.#weight + weight > allowed) break;
      this.#weight += weight;
      this.#at = to;
    }
    while (this.#at < total) {
      const weight = this.#times[this.#pairs.a[this.#at]!]! * this.#times[this.#pairs.b[this.#at]!]!;
      if (this.#weight + weight > allowed) break;
      this.#weight += weight;
      this.#at++;
    }
    return this.#at;
  }
}

/** The central share of the values: order statistics, rounded outwards, as many left out below as above. */
export function percentileInterval(values: readonly number[], confidence: number): Interval {
  const sorted = Float64Array.from(values).sort();
  const cut = Math.floor(((1 - confidence) / 2) * (sorted.length - 1) + 1e-9);
  return [sorted[cut]!, sorted[sorted.length - 1 - cut]!];
}

/**
 * A FAR's interval: at each end the wider of the bootstrap's and Clopper-Pearson's. The bootstrap knows that pairs share people, but
 * gives 0 .. 0 where nothing was accepted; Clopper-Pearson is honest there.
 */
export function widerFarInterval(
  bootstrap: Interval,
  falseAccepts: number,
  differentPairs: number,
  confidence = 0.95,
): Interval {
  const exact = clopperPearson(falseAccepts, differentPairs, confidence);
  return [Math.min(bootstrap[0], exact[0]), Math.max(bootstrap[1], exact[1])];
}

/** Sorts pairs by distance together with their people; equal distances keep their order. */
export function identifiedPairs(
  distance: ArrayLike<number>,
  a: ArrayLike<number>,
  b: ArrayLike<number>,
): IdentifiedPairs {
  const order = Uint32Array.from({ length: distance.length }, (_, i) => i);
  const values = Float64Array.from(distance);
  order.sort((i, j) => values[i]! - values[j]! || i - j);
  return {
    distance: Float64Array.from(order, (i) => values[i]!),
    a: Uint32Array.from(order, (i) => a[i]!),
    b: Uint32Array.from(order, (i) => b[i]!),
  };
}
