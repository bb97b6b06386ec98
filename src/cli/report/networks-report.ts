import type { NetworkSurvey } from '../../facenet-gpu/survey.ts';
import type { NetworkName } from '../../networks/network.ts';
import { published } from '../../networks/published.ts';
import { htmlTable, page } from './html.ts';
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
    { kind: 'ring', colour: grey, points: theirs.map(({ x, percent }) => [x, percent] as const) },
    {
      kind: 'words',
      colour: grey,
      points: theirs.map(({ x, percent, name }) => [x, percent, starred(name)] as const),
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
    to: 9.45,
    label: 'multiply-adds of one image',
    ticks: [10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1e9, 2e9].map(
      (value) => [Math.log10(value), figure(value)] as const,
    ),
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
      'After Figure 4 of Schroff et al. 2015. Grey rings: the rates published for networks whose weights were never released (Table 3, one million photos of Google, with the standard error over five splits); ours of the same layers are untrained. * layers unpublished: ours are made to meet the totals.',
      ...measured.map(
        ({ name, val, source }) =>
          `Green dot: ${name}, ${(100 * val).toFixed(1)} %, measured on ${source}. Other pictures: not to be compared with the grey ones.`,
      ),
      `Memory${surveys.some(({ milliseconds }) => milliseconds) ? ' and time' : ''}: ${why}.`,
    ],
    [plot('VAL at FAR 1e-3 against multiply-adds', x, y, marks), htmlTable(rows)],
  );
}

/** The name, marked where the layers are not the published ones. */
export const starred = (name: NetworkName): string => `${name}${published[name].layers === 'published' ? '' : '*'}`;

/** 50M, 1B. */
const figure = (value: number): string => (value >= 1e9 ? `${value / 1e9}B` : `${value / 1e6}M`);
