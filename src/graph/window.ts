import { FaceNetError } from '../errors.ts';
import { type Kernel, type KernelOptions, kernel } from './kernel.ts';
import { requireRank, type Shape, text } from './shape.ts';

/** Geometry of a pooling window, complete: `window` fills in what the caller of a builder left out. Pixels. */
export interface Window extends Kernel {
  readonly sizeY: number;
  readonly sizeX: number;
  /** Rounds the number of windows up: a last window may reach beyond the padded image, where it is cut off. */
  readonly ceil: boolean;
}

/** A number for all sides or both directions, or each by name. */
export interface WindowOptions extends KernelOptions {
  readonly size: number | readonly [y: number, x: number];
  /** Default 0. At most half the window: a window of padding alone has no answer. */
  readonly padding?: KernelOptions['padding'];
  /** Rounds the number of windows up (Caffe, Torch's `ceil()`); default false. */
  readonly ceil?: boolean;
}

/** The options with every side and direction written out. */
export function window({ size, ceil = false, ...options }: WindowOptions): Window {
  const [sizeY, sizeX] = typeof size === 'number' ? [size, size] : size;
  return { sizeY, sizeX, ...kernel(options), ceil };
}

const numbers = ['sizeY', 'sizeX', 'strideY', 'strideX', 'padTop', 'padLeft', 'padBottom', 'padRight'] as const;

function outputSize(
  input: number,
  kernel: number,
  stride: number,
  before: number,
  after: number,
  ceil: boolean,
): number {
  const steps = (input + before + after - kernel) / stride;
  if (!ceil) return Math.floor(steps) + 1;
  const count = Math.ceil(steps) + 1;
  return (count - 1) * stride >= input + before ? count - 1 : count;
}

/**
 * Shape of a pooled image: floor((size + padding - window) / stride) + 1, or the same rounded up, less a last window that
 * would start beyond the image and its leading padding.
 *
 * @throws 'input' unless x is [N, height, width, channels], sizes are whole, padding is at most half the window and at least
 * one window fits.
 */
export function windowOutput(operator: string, x: Shape, w: Window): Shape {
  requireRank(operator, 'x', x, 4);
  const [batch, height, width, channels] = x as [number, number, number, number];
  for (const name of numbers) {
    const least = name.startsWith('pad') ? 0 : 1;
    if (!(Number.isInteger(w[name]) && w[name] >= least)) {
      throw new FaceNetError('input', `${operator}: ${name} must be a whole number from ${least}, got ${w[name]}.`);
    }
  }
  for (const [side, size] of [
    ['padTop', w.sizeY],
    ['padBottom', w.sizeY],
    ['padLeft', w.sizeX],
    ['padRight', w.sizeX],
  ] as const) {
    if (w[side] > size / 2) {
      throw new FaceNetError(
        'input',
        `${operator}: ${side} must be at most half the window (${size} pixels), since a window of padding alone has no answer, got ${w[side]}.`,
      );
    }
  }
  const outHeight = outputSize(height, w.sizeY, w.strideY, w.padTop, w.padBottom, w.ceil);
  const outWidth = outputSize(width, w.sizeX, w.strideX, w.padLeft, w.padRight, w.ceil);
  if (outHeight < 1 || outWidth < 1) {
    throw new FaceNetError(
      'input',
      `${operator}: the window ${w.sizeY}x${w.sizeX} must fit into the padded input, got x ${text(x)}.`,
    );
  }
  return [batch, outHeight, outWidth, channels];
}

/** Fields of Params that pooling kernels share, except the padding below and to the right. */
export const windowParams = {
  batch: 'u32',
  height: 'u32',
  width: 'u32',
  channels: 'u32',
  outHeight: 'u32',
  outWidth: 'u32',
  sizeY: 'u32',
  sizeX: 'u32',
  strideY: 'u32',
  strideX: 'u32',
  padTop: 'u32',
  padLeft: 'u32',
} as const;

/** Values of `windowParams`: x is the pooled operator's input, y its output, whichever of them an entry reads or writes. */
export function windowValues(x: Shape, y: Shape, w: Window): Record<keyof typeof windowParams, number> {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const { sizeY, sizeX, strideY, strideX, padTop, padLeft } = w;
  return {
    batch,
    height,
    width,
    channels,
    outHeight: y[1] as number,
    outWidth: y[2] as number,
    sizeY,
    sizeX,
    strideY,
    strideX,
    padTop,
    padLeft,
  };
}
