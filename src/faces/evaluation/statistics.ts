import { FaceNetError } from '../../errors.ts';
import type { NumberList } from '../distance.ts';

/** Both ends of a confidence interval. */
export type Interval = readonly [low: number, high: number];

/** Mean and spread of a few figures of one kind, such as the accuracies of ten folds. */
export interface Summary {
  readonly count: number;
  readonly mean: number;
  /** Divided by n: what OpenFace and facenet print after "+-". */
  readonly populationDeviation: number;
  /** Divided by n - 1. */
  readonly sampleDeviation: number;
  /** Standard error of the mean, sampleDeviation / sqrt(n): what the paper prints after "+-". */
  readonly standardError: number;
  readonly smallest: number;
  readonly largest: number;
}

/** Summarises figures. With a single one both deviations that divide by n - 1 are NaN-free zeros. Throws 'input' for none or one not finite. */
export function summarise(values: NumberList): Summary {
  const count = values.length;
  if (count === 0)
    throw new FaceNetError('input', 'summary: needs at least one figure, got none. Evaluate something first.');
  let sum = 0;
  let smallest = Number.POSITIVE_INFINITY;
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value))
      throw new FaceNetError('input', `summary: figures must be finite, got ${value} at index ${i}. Leave it out.`, {
        index: i,
      });
    sum += value;
    smallest = Math.min(smallest, value);
    largest = Math.max(largest, value);
  }
  const mean = sum / count;
  let squares = 0;
  for (let i = 0; i < count; i++) squares += (values[i]! - mean) ** 2;
  const sampleDeviation = count > 1 ? Math.sqrt(squares / (count - 1)) : 0;
  return {
    count,
    mean,
    smallest,
    largest,
    sampleDeviation,
    populationDeviation: Math.sqrt(squares / count),
    standardError: sampleDeviation / Math.sqrt(count),
  };
}

/**
 * Clopper-Pearson interval of a rate seen as `successes` of `trials`: never too narrow for independent trials, and honest at 0 (for 0
 * of n the upper end at 95 % is about 3.7 / n). Throws 'input' for counts that are none.
 */
export function clopperPearson(successes: number, trials: number, confidence = 0.95): Interval {
  checkCounts(successes, trials, confidence);
  const tail = (1 - confidence) / 2;
  const low = successes === 0 ? 0 : betaQuantile(tail, successes, trials - successes + 1);
  const high = successes === trials ? 1 : betaQuantile(1 - tail, successes + 1, trials - successes);
  return [low, high];
}

/** Wilson's score interval: shorter than Clopper-Pearson's and right on average. */
export function wilson(successes: number, trials: number, confidence = 0.95): Interval {
  checkCounts(successes, trials, confidence);
  const z = normalQuantile((1 + confidence) / 2);
  const rate = successes / trials;
  const centre = rate + (z * z) / (2 * trials);
  const half = z * Math.sqrt((rate * (1 - rate)) / trials + (z * z) / (4 * trials * trials));
  const scale = 1 + (z * z) / trials;
  return [Math.max(0, (centre - half) / scale), Math.min(1, (centre + half) / scale)];
}

function checkCounts(successes: number, trials: number, confidence: number): void {
  if (!Number.isInteger(successes) || !Number.isInteger(trials) || trials < 1 || successes < 0 || successes > trials) {
    throw new FaceNetError(
      'input',
      `interval: needs 0 to n successes of n > 0 trials, got ${successes} of ${trials}. Give counts, not rates.`,
    );
  }
  if (!(confidence > 0 && confidence < 1)) {
    throw new FaceNetError('input', `interval: confidence must lie between 0 and 1, got ${confidence}. 0.95 is usual.`);
  }
}

/** x where the regularised incomplete beta function reaches p, by bisection down to neighbouring numbers. */
function betaQuantile(p: number, a: number, b: number): number {
  let low = 0;
  let high = 1;
  for (let i = 0; i < 2000; i++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (incompleteBeta(middle, a, b) < p) low = middle;
    else high = middle;
    if (high - low < 1e-15 * high) break;
  }
  return (low + high) / 2;
}

/** Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method). */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast on this side of the mean only.
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
  const tiny = 1e-300;
  const away = (value: number) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m < 100_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    const change = d * c;
    fraction *= change;
    if (Math.abs(change - 1) < 1e-15) break;
  }
  return front * fraction;
}

/** Logarithm of the gamma function: Stirling's series, after stepping up to arguments above 15. */
export function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  while (z < 15) {
    shift -= Math.log(z);
    z++;
  }
  const w = 1 / (z * z);
  const series = (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * (1 / 1188))))) / z;
  return shift + (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series;
}

/**
 * Quantile of the standard normal law (the axes of a DET curve): Newton's method on its distribution function. 0 and 1 give
 * -Infinity and Infinity.
 */
export function normalQuantile(p: number): number {
  if (!(p >= 0 && p <= 1))
    throw new FaceNetError('input', `normal quantile: needs a probability, got ${p}. Give a rate from 0 to 1.`);
  if (p === 0 || p === 1) return p === 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (p === 0.5) return 0;
  if (p > 0.5) return -normalQuantile(1 - p);
  // From below, Newton's steps on log P(Z <= x), a concave function, rise to the root without passing it.
  let x = -Math.sqrt(-2 * Math.log(p));
  for (let i = 0; i < 60; i++) {
    const tail = lowerTail(x);
    const step = (Math.log(tail / p) * tail) / (Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI));
    x -= step;
    if (Math.abs(step) < 1e-14 * Math.abs(x)) break;
  }
  return x;
}

/** P(Z <= x) for x <= 0: the series near 0, the continued fraction of Mills' ratio farther out. */
function lowerTail(x: number): number {
  const density = Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
  const t = -x;
  if (t < 3) {
    let term = t;
    let sum = t;
    for (let k = 3; term > 1e-18 * sum; k += 2) {
      term *= (t * t) / k;
      sum += term;
    }
    return 0.5 - density * sum;
  }
  let fraction = 0;
  for (let k = 200; k >= 1; k--) fraction = k / (t + fraction);
  return density / (t + fraction);
}
