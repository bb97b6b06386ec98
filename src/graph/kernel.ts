import { FaceNetError } from '../errors.ts';
import type { Attributes } from './operator.ts';
import { type Shape, text } from './shape.ts';

/** How a kernel or a pooling window moves over an image, complete: `kernel` fills in what the caller of a builder left out. Pixels. */
export interface Kernel extends Attributes {
  readonly strideY: number;
  readonly strideX: number;
  readonly padTop: number;
  readonly padLeft: number;
  readonly padBottom: number;
  readonly padRight: number;
}

/** A number for all sides or both directions, or each by name. */
export interface KernelOptions {
  /** Default 1. */
  readonly stride?: number | readonly [y: number, x: number];
  /** Default 0. */
  readonly padding?: number | readonly [top: number, left: number, bottom: number, right: number];
}

/** The options with every side and direction written out. */
export function kernel({ stride = 1, padding = 0 }: KernelOptions): Kernel {
  const [strideY, strideX] = typeof stride === 'number' ? [stride, stride] : stride;
  const [padTop, padLeft, padBottom, padRight] =
    typeof padding === 'number' ? [padding, padding, padding, padding] : padding;
  return { strideY, strideX, padTop, padLeft, padBottom, padRight };
}

/**
 * Height and width of a convolved image [N, height, width, channels]: floor((size + padding - kernel) / stride) + 1. The weight's shape begins
 * with the kernel's height and width.
 *
 * @throws 'input' unless the numbers among the attributes are whole, strides from 1, and at least one kernel fits.
 */
export function kernelOutput(operator: string, x: Shape, weight: Shape, a: Kernel): [height: number, width: number] {
  for (const [name, value] of Object.entries(a)) {
    const least = name.startsWith('stride') ? 1 : 0;
    if (typeof value === 'number' && !(Number.isInteger(value) && value >= least)) {
      throw new FaceNetError('input', `${operator}: ${name} must be a whole number from ${least}, got ${value}.`);
    }
  }
  const [, height, width] = x as [number, number, number];
  const [kernelHeight, kernelWidth] = weight as [number, number];
  const outHeight = Math.floor((height + a.padTop + a.padBottom - kernelHeight) / a.strideY) + 1;
  const outWidth = Math.floor((width + a.padLeft + a.padRight - kernelWidth) / a.strideX) + 1;
  if (outHeight < 1 || outWidth < 1) {
    throw new FaceNetError(
      'input',
      `${operator}: the kernel ${kernelHeight}x${kernelWidth} must fit into the padded input, got x ${text(x)}.`,
    );
  }
  return [outHeight, outWidth];
}

/** Fields of Params that convolutions share. */
export const kernelParams = {
  batch: 'u32',
  height: 'u32',
  width: 'u32',
  channels: 'u32',
  outHeight: 'u32',
  outWidth: 'u32',
  kernelHeight: 'u32',
  kernelWidth: 'u32',
  strideY: 'u32',
  strideX: 'u32',
  padTop: 'u32',
  padLeft: 'u32',
} as const;

/** Values of `kernelParams`: x is the convolution's input, y its output, whichever of them an entry reads or writes. */
export function kernelValues(x: Shape, weight: Shape, y: Shape, a: Kernel): Record<keyof typeof kernelParams, number> {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [kernelHeight, kernelWidth] = weight as [number, number];
  const [, outHeight, outWidth] = y as [number, number, number];
  const { strideY, strideX, padTop, padLeft } = a;
  return {
    batch,
    height,
    width,
    channels,
    outHeight,
    outWidth,
    kernelHeight,
    kernelWidth,
    strideY,
    strideX,
    padTop,
    padLeft,
  };
}
