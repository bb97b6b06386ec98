import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { type Shape, text } from '../graph/shape.ts';

/** Numbers in one row of `placements`. */
export const AREA_PLACEMENT_COLUMNS = 12;

interface AreaCrop extends Attributes {
  readonly height: number;
  readonly width: number;
  readonly scale: number;
  readonly shift: number;
}

const forward: Entry<AreaCrop> = {
  inputs: ['images', 'placements'],
  output: 'y',
  strided: ['y'],
  shape({ images, placements }, { height, width, scale, shift }) {
    if (images?.length !== 2 || !(images[1] === 1 || images[1] === 4))
      throw new FaceNetError('input', `areaCrop: images must be [words, 4] bytes, got ${text(images as Shape)}.`);
    if (placements?.length !== 2 || placements[1] !== AREA_PLACEMENT_COLUMNS) {
      throw new FaceNetError(
        'input',
        `areaCrop: placements must be [N, ${AREA_PLACEMENT_COLUMNS}], got ${text(placements as Shape)}.`,
      );
    }
    for (const [name, value] of Object.entries({ height, width })) {
      if (!(Number.isInteger(value) && value >= 1))
        throw new FaceNetError('input', `areaCrop: ${name} must be a whole number from 1, got ${value}.`);
    }
    for (const [name, value] of Object.entries({ scale, shift })) {
      if (!Number.isFinite(value))
        throw new FaceNetError('input', `areaCrop: ${name} must be a finite number, got ${value}.`);
    }
    return [placements[0] as number, height, width, 3];
  },
  params: ({ placements }, { height, width, scale, shift }) => ({
    batch: placements?.[0] as number,
    height,
    width,
    scale,
    shift,
  }),
  launch: ({ placements }, { height, width }) => ({ invocations: (placements?.[0] as number) * height * width }),
};

export const areaCropOperator = defineOperator({
  name: 'areaCrop',
  params: { batch: 'u32', height: 'u32', width: 'u32', scale: 'f32', shift: 'f32' },
  entries: { forward },
});

export interface AreaCropOptions {
  /** Size of the results, pixels. */
  readonly height: number;
  readonly width: number;
  /** y = mean byte * scale + shift. Default 1 and 0. */
  readonly scale?: number;
  readonly shift?: number;
}

/**
 * A rectangle of an image, resized by `area` and cut: every output pixel is the mean of all pixels that it touches, each with the
 * same weight (adaptive average pooling, as `resize` with 'area'), then y = mean * scale + shift.
 *
 * images: bytes [words, 4] (u8, or a parameter of the store [words, 1] whose bits are the bytes), images one after the other, rows
 * without padding, with four bytes to spare at the end. placements: f32 [N, 12], one crop a row, whole numbers to 2^24:
 *
 *     0..3 left top width height: the rectangle, in pixels of the image; what lies outside the image is black
 *     4 5  columns rows: size that the rectangle is resized to; columns * width and rows * height must stay below 2^32
 *     6 7  x y: which pixel of the resized rectangle is the first of the result; beyond the last, the last is repeated
 *     8 9  width height of the image   10 bytes per pixel: 3 (RGB) or 4 (RGBA, alpha ignored)
 *     11   start of the image in units of four bytes
 *
 * Result f32 [N, height, width, 3], channels in the order of the bytes. The caller makes sure that images lie inside the heap and that
 * an output pixel covers less than 2^23 pixels. Not differentiable: pixels are data. @throws 'input' when shapes or options do not fit.
 */
export function areaCrop(images: Value, placements: Value, options: AreaCropOptions): Value {
  const { height, width, scale = 1, shift = 0 } = options;
  const bytes = images.dtype === 'u8' ? images.shape[1] === 4 : images.kind === 'parameter' && images.shape[1] === 1;
  if (!bytes)
    throw new FaceNetError(
      'input',
      `areaCrop: images must be bytes [words, 4] or a parameter [words, 1], got ${images.dtype} ${text(images.shape)}.`,
    );
  return images.graph.apply(areaCropOperator, 'forward', { images, placements }, { height, width, scale, shift });
}
