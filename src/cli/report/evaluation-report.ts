import type { PairEvaluation } from '../../faces/evaluation/pairs.ts';
import { clopperPearson, normalQuantile } from '../../faces/evaluation/statistics.ts';
import { groupRows, headline, type OwnPoint, ownRows, rateRows } from '../evaluation-text.ts';
import type { MeasuredPair } from '../pair-list.ts';
import { escapeHtml, htmlTable, page } from './html.ts';
import { type Axis, plot } from './plot.ts';

/** Picture pairs of each kind of error. */
const MOST_ERRORS = 8;
const HISTOGRAM_BARS = 80;
const blue = '#1f4e9c';
const green = '#1b7a3d';
const red = '#b3341f';

/** The page of an evaluation: figures, ROC with intervals, DET, histogram of distances, worst errors as pairs of pictures. */
export async function evaluationReport(
  result: PairEvaluation,
  own: readonly OwnPoint[],
  pairs: readonly MeasuredPair[],
  about: string,
  picture: (path: string) => Promise<string | undefined>,
): Promise<string> {
  const measured = pairs.filter((pair): pair is MeasuredPair & { distance: number } => pair.distance !== null);
  const parts = [
    htmlTable(rateRows(result)),
    ...(own.length > 0 ? [htmlTable(ownRows(own))] : []),
    ...(result.groupReports.size > 0
      ? [`<h2>groups at threshold ${result.threshold.toFixed(4)}</h2>${htmlTable(groupRows(result))}`]
      : []),
    ...result.notes.map((note) => `<p>${escapeHtml(note)}</p>`),
    '<h2>ROC: share of pairs of one person accepted, by false accept rate</h2>',
    rocPlot(result),
    '<h2>DET: false rejects by false accepts, on normal deviates</h2>',
    detPlot(result),
    '<h2>Squared distances of pairs of one person (green) and of two (red)</h2>',
    histogram(measured, result.threshold),
  ];
  const worst = (same: boolean) =>
    measured
      .filter((pair) => pair.same === same && pair.distance <= result.threshold !== same)
      .sort((x, y) => (same ? y.distance - x.distance : x.distance - y.distance))
      .slice(0, MOST_ERRORS);
  for (const same of [true, false]) {
    const list = worst(same);
    parts.push(
      `<h2>${same ? 'One person, refused: the farthest' : 'Two people, accepted: the nearest'} (${list.length === 0 ? 'none' : `${list.length} shown`})</h2>`,
    );
    for (const { a, b, distance } of list) parts.push(await pairFigure(a, b, distance, picture));
  }
  return page('Evaluation', [about, headline(result)], parts);
}

async function pairFigure(
  a: string,
  b: string,
  distance: number,
  picture: (path: string) => Promise<string | undefined>,
): Promise<string> {
  const images: string[] = [];
  for (const path of [a, b]) {
    const source = await picture(path);
    images.push(
      source === undefined
        ? `<span class="none">${escapeHtml(path)}</span>`
        : `<img src="${source}" alt="${escapeHtml(path)}">`,
    );
  }
  return `<figure class="pair">${images.join(' ')}<figcaption>${distance.toFixed(4)}: ${escapeHtml(a)}, ${escapeHtml(b)}</figcaption></figure>`;
}

/** On a logarithmic axis from the resolution of the pairs; the band is Clopper-Pearson's interval of VAL at each threshold. */
function rocPlot({ roc, samePairs, differentPairs, valAtFar }: PairEvaluation): string {
  const lowest = Math.floor(Math.log10(1 / differentPairs));
  const at = (far: number) => Math.log10(Math.max(far, 10 ** lowest));
  const band = roc.map(({ val, far }) => ({
    x: at(far),
    interval: clopperPearson(Math.round(val * samePairs), samePairs),
  }));
  const x: Axis = {
    from: lowest,
    to: 0,
    label: 'false accept rate',
    ticks: Array.from({ length: 1 - lowest }, (_, i) => [lowest + i, `1e${lowest + i}`] as const),
  };
  const y: Axis = {
    from: 0,
    to: 1,
    label: 'VAL',
    ticks: [0, 0.25, 0.5, 0.75, 1].map((value) => [value, String(value)] as const),
  };
  return plot('ROC', x, y, [
    { kind: 'band', colour: blue, points: band.map(({ x, interval: [low, high] }) => [x, low, high] as const) },
    { kind: 'line', colour: blue, points: roc.map(({ far, val }) => [at(far), val] as const) },
    ...valAtFar.flatMap(({ far, val, farInterval: [low, high] }) => [
      {
        kind: 'line' as const,
        colour: red,
        points: [
          [at(low), val],
          [at(high), val],
        ] as const,
      },
      { kind: 'dot' as const, colour: red, points: [[at(far), val]] as const },
    ]),
  ]);
}

function detPlot({ det }: PairEvaluation): string {
  if (det.length === 0) return '<p>No threshold makes errors of both kinds: there is no curve.</p>';
  const rates = [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99];
  const axis = (label: string, values: readonly number[]): Axis => {
    const [from, to] = [Math.min(-2.5, ...values), Math.max(0.1, ...values)];
    const ticks = rates
      .map((rate) => [normalQuantile(rate), `${100 * rate} %`] as const)
      .filter(([value]) => value >= from && value <= to);
    return { from, to, label, ticks };
  };
  const x = axis(
    'false accepts',
    det.map((point) => point.x),
  );
  const y = axis(
    'false rejects',
    det.map((point) => point.y),
  );
  return plot('DET', x, y, [{ kind: 'line', colour: blue, points: det.map((point) => [point.x, point.y] as const) }]);
}

function histogram(pairs: readonly { distance: number; same: boolean }[], threshold: number): string {
  const farthest = pairs.reduce((most, { distance }) => Math.max(most, distance), 1e-6) * 1.0001;
  const count = { true: new Float64Array(HISTOGRAM_BARS), false: new Float64Array(HISTOGRAM_BARS) };
  const total = { true: 0, false: 0 };
  for (const { distance, same } of pairs) {
    const bars = count[`${same}`];
    const bar = Math.floor((distance / farthest) * HISTOGRAM_BARS);
    bars[bar] = (bars[bar] as number) + 1;
    total[`${same}`]++;
  }
  const share = (kind: 'true' | 'false', bar: number) => (count[kind][bar] as number) / Math.max(1, total[kind]);
  const bars = Array.from({ length: HISTOGRAM_BARS }, (_, bar) => bar);
  const highest = Math.max(...bars.flatMap((bar) => [share('true', bar), share('false', bar)]));
  const outline = (kind: 'true' | 'false') =>
    bars.flatMap((bar) => [
      [(bar / HISTOGRAM_BARS) * farthest, share(kind, bar)] as const,
      [((bar + 1) / HISTOGRAM_BARS) * farthest, share(kind, bar)] as const,
    ]);
  const x: Axis = {
    from: 0,
    to: farthest,
    label: 'squared distance',
    ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => [part * farthest, (part * farthest).toFixed(2)] as const),
  };
  const y: Axis = {
    from: 0,
    to: highest,
    label: 'share of pairs',
    ticks: [0, 0.5, 1].map((part) => [part * highest, (part * highest).toPrecision(2)] as const),
  };
  return plot('Histogram of distances', x, y, [
    { kind: 'line', colour: green, points: outline('true') },
    { kind: 'line', colour: red, points: outline('false') },
    {
      kind: 'line',
      colour: '#777',
      points: [
        [threshold, 0],
        [threshold, highest],
      ],
    },
  ]);
}
