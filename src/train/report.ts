import type { TrainStep } from './trainer.ts';

/** What a report says above its curves. */
export interface ReportHeading {
  readonly title: string;
  /** Lines of text: network, data, seed, device. */
  readonly lines: readonly string[];
}

interface Curve {
  readonly label: string;
  readonly colour: string;
  /** Not finite where a step has none. */
  readonly value: (step: TrainStep) => number;
}

interface Chart {
  readonly title: string;
  readonly curves: readonly Curve[];
  readonly top?: number;
}

const charts: readonly Chart[] = [
  { title: 'loss', curves: [{ label: 'loss', colour: '#1f4e9c', value: (step) => step.loss }] },
  {
    title: 'share of selected triplets that are active',
    top: 1,
    curves: [{ label: 'active share', colour: '#1f4e9c', value: (step) => step.activeFraction }],
  },
  {
    title: 'mean squared distance',
    curves: [
      { label: 'pairs of one person', colour: '#1b7a3d', value: (step) => step.meanPositive },
      { label: 'strangers', colour: '#b3341f', value: (step) => step.meanNegative },
    ],
  },
  {
    title: 'gradient norm',
    curves: [{ label: 'gradient norm', colour: '#1f4e9c', value: (step) => step.gradientNorm }],
  },
  {
    title: 'learning rate',
    curves: [{ label: 'learning rate', colour: '#1f4e9c', value: (step) => step.learningRate }],
  },
];

/** Drawn where held-out people were looked at. */
const heldOut: readonly Chart[] = [
  {
    title: 'accuracy on pairs',
    top: 1,
    curves: [
      { label: 'held-out people', colour: '#1f4e9c', value: (step) => step.validation?.accuracy ?? Number.NaN },
      {
        label: 'people trained on',
        colour: '#8a6d1f',
        value: (step) => step.validation?.trainingAccuracy ?? Number.NaN,
      },
    ],
  },
  {
    title: 'VAL on held-out people',
    top: 1,
    curves: [{ label: 'VAL', colour: '#1f4e9c', value: (step) => step.validation?.val ?? Number.NaN }],
  },
];

/** Points drawn of a curve at most; longer runs show the mean of equal parts. */
const MOST_POINTS = 800;
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [860, 220, 64, 16, 12, 28];

/**
 * A page with the curves of a run: HTML with inline SVG, without scripts and without anything from outside. A phase's first step is a
 * vertical line, warnings are listed.
 */
export function trainingReport(steps: readonly TrainStep[], { title, lines }: ReportHeading): string {
  const last = steps.findLast(({ validation }) => validation)?.validation;
  const warnings = steps
    .filter((step) => step.warning !== undefined)
    .map(({ warning }) => `<li>${escapeHtml(warning as string)}</li>`);
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<meta charset="utf-8">',
    `<title>${escapeHtml(title)}</title>`,
    '<style>body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}h2{font-size:1em;margin:1.4em 0 .2em}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#444}</style>',
    `<h1>${escapeHtml(title)}</h1>`,
    ...lines.map((line) => `<p>${escapeHtml(line)}</p>`),
    ...(last
      ? [
          `<p>On held-out people at the end: accuracy ${number(last.accuracy)}, VAL ${number(last.val)} at FAR ${last.far} (${last.samePairs} and ${last.differentPairs} pairs); on people trained on: accuracy ${number(last.trainingAccuracy)}.</p>`,
        ]
      : []),
    ...(warnings.length > 0 ? ['<h2>warnings</h2>', `<ul>${warnings.join('')}</ul>`] : []),
    ...(steps.length === 0
      ? ['<p>No step was finished.</p>']
      : [...charts, ...(last ? heldOut : [])].map(
          (chart) => `<h2>${escapeHtml(chart.title)}</h2>\n${drawn(chart, steps)}`,
        )),
    '</html>',
    '',
  ].join('\n');
}

function drawn({ title, curves, top }: Chart, steps: readonly TrainStep[]): string {
  const first = (steps[0] as TrainStep).step;
  const last = Math.max(first + 1, (steps.at(-1) as TrainStep).step);
  const series = curves.map((curve) => thinned(steps, curve.value));
  const highest = top ?? (Math.max(0, ...series.flatMap((points) => points.map(([, value]) => value))) || 1) * 1.05;
  const x = (step: number) => (LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value: number) => (TOP + (1 - Math.min(1, value / highest)) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = y(share * highest);
    return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" stroke="#e3e3e3"/><text x="${LEFT - 6}" y="${Number(at) + 4}" text-anchor="end">${number(share * highest)}</text>`;
  });
  const phases = steps
    .filter((step, index) => index > 0 && step.phase !== (steps[index - 1] as TrainStep).phase)
    .map(
      ({ step }) =>
        `<line x1="${x(step)}" x2="${x(step)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="#999" stroke-dasharray="4 3"/>`,
    );
  const lines = curves.map(
    ({ colour }, index) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${(series[index] as [number, number][]).map(([step, value]) => `${x(step)},${y(value)}`).join(' ')}"/>`,
  );
  const key =
    curves.length < 2
      ? []
      : curves.map(
          ({ label, colour }, index) =>
            `<text x="${WIDTH - RIGHT - 150}" y="${TOP + 14 + 16 * index}" style="fill:${colour}">${escapeHtml(label)}</text>`,
        );
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)} by step">`,
    ...grid,
    ...phases,
    ...lines,
    ...key,
    `<text x="${LEFT}" y="${HEIGHT - 8}">step ${first}</text><text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" text-anchor="end">${last}</text>`,
    '</svg>',
  ].join('\n');
}

/** At most MOST_POINTS points, each the mean over equal parts of the finite values in it. */
function thinned(steps: readonly TrainStep[], value: (step: TrainStep) => number): [step: number, value: number][] {
  const parts = Math.min(MOST_POINTS, steps.length);
  const points: [number, number][] = [];
  for (let part = 0; part < parts; part++) {
    const within = steps
      .slice(Math.floor((part * steps.length) / parts), Math.floor(((part + 1) * steps.length) / parts))
      .filter((step) => Number.isFinite(value(step)));
    const mean = (of: (step: TrainStep) => number) => within.reduce((sum, step) => sum + of(step), 0) / within.length;
    if (within.length > 0) points.push([mean((step) => step.step), mean(value)]);
  }
  return points;
}

const number = (value: number): string => (value === 0 ? '0' : Number(value.toPrecision(3)).toString());
const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
