import { type ResizeOptions, resize, resizeOperator } from '../../src/ops/resize.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
type Options = Readonly<Record<string, unknown>>;

/** Weights of every input line for output line `o`, from the definition. */
function weights(
  o: number,
  from: number,
  to: number,
  { method = 'bilinear', antialias = false }: Options,
): Float64Array {
  const found = new Float64Array(from);
  if (method === 'area') {
    // Input line i spans [i, i + 1), output line o spans [o, o + 1) * from / to; compared in whole numbers.
    for (let i = 0; i < from; i++) if (i * to < (o + 1) * from && (i + 1) * to > o * from) found[i] = 1;
    const count = found.reduce((a, b) => a + b);
    return found.map((w) => w / count);
  }
  const position = ((o + 0.5) * from) / to - 0.5;
  if (!antialias || from <= to) {
    // Two neighbours; beyond the edge the edge is repeated.
    const before = Math.floor(position);
    const at = (i: number) => Math.min(Math.max(i, 0), from - 1);
    found[at(before)]! += 1 - (position - before);
    found[at(before + 1)]! += position - before;
    return found;
  }
  const reach = from / to;
  for (let i = 0; i < from; i++) found[i] = Math.max(0, 1 - Math.abs(i - position) / reach);
  const sum = found.reduce((a, b) => a + b);
  return found.map((w) => w / sum);
}

/** Calls `visit` with every (input element, output element, weight). */
function pairs(
  x: readonly number[],
  y: readonly number[],
  options: Options,
  visit: (input: number, output: number, weight: number) => void,
): void {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [, outHeight, outWidth] = y as [number, number, number];
  for (let oy = 0; oy < outHeight; oy++) {
    const down = weights(oy, height, outHeight, options);
    for (let ox = 0; ox < outWidth; ox++) {
      const across = weights(ox, width, outWidth, options);
      down.forEach((wy, iy) =>
        across.forEach((wx, ix) => {
          if (wy * wx === 0) return;
          for (let n = 0; n < batch; n++) {
            for (let c = 0; c < channels; c++) {
              visit(
                ((n * height + iy) * width + ix) * channels + c,
                ((n * outHeight + oy) * outWidth + ox) * channels + c,
                wy * wx,
              );
            }
          }
        }),
      );
    }
  }
}

const ratio = (x: readonly number[], { height, width }: Options) =>
  [(height as number) / x[1]!, (width as number) / x[2]!] as const;

export const spec: OperatorSpec = {
  operator: resizeOperator,
  inputs: ['x'],
  build: ({ x }, options) => resize(x!, options as unknown as ResizeOptions),
  forward({ x }, shapes, options, outputShape) {
    const y = new Float64Array(outputShape.reduce((a, b) => a * b));
    pairs(shapes.x!, outputShape, options, (input, output, weight) => {
      y[output]! += weight * x![input]!;
    });
    return y;
  },
  gradient({ x }, dy, shapes, options, outputShape) {
    const dx = new Float64Array(x!.length);
    pairs(shapes.x!, outputShape, options, (input, output, weight) => {
      dx[input]! += weight * dy[output]!;
    });
    return { x: dx };
  },
  // Each direction: weights rounded once, `taps` products added, where one line meets at most 2 / ratio + 1 others forward and
  // 2 ratio + 1 backward; the weights of an output sum to 1, those of an input to at most ratio + 1.
  bound(what, shapes, options) {
    const taps = ratio(shapes.x!, options).map((r) => Math.max(2, 2 * (what === 'y' ? 1 / r : r) + 1));
    return taps.reduce((sum, count) => sum + count + 2, 0) * UNIT;
  },
  magnitude(what, _, __, shapes, options) {
    return what === 'y' ? 1 : ratio(shapes.x!, options).reduce((product, r) => product * (r + 1), 1);
  },
  cases: [
    { why: 'one pixel grows', shapes: { x: [1, 1, 1, 1] }, options: { height: 3, width: 2 } },
    { why: 'everything to one pixel', shapes: { x: [2, 5, 4, 3] }, options: { height: 1, width: 1 } },
    { why: 'doubled', shapes: { x: [2, 3, 4, 3] }, options: { height: 6, width: 8 } },
    { why: 'grows by a prime, shrinks by another', shapes: { x: [1, 5, 11, 5] }, options: { height: 7, width: 3 } },
    { why: 'one direction alone', shapes: { x: [2, 6, 5, 4] }, options: { height: 4, width: 5 } },
    { why: 'the other direction alone', shapes: { x: [2, 4, 6, 4] }, options: { height: 4, width: 9 } },
    {
      why: 'shrinks without a filter: some pixels are not read',
      shapes: { x: [1, 12, 12, 3] },
      options: { height: 3, width: 4 },
    },
    { why: 'antialiased', shapes: { x: [2, 11, 9, 3] }, options: { height: 3, width: 4, antialias: true } },
    {
      why: 'antialiased down, plain up',
      shapes: { x: [1, 9, 3, 2] },
      options: { height: 4, width: 7, antialias: true },
    },
    { why: 'area, whole factor', shapes: { x: [2, 6, 8, 3] }, options: { height: 3, width: 2, method: 'area' } },
    {
      why: 'area, overlapping windows',
      shapes: { x: [2, 7, 10, 4] },
      options: { height: 3, width: 4, method: 'area' },
    },
    { why: 'area, growing', shapes: { x: [1, 3, 2, 2] }, options: { height: 5, width: 4, method: 'area' } },
    { why: 'a channel range', shapes: { x: [2, 4, 5, 6] }, options: { height: 7, width: 3 }, slices: ['x'] },
  ],
};
