import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireRank, type Shape, size, text } from '../graph/shape.ts';

/** One direction of a resize: every output line is a weighted sum of neighbouring input lines. */
interface Resize extends Attributes {
  readonly axis: 'height' | 'width';
  /** Lines of the input and of the output, pixels. */
  readonly from: number;
  readonly to: number;
  readonly method: 'bilinear' | 'area';
  readonly antialias: boolean;
  /** Whether it is the transposed map: from the gradient of the `to` lines to the gradient of the `from` lines. */
  readonly transposed: boolean;
}

/** Weights of output line `o`, by input line. Always at least one, and they sum to 1. */
function weights(o: number, { from, to, method, antialias }: Resize): Map<number, number> {
  const found = new Map<number, number>();
  const scale = from / to;
  if (method === 'area') {
    // Whole numbers first: o * (from / to) may round across a line.
    const start = Math.floor((o * from) / to);
    const end = Math.ceil(((o + 1) * from) / to);
    for (let i = start; i < end; i++) found.set(i, 1 / (end - start));
    return found;
  }
  // A triangle around the output pixel's centre; input pixel i has its own at i + 0.5. Pixels beyond the edge do not exist:
  // dividing by the sum of the others is the same as repeating the edge.
  const reach = antialias ? Math.max(scale, 1) : 1;
  const centre = (o + 0.5) * scale;
  let sum = 0;
  for (let i = Math.max(0, Math.floor(centre - reach)); i < Math.min(from, Math.ceil(centre + reach)); i++) {
    const weight = 1 - Math.abs(i + 0.5 - centre) / reach;
    if (weight <= 0) continue;
    found.set(i, weight);
    sum += weight;
  }
  for (const [i, weight] of found) found.set(i, weight / sum);
  return found;
}

/**
 * The map as a banded matrix: row o of `data` holds the first input line it reads, then the weights of `taps` lines from
 * there on. Every row stays inside the input.
 */
function banded(a: Resize): { data: Float32Array<ArrayBuffer>; lines: number; taps: number } {
  const lines = a.transposed ? a.from : a.to;
  const rowsOf: Map<number, number>[] = Array.from({ length: lines }, () => new Map());
  for (let o = 0; o < a.to; o++) {
    for (const [i, weight] of weights(o, a)) {
      if (a.transposed) rowsOf[i]?.set(o, weight);
      else rowsOf[o]?.set(i, weight);
    }
  }
  const inputs = a.transposed ? a.to : a.from;
  const spans = rowsOf.map(
    (row) => (row.size === 0 ? [0, 0] : [Math.min(...row.keys()), Math.max(...row.keys())]) as [number, number],
  );
  const taps = Math.max(...spans.map(([first, last]) => last - first + 1));
  const data = new Float32Array(lines * (taps + 1));
  spans.forEach(([first], line) => {
    const start = Math.min(first, inputs - taps);
    data[line * (taps + 1)] = start;
    for (const [i, weight] of rowsOf[line] as Map<number, number>) data[line * (taps + 1) + 1 + i - start] = weight;
  });
  return { data, lines, taps };
}

/** y line o = sum over t of band[o, 1 + t] * x line (band[o, 0] + t), t ascending. */
const forward: Entry<Resize> = {
  inputs: ['x', 'band'],
  output: 'y',
  strided: ['x', 'y'],
  shape({ x }, { axis, from, to, transposed }) {
    const [batch, height, width, channels] = x as unknown as [number, number, number, number];
    const lines = transposed ? from : to;
    return axis === 'height' ? [batch, lines, width, channels] : [batch, height, lines, channels];
  },
  params({ x, band, y }, { axis }) {
    const [batch, height, width, channels] = x as unknown as [number, number, number, number];
    const common = { taps: columns(band as Shape) - 1, channels };
    return axis === 'height'
      ? { images: batch, lines: height, outLines: (y as Shape)[1] as number, pixels: width, ...common }
      : { images: batch * height, lines: width, outLines: (y as Shape)[2] as number, pixels: 1, ...common };
  },
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ dy, attributes }) => ({ x: apply(dy, { ...attributes, transposed: !attributes.transposed }) }),
};

export const resizeOperator = defineOperator({
  name: 'resize',
  params: { images: 'u32', lines: 'u32', outLines: 'u32', pixels: 'u32', channels: 'u32', taps: 'u32' },
  entries: { forward },
});

function apply(x: Value, attributes: Resize): Value {
  const { data, lines, taps } = banded(attributes);
  return x.graph.apply(resizeOperator, 'forward', { x, band: x.graph.constant(data, [lines, taps + 1]) }, attributes);
}

export interface ResizeOptions {
  /** Size of the result, pixels. */
  readonly height: number;
  readonly width: number;
  /**
   * 'bilinear' (default): pixel centres at half pixels, edges repeated. 'area': mean of all input pixels that an output pixel
   * touches, each with the same weight (adaptive average pooling).
   */
  readonly method?: 'bilinear' | 'area';
  /** Widens the bilinear kernel when shrinking, so that every input pixel counts (default false). No effect when growing. */
  readonly antialias?: boolean;
}

/**
 * Resizes images: x [N, height, width, channels] -> y [N, options.height, options.width, channels]. First down the columns,
 * then along the rows; a direction that keeps its size costs nothing, and the same size gives x itself.
 *
 * @throws 'input' when a size is not a whole number from 1, and for antialias with 'area'.
 */
export function resize(x: Value, { height, width, method = 'bilinear', antialias = false }: ResizeOptions): Value {
  requireRank('resize', 'x', x.shape, 4);
  for (const [name, value] of [
    ['height', height],
    ['width', width],
  ] as const) {
    if (!(Number.isInteger(value) && value >= 1))
      throw new FaceNetError('input', `resize: ${name} must be a whole number from 1, got ${value}.`);
  }
  if (method !== 'bilinear' && method !== 'area')
    throw new FaceNetError('input', `resize: method must be bilinear or area, got ${String(method)}.`);
  if (antialias && method === 'area')
    throw new FaceNetError('input', 'resize: antialias must be off for area, which averages already, got true.');
  const [, fromHeight, fromWidth] = x.shape as [number, number, number];
  if (fromHeight < 1 || fromWidth < 1)
    throw new FaceNetError('input', `resize: x must have pixels, got ${text(x.shape)}.`);
  const common = { method, antialias, transposed: false };
  const tall = height === fromHeight ? x : apply(x, { axis: 'height', from: fromHeight, to: height, ...common });
  return width === fromWidth ? tall : apply(tall, { axis: 'width', from: fromWidth, to: width, ...common });
}
