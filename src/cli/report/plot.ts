import { escapeHtml } from './page.ts';

/** An axis: its range, and where it is labelled. */
export interface Axis {
  readonly from: number;
  readonly to: number;
  readonly label: string;
  readonly ticks: readonly (readonly [value: number, text: string])[];
}

/** What is drawn, in the units of the axes: lines and dots of [x, y], a band of [x, low, high], words beside points. */
export type Mark =
  | {
      readonly kind: 'words';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, y: number, text: string])[];
    }
  | {
      readonly kind: 'line' | 'dot';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, y: number])[];
    }
  | {
      readonly kind: 'band';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, low: number, high: number])[];
    };

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [860, 340, 64, 16, 12, 44];

/** Share of an axis within which two points' words would meet. */
const NEAR = 0.05;

/** One plot as SVG. Values outside an axis are drawn at its end. */
export function plot(title: string, x: Axis, y: Axis, marks: readonly Mark[]): string {
  const share = (value: number, { from, to }: Axis) => Math.min(1, Math.max(0, (value - from) / (to - from || 1)));
  const px = (value: number) => (LEFT + share(value, x) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const py = (value: number) => (TOP + (1 - share(value, y)) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const at = ([a, b]: readonly [number, number]) => `${px(a)},${py(b)}`;
  const drawn = marks.map((mark) => {
    if (mark.kind === 'band') {
      const upper = mark.points.map(([a, , high]) => at([a, high]));
      const lower = mark.points.map(([a, low]) => at([a, low])).reverse();
      return `<polygon fill="${mark.colour}" fill-opacity=".15" points="${[...upper, ...lower].join(' ')}"/>`;
    }
    if (mark.kind === 'words') {
      return mark.points
        .map(
          ([a, b, text]) =>
            // Under its point where another, right above, has its words there.
            `<text x="${Number(px(a)) + 6}" y="${Number(py(b)) + (mark.points.some(([c, d]) => Math.abs(share(c, x) - share(a, x)) < NEAR && d > b && share(d, y) - share(b, y) < NEAR) ? 14 : -6)}" style="fill:${mark.colour}">${escapeHtml(text)}</text>`,
        )
        .join('');
    }
    if (mark.kind === 'line')
      return `<polyline fill="none" stroke="${mark.colour}" stroke-width="1.5" points="${mark.points.map(at).join(' ')}"/>`;
    return mark.points.map(([a, b]) => `<circle r="3" fill="${mark.colour}" cx="${px(a)}" cy="${py(b)}"/>`).join('');
  });
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">`,
    ...y.ticks.map(
      ([value, text]) =>
        `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(value)}" y2="${py(value)}" stroke="#e3e3e3"/><text x="${LEFT - 6}" y="${Number(py(value)) + 4}" text-anchor="end">${escapeHtml(text)}</text>`,
    ),
    ...x.ticks.map(
      ([value, text]) =>
        `<line x1="${px(value)}" x2="${px(value)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="#eee"/><text x="${px(value)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${escapeHtml(text)}</text>`,
    ),
    ...drawn,
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" text-anchor="end">${escapeHtml(x.label)}</text><text x="${LEFT + 6}" y="${TOP + 12}">${escapeHtml(y.label)}</text>`,
    '</svg>',
  ].join('\n');
}
