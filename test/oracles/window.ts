// Pooling windows by enumeration: shares no formula with src/graph/window.ts.
import type { Shape } from '../../src/graph/shape.ts';

type Options = Readonly<Record<string, unknown>>;

/** Both directions, or all four sides, of an option that may be one number. */
function numbers(option: unknown, count: number, otherwise: number): number[] {
  if (Array.isArray(option)) return option as number[];
  return new Array<number>(count).fill((option as number | undefined) ?? otherwise);
}

/** One direction of a pooling. */
interface Line {
  readonly size: number;
  readonly stride: number;
  /** First position of each window, from -padding on; windows may reach beyond the image. */
  readonly starts: readonly number[];
  /** End of the padded image. */
  readonly end: number;
}

/** Windows along a line of `pixels`, counted one by one. */
function line(pixels: number, size: number, stride: number, before: number, after: number, ceil: boolean): Line {
  const end = pixels + after;
  const starts: number[] = [];
  for (let start = -before; ; start += stride) {
    if (ceil) {
      // One window more for as long as the last leaves some of the padded image uncovered, unless it starts beyond the image.
      const last = starts[starts.length - 1];
      if ((last !== undefined && last + size >= end) || start >= pixels) break;
    } else if (start + size > end) {
      break;
    }
    starts.push(start);
  }
  return { size, stride, starts, end };
}

export interface OracleWindow {
  /** Index of the output element. */
  readonly output: number;
  /** Indices into x of the pixels in the image, in row-major order. */
  readonly pixels: readonly number[];
  /** Pixels of the window that lie in the padded image. */
  readonly padded: number;
}

/** Every window of every image and channel. @throws when `outputShape` does not have the windows that were counted. */
export function windows(x: Shape, options: Options, outputShape: Shape): OracleWindow[] {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [sizeY, sizeX] = numbers(options.size, 2, 1) as [number, number];
  const [strideY, strideX] = numbers(options.stride, 2, 1) as [number, number];
  const [top, left, bottom, right] = numbers(options.padding, 4, 0) as [number, number, number, number];
  const down = line(height, sizeY, strideY, top, bottom, options.ceil === true);
  const across = line(width, sizeX, strideX, left, right, options.ceil === true);
  const counted = [batch, down.starts.length, across.starts.length, channels];
  if (counted.join() !== outputShape.join())
    throw new Error(`pooling: the windows of [${x}] number [${counted}], the definition says [${outputShape}]`);
  const found: OracleWindow[] = [];
  for (let n = 0; n < batch; n++) {
    for (const y of down.starts) {
      for (const x of across.starts) {
        for (let c = 0; c < channels; c++) {
          const pixels: number[] = [];
          let padded = 0;
          for (let iy = y; iy < Math.min(y + sizeY, down.end); iy++) {
            for (let ix = x; ix < Math.min(x + sizeX, across.end); ix++) {
              padded++;
              if (iy >= 0 && iy < height && ix >= 0 && ix < width)
                pixels.push(((n * height + iy) * width + ix) * channels + c);
            }
          }
          found.push({ output: found.length, pixels, padded });
        }
      }
    }
  }
  return found;
}

/** Pixels of a window (`area`), its sides together (`sides`), and the most windows that hold one pixel (`holders`). */
export function windowSizes(options: Options): { area: number; sides: number; holders: number } {
  const [sizeY, sizeX] = numbers(options.size, 2, 1) as [number, number];
  const [strideY, strideX] = numbers(options.stride, 2, 1) as [number, number];
  return {
    area: sizeY * sizeX,
    sides: sizeY + sizeX,
    holders: Math.ceil(sizeY / strideY) * Math.ceil(sizeX / strideX),
  };
}
