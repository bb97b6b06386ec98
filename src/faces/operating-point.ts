import { FaceNetError } from '../errors.ts';
import type { Interval } from './evaluation/statistics.ts';

/**
 * Where an accept/reject line lies: a threshold on the squared L2 distance, and what it does on the pairs it was fitted on. A
 * threshold taken from one population need not hold for another.
 */
export interface OperatingPoint {
  /** Accepted means distance <= threshold. */
  readonly threshold: number;
  /** False accept rate at the threshold, seen on the pairs it was fitted on. */
  readonly far: number;
  /** 95 % interval of `far`; how it was made is said in `source`. */
  readonly farInterval: Interval;
  /** Share of the pairs of one person accepted. */
  readonly val: number;
  /** All pairs it was fitted on, of both kinds. */
  readonly pairs: number;
  /** What it was fitted on, in words. */
  readonly source: string;
  /** The FAR that was asked for; `far` never exceeds it. Absent for a threshold the user gave. */
  readonly targetFar?: number;
  /** Said when the pairs were too few for the FAR asked for. */
  readonly note?: string;
}

/** Decide by threshold (squared L2, 0 .. 4) or by false accept rate; by default at FAR 1e-3. */
export type Decide =
  | { readonly threshold?: number; readonly far?: never }
  | { readonly far: number; readonly threshold?: never };

/** No percentage: a distance, the line it was compared with, and what that line costs. */
export interface Verification {
  readonly same: boolean;
  readonly distance: number;
  readonly point: OperatingPoint;
}

/** The FAR decided at when nothing is said. */
export const defaultFar = 1e-3;

/**
 * The operating point a decision is made at. By FAR: of the model's points the one fitted for the largest FAR that does not exceed the
 * one asked for. By threshold: the user's line, with the rates of the nearest fitted point at or above it as upper bounds (1 when there is
 * none, and `source` says "not calibrated"). Throws 'not-calibrated' without points (unless a threshold is given) and for a FAR outside the fitted range,
 * 'input' for a threshold outside 0 .. 4.
 */
export function pointFor(decide: Decide, points: readonly OperatingPoint[]): OperatingPoint {
  if (decide.threshold !== undefined) return pointAtThreshold(decide.threshold, points);
  if (points.length === 0) {
    throw new FaceNetError(
      'not-calibrated',
      'operating point: the model must be calibrated to decide by itself, got no operating point. Give a threshold, or fit one with calibrate().',
    );
  }
  const far = decide.far ?? defaultFar;
  const target = (point: OperatingPoint) => point.targetFar ?? point.far;
  const sorted = [...points].sort((a, b) => target(a) - target(b));
  const lowest = target(sorted[0]!);
  const highest = target(sorted[sorted.length - 1]!);
  if (!(far >= lowest && far <= highest)) {
    throw new FaceNetError(
      'not-calibrated',
      `operating point: FAR must lie in the range the model was calibrated for, ${lowest} to ${highest}, got ${far}. Give another FAR or a threshold, or fit one with calibrate().`,
    );
  }
  return sorted.findLast((point) => target(point) <= far)!;
}

function pointAtThreshold(threshold: number, points: readonly OperatingPoint[]): OperatingPoint {
  if (!(threshold >= 0 && threshold <= 4)) {
    throw new FaceNetError(
      'input',
      `threshold: must be a squared distance from 0 to 4, got ${threshold}. Square a plain L2 threshold; double a cosine distance.`,
    );
  }
  const above = points.filter((point) => point.threshold >= threshold).sort((a, b) => a.threshold - b.threshold)[0];
  if (!above) {
    return {
      threshold,
      far: 1,
      farInterval: [0, 1],
      val: 1,
      pairs: 0,
      source: 'not calibrated: threshold given by the user; far and val are not known, 1 is their upper bound',
    };
  }
  if (above.threshold === threshold) return above;
  return {
    threshold,
    far: above.far,
    farInterval: [0, above.farInterval[1]],
    val: above.val,
    pairs: above.pairs,
    source: `threshold given by the user; far and val are upper bounds, those of threshold ${above.threshold}: ${above.source}`,
  };
}

/** Compares a distance with a line. */
export function decide(distance: number, point: OperatingPoint): Verification {
  if (!(distance >= 0 && Number.isFinite(distance))) {
    throw new FaceNetError('input', `distance: must be finite and 0 or more, got ${distance}. Embed both faces again.`);
  }
  return { same: distance <= point.threshold, distance, point };
}

/** Reads a point back from a model's metadata. Throws 'model' naming the field that is wrong. */
export function checkedOperatingPoint(value: unknown): OperatingPoint {
  const point = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const rate = (name: string, rateOf: unknown): number => {
    if (typeof rateOf !== 'number' || !(rateOf >= 0 && rateOf <= 1)) {
      throw new FaceNetError(
        'model',
        `operating point: ${name} must be a rate from 0 to 1, got ${String(rateOf)}. The metadata is damaged; calibrate again.`,
      );
    }
    return rateOf;
  };
  const { threshold, pairs, source, targetFar, note } = point;
  const interval = Array.isArray(point.farInterval) ? (point.farInterval as unknown[]) : [];
  if (typeof threshold !== 'number' || !(threshold >= -1 && threshold <= 4)) {
    throw new FaceNetError(
      'model',
      `operating point: threshold must be a squared distance up to 4, got ${String(threshold)}. The metadata is damaged; calibrate again.`,
    );
  }
  if (!Number.isSafeInteger(pairs) || (pairs as number) < 0) {
    throw new FaceNetError(
      'model',
      `operating point: pairs must be a count, got ${String(pairs)}. The metadata is damaged; calibrate again.`,
    );
  }
  if (typeof source !== 'string') {
    throw new FaceNetError(
      'model',
      `operating point: source must be a text, got ${typeof source}. The metadata is damaged; calibrate again.`,
    );
  }
  return {
    threshold,
    far: rate('far', point.far),
    farInterval: [rate('farInterval[0]', interval[0]), rate('farInterval[1]', interval[1])],
    val: rate('val', point.val),
    pairs: pairs as number,
    source,
    ...(targetFar !== undefined && { targetFar: rate('targetFar', targetFar) }),
    ...(typeof note === 'string' && { note }),
  };
}
