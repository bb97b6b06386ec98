import type { NetworkSurvey } from '../../facenet-gpu/survey.ts';
import { published } from '../../networks/published.ts';
import { htmlTable, page } from './page.ts';
import { type Mark, plot } from './plot.ts';

/** A network whose weights are at hand, with what was measured on them. */
export interface MeasuredNetwork {
  readonly name: string;
  readonly multiplyAdds: number;
  /** VAL at FAR 1e-3, 0..1. */
  readonly val: number;
  /** On which pictures. */
  readonly source: string;
}

const grey = '#777';
const green = '#1b7a3d';

/** Accuracy against multiply-adds, as in Figure 4 of the paper: its own figures where ours is untrained, and what was measured on our weights. */
export function networksReport(
  surveys: readonly NetworkSurvey[],
  measured: readonly MeasuredNetwork[],
  rows: readonly (readonly string[])[],
  why: string,
): string {
  const theirs = surveys.flatMap(({ name, multiplyAdds }) => {
    const rate = published[name].validationRate;
    return rate ? [{ name, x: Math.log10(multiplyAdds), ...rate }] : [];
  });
  const marks: Mark[] = [
    ...theirs.map(
      ({ x, percent, standardError }): Mark => ({
        kind: 'line',
        colour: grey,
        points: [
          [x, percent - standardError],
          [x, percent + standardError],
        ],
      }),
    ),
    { kind: 'dot', colour: grey, points: theirs.map(({ x, percent }) => [x, percent] as const) },
    {
      kind: 'words',
      colour: grey,
      points: theirs.map(({ x, percent, name }) => [x, percent, name] as const),
    },
    {
      kind: 'dot',
      colour: green,
      points: measured.map(({ multiplyAdds, val }) => [Math.log10(multiplyAdds), 100 * val] as const),
    },
    {
      kind: 'words',
      colour: green,
      points: measured.map(
        ({ multiplyAdds, val, name }) => [Math.log10(multiplyAdds), 100 * val, `${name} (measured)`] as const,
      ),
    },
  ];
  const x = {
    from: 7,
    to: 9.5,
    label: 'multiply-adds of one image',
    ticks: [7, 7.5, 8, 8.5, 9, 9.5].map((value) => [value, figure(10 ** value)] as const),
  };
  const y = {
    from: 40,
    to: 100,
    label: 'VAL at FAR 1e-3, %',
    ticks: [40, 50, 60, 70, 80, 90, 100].map((value) => [value, String(value)] as const),
  };
  return page(
    'Networks: accuracy against multiply-adds',
    [
      'After Figure 4 of Schroff et al. 2015. Grey: the rates published for networks whose weights were never released (Table 3, one million photos of Google, with the standard error over five splits); ours of the same layers are untrained.',
      ...measured.map(
        ({ name, val, source }) =>
          `Green: ${name}, ${(100 * val).toFixed(1)} %, measured on ${source}. Other pictures: not to be compared with the grey ones.`,
      ),
      `Memory and time: ${why}.`,
    ],
    [plot('VAL at FAR 1e-3 against multiply-adds', x, y, marks), htmlTable(rows)],
  );
}

/** 32M, 1.0B. */
function figure(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)}B` : `${Math.round(value / 1e6)}M`;
}
