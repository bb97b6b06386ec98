import { escapeHtml } from './html.ts';

/** An axis: its range, and where it is labelled. */
export interface Axis {
  readonly from: number;
  readonly to: number;
  readonly label: string;
  readonly ticks: readonly (readonly [value: number, text: string])[];
}

/** What is drawn, in the units of the axes: lines, dots and rings of [x, y], a band of [x, low, high], words beside points. */
export type Mark =
  | {
      readonly kind: 'words';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, y: number, text: string])[];
    }
  | {
      readonly kind: 'line' | 'dot' | 'ring';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, y: number])[];
    }
  | {
      readonly kind: 'band';
      readonly colour: string;
      readonly points: readonly (readonly [x: number, low: number, high: number])[];
    };

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [860, 340, 64, 16, 12, 44];

/** Room that a word of the labels takes, in pixels. */
const [LETTER, LINE] = [6.6, 12];

interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

const meet = (a: Box, b: Box): boolean => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/** Where a label beside a point meets nothing of what is `taken`: above or below it, to the right or left. */
function beside(x: number, y: number, text: string, taken: readonly Box[]): Box {
  const width = LETTER * text.length;
  const places = [x + 6, x - 6 - width].flatMap((left) =>
    [y - 6 - LINE, y + 6].map((top): Box => ({ left, top, right: left + width, bottom: top + LINE })),
  );
  const inside = places.filter(({ left, right }) => left > LEFT && right < WIDTH - RIGHT);
  return (inside.find((place) => !taken.some((box) => meet(place, box))) ?? inside[0] ?? places[0]) as Box;
}

/** A logarithmic axis: the whole decades around the values, which are logarithms to base 10. */
export function decades(values: readonly number[], label: string): Axis {
  const from = Math.floor(Math.min(...values));
  const to = Math.max(from + 1, Math.ceil(Math.max(...values)));
  const ticks = Array.from(
    { length: to - from + 1 },
    (_, i) => [from + i, String(Number((10 ** (from + i)).toPrecision(1)))] as const,
  );
  return { from, to, label, ticks };
}

/** One plot as SVG. Values outside an axis are drawn at its end. */
export function plot(title: string, x: Axis, y: Axis, marks: readonly Mark[]): string {
  const share = (value: number, { from, to }: Axis) => Math.min(1, Math.max(0, (value - from) / (to - from || 1)));
  const px = (value: number) => (LEFT + share(value, x) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const py = (value: number) => (TOP + (1 - share(value, y)) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const at = ([a, b]: readonly [number, number]) => `${px(a)},${py(b)}`;
  // Words keep clear of points and of lines that stand upright.
  const taken = marks.flatMap(({ kind, points }): Box[] => {
    if (kind === 'band' || kind === 'words' || (kind === 'line' && points.some(([a]) => a !== points[0]?.[0])))
      return [];
    const places = points.map(([a, b]) => [Number(px(a)), Number(py(b))] as const);
    const box = (some: typeof places): Box => ({
      left: Math.min(...some.map(([a]) => a)) - 4,
      right: Math.max(...some.map(([a]) => a)) + 4,
      top: Math.min(...some.map(([, b]) => b)) - 4,
      bottom: Math.max(...some.map(([, b]) => b)) + 4,
    });
    return kind === 'line' ? [box(places)] : places.map((place) => box([place]));
  });
  const drawn = marks.map((mark) => {
    if (mark.kind === 'band') {
      const upper = mark.points.map(([a, , high]) => at([a, high]));
      const lower = mark.points.map(([a, low]) => at([a, low])).reverse();
      return `<polygon fill="${mark.colour}" fill-opacity=".15" points="${[...upper, ...lower].join(' ')}"/>`;
    }
    if (mark.kind === 'words') {
      // From above: the upper of two near points has its words over it.
      return [...mark.points]
        .sort((a, b) => b[1] - a[1])
        .map(([a, b, text]) => {
          const box = beside(Number(px(a)), Number(py(b)), text, taken);
          taken.push(box);
          return `<text x="${box.left.toFixed(1)}" y="${(box.bottom - 2).toFixed(1)}" style="fill:${mark.colour}">${escapeHtml(text)}</text>`;
        })
        .join('');
    }
    if (mark.kind === 'line')
      return `<polyline fill="none" stroke="${mark.colour}" stroke-width="1.5" points="${mark.points.map(at).join(' ')}"/>`;
    const fill =
      mark.kind === 'ring' ? `fill="none" stroke="${mark.colour}" stroke-width="1.5"` : `fill="${mark.colour}"`;
    return mark.points.map(([a, b]) => `<circle r="3.5" ${fill} cx="${px(a)}" cy="${py(b)}"/>`).join('');
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
