import { FaceNetError } from '../../errors.ts';
import type { OperatingPoint } from '../operating-point.ts';
import { pointFromRates } from './calibration.ts';
import { countUpTo, pairDistances, valAtFar } from './rates.ts';
import { clopperPearson, type Interval } from './statistics.ts';

/** A pair with its distance and the group it is counted in (an age band, a camera, ...). */
export interface GroupedPair {
  readonly distance: number;
  readonly same: boolean;
  readonly group: string;
}

export interface GroupReport {
  readonly samePairs: number;
  readonly differentPairs: number;
  /** What the common threshold does to this group: the figures to compare between groups. Null without pairs of that kind. */
  readonly val: number | null;
  readonly valInterval: Interval | null;
  readonly far: number | null;
  readonly farInterval: Interval | null;
  /** Thresholds fitted on this group alone; empty when a kind of pair is missing. */
  readonly points: OperatingPoint[];
}

/**
 * Counts each group apart at one threshold for all (by which groups are treated unlike), and fits each group's own thresholds.
 * Groups come in the order of their first pair. Intervals by Clopper-Pearson. Throws 'input' for a distance that is negative or not finite.
 */
export function groupReports(
  pairs: Iterable<GroupedPair>,
  threshold: number,
  fars: readonly number[],
): Map<string, GroupReport> {
  const groups = new Map<string, { same: number[]; different: number[] }>();
  let index = 0;
  for (const { distance, same, group } of pairs) {
    if (typeof group !== 'string')
      throw new FaceNetError('input', `group: must be a text, got ${typeof group} at pair ${index}. Name the group.`, {
        index,
      });
    let lists = groups.get(group);
    if (!lists) groups.set(group, (lists = { same: [], different: [] }));
    (same ? lists.same : lists.different).push(distance);
    index++;
  }
  const reports = new Map<string, GroupReport>();
  for (const [group, lists] of groups) {
    const sorted = pairDistances(lists.same, lists.different);
    const accepted = countUpTo(sorted.same, threshold);
    const mistaken = countUpTo(sorted.different, threshold);
    const [n, m] = [sorted.same.length, sorted.different.length];
    reports.set(group, {
      samePairs: n,
      differentPairs: m,
      val: n > 0 ? accepted / n : null,
      valInterval: n > 0 ? clopperPearson(accepted, n) : null,
      far: m > 0 ? mistaken / m : null,
      farInterval: m > 0 ? clopperPearson(mistaken, m) : null,
      points:
        n > 0 && m > 0
          ? fars.map((far) => pointFromRates(valAtFar(sorted, far), sorted, { source: `group ${group}` }))
          : [],
    });
  }
  return reports;
}
