import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { type Shape, text } from '../graph/shape.ts';

/** Numbers in one row of `placements`. */
export const PLACEMENT_COLUMNS = 12;

interface WarpAffine extends Attributes {
  readonly height: number;
  readonly width: number;
  readonly border: 'zero' | 'edge';
  readonly samples: number;
  readonly scale: readonly number[];
  readonly shift: readonly number[];
}

const forward: Entry<WarpAffine> = {
  inputs: ['images', 'placements'],
  output: 'y',
  strided: ['y'],
  shape({ images, placements }, { height, width, samples, scale, shift }) {
    if (images?.length !== 1)
      throw new FaceNetError(
        'input',
        `warpAffine: images must be one heap of bytes [capacity], got ${text(images as Shape)}.`,
      );
    if (placements?.length !== 2 || placements[1] !== PLACEMENT_COLUMNS) {
      throw new FaceNetError(
        'input',
        `warpAffine: placements must be [N, ${PLACEMENT_COLUMNS}], got ${text(placements as Shape)}.`,
      );
    }
    for (const [name, value] of Object.entries({ height, width, samples })) {
      if (!(Number.isInteger(value) && value >= 1))
        throw new FaceNetError('input', `warpAffine: ${name} must be a whole number from 1, got ${value}.`);
    }
    for (const [name, list] of Object.entries({ scale, shift })) {
      if (list.length !== 3 || !list.every(Number.isFinite))
        throw new FaceNetError('input', `warpAffine: ${name} must be three finite numbers, got [${list.join(', ')}].`);
    }
    return [placements[0] as number, height, width, 3];
  },
  params: ({ placements }, { height, width, border, samples, scale, shift }) => ({
    batch: placements?.[0] as number,
    height,
    width,
    edge: border === 'edge' ? 1 : 0,
    samples,
    scale0: scale[0] as number,
    scale1: scale[1] as number,
    scale2: scale[2] as number,
    shift0: shift[0] as number,
    shift1: shift[1] as number,
    shift2: shift[2] as number,
  }),
  launch: ({ placements }, { height, width }) => ({ invocations: (placements?.[0] as number) * height * width }),
};

export const warpAffineOperator = defineOperator({
  name: 'warpAffine',
  params: {
    batch: 'u32',
    height: 'u32',
    width: 'u32',
    edge: 'u32',
    samples: 'u32',
    scale0: 'f32',
    scale1: 'f32',
    scale2: 'f32',
    shift0: 'f32',
    shift1: 'f32',
    shift2: 'f32',
  },
  entries: { forward },
});

/** Size and values of the crops; a single number stands for all three channels. */
export interface WarpAffineOptions {
  readonly height: number;
  readonly width: number;
  /** What lies outside an image: black (default, as OpenCV and OpenFace), or its nearest pixel. */
  readonly border?: 'zero' | 'edge';
  /** Bilinear samples a side inside each output pixel, averaged: 1 (default) reads four pixels; more avoid aliasing when the crop is smaller than its source. */
  readonly samples?: number;
  /** y = byte * scale + shift, by channel. Default 1 and 0. */
  readonly scale?: number | readonly number[];
  readonly shift?: number | readonly number[];
}

const three = (value: number | readonly number[]) => (typeof value === 'number' ? [value, value, value] : value);

/**
 * Cuts one aligned crop out of each image: rotation, scale and shift by bilinear sampling, then y = byte * scale + shift.
 *
 * images: u8 [capacity], all images of the batch one after the other, rows without padding, each starting at a multiple of
 * four bytes. placements: f32 [N, 12], one crop a row:
 *
 *     0 start of the image in units of four bytes (exact up to 2^24: heaps to 64 MiB)
 *     1 width   2 height   3 bytes per pixel: 3 (RGB) or 4 (RGBA, alpha ignored)
 *     4..9 a b tx c d ty: output pixel (x, y) shows the source at (a x + b y + tx, c x + d y + ty)
 *     10, 11 unused
 *
 * Integer coordinates are pixel centres on both sides (as OpenCV counts): the map a = d = 1, all else 0, copies. Several rows may
 * show one image. The caller makes sure that images lie inside the heap. Result f32 [N, height, width, 3], channels in the order
 * of the bytes. Not differentiable: pixels are data. @throws 'input' when shapes or options do not fit.
 */
export function warpAffine(images: Value, placements: Value, options: WarpAffineOptions): Value {
  const { height, width, border = 'zero', samples = 1, scale = 1, shift = 0 } = options;
  if (images.dtype !== 'u8')
    throw new FaceNetError('input', `warpAffine: images must be bytes (u8), got ${images.dtype}.`);
  return images.graph.apply(
    warpAffineOperator,
    'forward',
    { images, placements },
    { height, width, border, samples, scale: three(scale), shift: three(shift) },
  );
}
