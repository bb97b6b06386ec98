// The figures of an evaluation as rows and sentences, for the terminal and for the report.
import type { PairEvaluation } from '../faces/evaluation/pairs.ts';
import { table } from './terminal.ts';

/** What one of the model's own thresholds, fitted on other pairs, does on these. */
export interface OwnPoint {
  readonly threshold: number;
  readonly source: string;
  readonly accuracy: number;
  readonly val: number;
  readonly far: number;
}

const percent = (rate: number): string => `${(100 * rate).toFixed(2)} %`;
const rateOf = (rate: number): string => (rate === 0 ? '0' : rate.toExponential(2));

/** The figures as rows of text, for the terminal and for the report. */
export function rateRows(result: PairEvaluation): string[][] {
  const head = ['target FAR', 'threshold', 'FAR', '95 % interval', 'VAL', '95 % interval'];
  const rows = result.valAtFar.map(({ targetFar, threshold, far, farInterval, val, valInterval }) => [
    String(targetFar),
    threshold.toFixed(4),
    rateOf(far),
    farInterval.map(rateOf).join(' - '),
    percent(val),
    valInterval ? valInterval.map(percent).join(' - ') : '',
  ]);
  return [head, ...rows];
}

/** What the model's own thresholds do. */
export function ownRows(own: readonly OwnPoint[]): string[][] {
  const head = ['own threshold', 'accuracy', 'VAL', 'FAR'];
  return [
    head,
    ...own.map((point) => [point.threshold.toFixed(4), percent(point.accuracy), percent(point.val), rateOf(point.far)]),
  ];
}

/** What the common threshold does in each group. */
export function groupRows({ groupReports }: PairEvaluation): string[][] {
  const cell = (rate: number | null, interval: readonly [number, number] | null) =>
    rate === null ? '' : `${percent(rate)}${interval ? ` (${interval.map(percent).join(' - ')})` : ''}`;
  const rows = [...groupReports].map(([group, { samePairs, differentPairs, val, valInterval, far, farInterval }]) => [
    group,
    `${samePairs} + ${differentPairs}`,
    cell(val, valInterval),
    cell(far, farInterval),
  ]);
  return [['group', 'pairs', 'VAL (95 %)', 'FAR (95 %)'], ...rows];
}

/** The figures in words. */
export function headline(result: PairEvaluation): string {
  const {
    accuracy,
    standardError,
    standardDeviation,
    foldResults,
    threshold,
    auc,
    eer,
    samePairs,
    differentPairs,
    skipped,
  } = result;
  return `accuracy ${percent(accuracy)} +- ${percent(standardError)} (standard error over ${foldResults.count} folds; standard deviation ${percent(standardDeviation)}); best threshold on all ${threshold.toFixed(4)}; AUC ${auc.toFixed(4)}, EER ${percent(eer)}; ${samePairs} pairs of one person, ${differentPairs} of two, ${skipped} left out`;
}

/** All of it, for a terminal. */
export function evaluationText(result: PairEvaluation, own: readonly OwnPoint[]): string {
  const right = [1, 2, 3, 4, 5];
  return [
    headline(result),
    table(rateRows(result), right),
    ...(own.length > 0 ? [table(ownRows(own), [0, 1, 2, 3])] : []),
    ...(result.groupReports.size > 0 ? [table(groupRows(result), [1, 2, 3])] : []),
  ].join('\n');
}
