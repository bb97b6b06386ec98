import type { LayerTime, Rates } from '../bench.ts';
import { htmlTable, page } from './html.ts';
import { type Mark, plot } from './plot.ts';

const grey = '#777';
const green = '#1b7a3d';

/** Rates of the layers under the best of them (a roofline by what was measured), and the table. */
export function profileReport(
  summary: string,
  how: string,
  layers: readonly LayerTime[],
  best: Rates,
  rows: readonly (readonly string[])[],
): string {
  const log = Math.log10;
  const dots = layers.flatMap((layer) =>
    layer.multiplyAdds > 0 && layer.gflops > 0
      ? [{ ...layer, x: log((2 * layer.multiplyAdds) / layer.bytes), y: log(layer.gflops) }]
      : [],
  );
  const longest = [...dots].sort((a, b) => b.milliseconds - a.milliseconds).slice(0, 6);
  const xs = [...dots.map(({ x }) => x), best.gigabytes > 0 && best.gflops > 0 ? log(best.gflops / best.gigabytes) : 0];
  const ys = [...dots.map(({ y }) => y), log(best.gflops || 1)];
  const x = axis(xs, 'operations a byte');
  const y = axis(ys, 'GFLOP/s');
  // Lines end where they leave the plot.
  const slope = best.gigabytes > 0 ? log(best.gigabytes) : undefined;
  const marks: Mark[] = [];
  if (best.gflops > 0 && slope !== undefined) {
    const knee = log(best.gflops) - slope;
    const start = Math.max(x.from, y.from - slope);
    const roof: (readonly [number, number])[] = [
      ...(start < knee ? [[start, start + slope] as const] : []),
      [Math.max(knee, x.from), log(best.gflops)],
      [x.to, log(best.gflops)],
    ];
    marks.push({ kind: 'line', colour: grey, points: roof });
  }
  marks.push(
    { kind: 'dot', colour: green, points: dots.map((dot) => [dot.x, dot.y] as const) },
    { kind: 'words', colour: green, points: longest.map((dot) => [dot.x, dot.y, dot.name] as const) },
  );
  return page(
    `Layers of ${summary.replace(/,.*/, '')}`,
    [
      summary,
      how,
      'Grey line: the highest GFLOP/s and GB/s of any layer here with at least a hundredth of the time. Names: the longest six.',
    ],
    [plot('GFLOP/s against operations a byte', x, y, marks), htmlTable(rows)],
  );
}

/** Decades around the values. */
function axis(values: readonly number[], label: string) {
  const [from, to] = [Math.floor(Math.min(...values)), Math.floor(Math.max(...values)) + 1];
  const ticks = Array.from(
    { length: to - from + 1 },
    (_, i) => [from + i, String(Number((10 ** (from + i)).toPrecision(1)))] as const,
  );
  return { from, to, label, ticks };
}
