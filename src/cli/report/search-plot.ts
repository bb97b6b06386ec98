import type { SearchTime } from '../bench-search.ts';
import { decades, type Mark, plot } from './plot.ts';

const colours = { float32: '#1b7a3d', int8: '#1f4e9c' } as const;

/** Milliseconds of a call by the templates of the gallery: a line for each kind of template and number of queries. */
export function searchPlot(searches: readonly SearchTime[]): string {
  const dots = searches.flatMap((search) =>
    search.milliseconds > 0 ? [{ ...search, x: Math.log10(search.templates), y: Math.log10(search.milliseconds) }] : [],
  );
  const marks = [...new Set(dots.map(({ queries }) => queries))].flatMap((count) =>
    (['float32', 'int8'] as const).flatMap((kept): Mark[] => {
      const colour = colours[kept];
      const points = dots
        .filter(({ kind, queries }) => kind === kept && queries === count)
        .map(({ x, y }) => [x, y] as const);
      return [
        { kind: 'line', colour, points },
        { kind: count === 1 ? 'dot' : 'ring', colour, points },
      ];
    }),
  );
  const x = decades([3, ...dots.map((dot) => dot.x)], 'templates');
  const y = decades([0, ...dots.map((dot) => dot.y)], 'ms');
  return plot('Milliseconds against templates', x, y, marks);
}
