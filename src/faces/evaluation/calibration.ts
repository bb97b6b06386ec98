import { FaceNetError } from '../../errors.ts';
import type { OperatingPoint } from '../operating-point.ts';
import { type BootstrapOptions, bootstrapRates, type IdentifiedPairs, widerFarInterval } from './bootstrap.ts';
import { type PairDistances, type RatesAtFar, valAtFar } from './rates.ts';
import { clopperPearson, type Interval } from './statistics.ts';

export interface CalibrateOptions {
  readonly far: number;
  /** What the pairs are, such as "our door camera, March"; the interval's kind is added. */
  readonly source: string;
  /**
   * The same pairs with the people in them: the interval of the FAR is then bootstrapped over identities. Without it
   * Clopper-Pearson's, which takes pairs for independent.
   */
  readonly people?: {
    readonly identities: number;
    readonly same: IdentifiedPairs;
    readonly different: IdentifiedPairs;
  };
  readonly bootstrap?: BootstrapOptions;
}

/**
 * Fits a threshold: the largest whose FAR on these pairs does not exceed the one asked for (in the middle of the gap up to the next
 * distance). With too few pairs of two people for that FAR the threshold stays below the nearest of them, and `note` says so.
 * Throws 'input' for a FAR outside (0, 1) or without pairs of both kinds.
 */
export function calibrate(pairs: PairDistances, options: CalibrateOptions): OperatingPoint {
  const { far, source, people } = options;
  if (!(far > 0 && far < 1)) {
    throw new FaceNetError('input', `calibration: FAR must lie between 0 and 1, got ${far}. Give a rate such as 1e-3.`);
  }
  const rates = valAtFar(pairs, far);
  if (!people) return pointFromRates(rates, pairs, { source });
  const { far: intervals } = bootstrapRates(people, [], [rates.threshold], options.bootstrap);
  return pointFromRates(rates, pairs, { source, farInterval: intervals[0]! });
}

/** Makes an operating point of counted rates. `farInterval` is the bootstrap's, if there is one. */
export function pointFromRates(
  rates: RatesAtFar,
  pairs: { readonly same: ArrayLike<number>; readonly different: ArrayLike<number> },
  about: { source: string; farInterval?: Interval },
): OperatingPoint {
  const differentPairs = pairs.different.length;
  const farInterval = about.farInterval
    ? widerFarInterval(about.farInterval, rates.falseAccepts, differentPairs)
    : clopperPearson(rates.falseAccepts, differentPairs);
  return {
    threshold: rates.threshold,
    far: rates.far,
    farInterval,
    val: rates.val,
    pairs: pairs.same.length + differentPairs,
    source: `${about.source}; 95 % interval of the FAR ${about.farInterval ? 'by bootstrap over identities, never narrower than Clopper-Pearson' : 'by Clopper-Pearson'}`,
    targetFar: rates.targetFar,
    ...(rates.note !== undefined && { note: rates.note }),
  };
}
