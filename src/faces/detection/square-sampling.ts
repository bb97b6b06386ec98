import type { Pixels } from '../preprocessing.ts';

/** Whole pixels of a photo; inside it. */
export interface Region {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** How the shorter direction is filled up with black to a square: behind the picture, or on both sides, the odd line behind. */
export type SquarePadding = 'behind' | 'centred';

/** Black pixels before a region that is filled up to a square. */
function paddingBefore({ width, height }: Region, padding: SquarePadding): { left: number; top: number } {
  if (padding === 'behind') return { left: 0, top: 0 };
  const [across, down] = [height - width, width - height].map((missing) =>
    missing > 0 ? missing - Math.round(missing / 2) : 0,
  ) as [number, number];
  return { left: across, top: down };
}

/**
 * A region of a photo, filled up with black to a square, as `size` x `size` numbers (byte - mean) / 255 of three channels, written into `to`
 * from element `at`. Output pixel i shows the position i * side / size of the square, between four pixels; beyond the last one that one.
 *
 * That is padToSquare of face-api.js and TensorFlow's resizeBilinear without aligned corners and half pixels: no pixels are averaged, so a
 * large photo is looked at in few places only, and only these are read.
 */
export function sampleSquare(
  { data, width: photoWidth, height: photoHeight }: Pixels,
  region: Region,
  { size, padding, mean }: { size: number; padding: SquarePadding; mean: readonly [number, number, number] },
  to: Float32Array,
  at = 0,
): void {
  const channels = data.length / (photoWidth * photoHeight);
  const side = Math.max(region.width, region.height);
  const { left, top } = paddingBefore(region, padding);
  const step = side / size;
  const shift = mean.map((value) => -value / 255) as [number, number, number];
  const scale = 1 / 255;
  // Byte offset of the two columns between which each output column lies; -1: black.
  const columns = new Int32Array(2 * size);
  const parts = new Float64Array(size);
  const column = (position: number) => {
    const x = Math.min(position, side - 1) - left;
    return x >= 0 && x < region.width ? (region.x + x) * channels : -1;
  };
  for (let i = 0; i < size; i++) {
    const position = Math.floor(i * step);
    columns[2 * i] = column(position);
    columns[2 * i + 1] = column(position + 1);
    parts[i] = i * step - position;
  }
  const line = (position: number) => {
    const y = Math.min(position, side - 1) - top;
    return y >= 0 && y < region.height ? (region.y + y) * photoWidth * channels : -1;
  };
  let target = at;
  for (let j = 0; j < size; j++) {
    const position = Math.floor(j * step);
    const part = j * step - position;
    const [upper, lower] = [line(position), line(position + 1)];
    for (let i = 0; i < size; i++) {
      const before = columns[2 * i] as number;
      const behind = columns[2 * i + 1] as number;
      const across = parts[i] as number;
      for (let channel = 0; channel < 3; channel++) {
        const a = upper < 0 || before < 0 ? 0 : (data[upper + before + channel] as number);
        const b = upper < 0 || behind < 0 ? 0 : (data[upper + behind + channel] as number);
        const c = lower < 0 || before < 0 ? 0 : (data[lower + before + channel] as number);
        const d = lower < 0 || behind < 0 ? 0 : (data[lower + behind + channel] as number);
        const above = a + (b - a) * across;
        const below = c + (d - c) * across;
        to[target++] = (above + (below - above) * part) * scale + (shift[channel] as number);
      }
    }
  }
}
