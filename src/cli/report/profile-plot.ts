import type { KernelSum, Rates } from '../bench-profile.ts';
import { decades, type Mark, plot } from './plot.ts';

const grey = '#777';
const green = '#1b7a3d';

/** Rates of layers or kernels under the best of them: a roofline by what was measured. */
export function profilePlot(sums: readonly KernelSum[], best: Rates): string {
  const log = Math.log10;
  const dots = sums.flatMap((sum) =>
    sum.multiplyAdds > 0 && sum.gflops > 0
      ? [{ ...sum, x: log((2 * sum.multiplyAdds) / sum.bytes), y: log(sum.gflops) }]
      : [],
  );
  const longest = [...dots].sort((a, b) => b.milliseconds - a.milliseconds).slice(0, 6);
  const xs = [...dots.map(({ x }) => x), best.gigabytes > 0 && best.gflops > 0 ? log(best.gflops / best.gigabytes) : 0];
  const ys = [...dots.map(({ y }) => y), log(best.gflops || 1)];
  const x = decades(xs, 'operations a byte');
  const y = decades(ys, 'GFLOP/s');
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
  return plot('GFLOP/s against operations a byte', x, y, marks);
}
