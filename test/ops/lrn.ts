import { type LrnOptions, lrn, lrnOperator } from '../../src/ops/lrn.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
type Options = Readonly<Record<string, unknown>>;
const complete = (options: Options) => ({ size: 5, alpha: 1e-4, beta: 0.75, k: 1, ...(options as LrnOptions) });

/** Channels of the window around c. */
const window = (c: number, columns: number, size: number) =>
  Array.from({ length: size }, (_, i) => c - (size - 1) / 2 + i).filter((j) => j >= 0 && j < columns);

const spreads = (row: Float64Array, options: Options) => {
  const { size, alpha, k } = complete(options);
  return row.map((_, c) => k + (alpha / size) * window(c, row.length, size).reduce((sum, j) => sum + row[j]! ** 2, 0));
};

/** Roundings of s^-beta in units of 2^-24. */
function factorError(options: Options): number {
  const { size, alpha, beta, k } = complete(options);
  const s = size + 3; // the sum of squares, its product with alpha / size (rounded itself) and the sum with k, all positive
  // Two roots of 4.5 ulp (WGSL), a quotient of 2.5 ulp and a product.
  if (beta === 0.75) return 0.75 * s + 1.5 * (9 + 5) + 9 + 1;
  // exp2(-beta * log2(s)) in WGSL: log2 within 2^-21 or 3 ulp, exp2 within 3 + 2 |t| ulp. |x| < 1, so s lies from k to k + alpha.
  const log2 = Math.max(Math.abs(Math.log2(k)), Math.abs(Math.log2(k + alpha)));
  return Math.abs(beta) * (s + 8 + 6 * log2 + 2) + 6 + 4 * Math.abs(beta) * log2;
}

export const spec: OperatorSpec = {
  operator: lrnOperator,
  inputs: ['x'],
  build: ({ x }, options) => lrn(x!, options),
  forward({ x }, shapes, options) {
    const columns = shapes.x![shapes.x!.length - 1]!;
    const { beta } = complete(options);
    const y = new Float64Array(x!.length);
    for (let start = 0; start < y.length; start += columns) {
      const row = x!.subarray(start, start + columns);
      spreads(row, options).forEach((s, c) => {
        y[start + c] = row[c]! * s ** -beta;
      });
    }
    return y;
  },
  gradient({ x }, dy, shapes, options) {
    const columns = shapes.x![shapes.x!.length - 1]!;
    const { size, alpha, beta } = complete(options);
    const dx = new Float64Array(x!.length);
    for (let start = 0; start < dx.length; start += columns) {
      const row = x!.subarray(start, start + columns);
      const s = spreads(row, options);
      row.forEach((v, j) => {
        const d = dy[start + j]!;
        dx[start + j]! += d * s[j]! ** -beta;
        // s[j] depends on every channel of its window.
        for (const c of window(j, columns, size))
          dx[start + c]! -= d * v * beta * s[j]! ** (-beta - 1) * (alpha / size) * 2 * row[c]!;
      });
    }
    return { x: dx };
  },
  // y: one product more than the factor. dx: two terms of the sizes in `magnitude`; the second adds `size` products with a factor, a
  // quotient by s (2.5 ulp) and four more roundings.
  bound(what, _, options) {
    const { size } = complete(options);
    return (what === 'y' ? factorError(options) + 1 : factorError(options) + (size + 3) + size + 12) * UNIT;
  },
  magnitude(what, _, __, ___, options) {
    const { alpha, beta, k } = complete(options);
    return what === 'y' ? 0 : k ** -beta + 2 * beta * alpha * k ** (-beta - 1);
  },
  cases: [
    { why: 'one channel', shapes: { x: [1, 1] } },
    { why: 'defaults on an image', shapes: { x: [2, 3, 2, 64] } },
    { why: 'a strong alpha, 4 channels at a time and both edges', shapes: { x: [3, 19] }, options: { alpha: 0.9 } },
    { why: 'window wider than the channels', shapes: { x: [3, 6] }, options: { size: 11, alpha: 0.3 } },
    { why: 'window of one', shapes: { x: [2, 9] }, options: { size: 1, alpha: 0.5 } },
    { why: 'window of three, k 2', shapes: { x: [2, 14] }, options: { size: 3, alpha: 0.5, k: 2 } },
    { why: 'another power', shapes: { x: [2, 13] }, options: { alpha: 2, beta: 0.5 } },
    { why: 'a power above 1, k below 1', shapes: { x: [2, 8] }, options: { alpha: 3, beta: 1.25, k: 0.5 } },
    {
      why: 'a channel range: neighbours outside the range do not count',
      shapes: { x: [2, 2, 2, 12] },
      options: { alpha: 0.9 },
      slices: ['x'],
    },
  ],
};
