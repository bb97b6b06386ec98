import { FaceNetError } from '../errors.ts';
import { type Alignment, boxAlignment } from './alignment.ts';

/** x0, y0, x1, y1 of a box in pixels; x1 and y1 are exclusive edges. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];

export interface MarginCrop extends Alignment {
  /** The whole pixels taken from the source: within the image, ends exclusive. */
  readonly box: Box;
}

/**
 * What `margin` is counted in. davidsandberg/facenet adds it to the box in SOURCE pixels whatever the
 * face's size (half on each side); facenet-pytorch in OUTPUT pixels: `margin` of the `size` output pixels lie outside
 * the box. Both then cut to the image and truncate to whole pixels, and neither turns the face.
 */
export type MarginUnit = 'source' | 'output';

/**
 * Templates that are a detector's box, by the name that a model's metadata carry beside the margin: `mtcnn-box` is facenet-pytorch's crop (margin in
 * output pixels; also the default), `facenet-box` davidsandberg/facenet's (in source pixels).
 */
export const marginUnits = { 'mtcnn-box': 'output', 'facenet-box': 'source' } as const satisfies Record<
  string,
  MarginUnit
>;

/**
 * The crop of a detected box with a margin, as davidsandberg/facenet (`unit: 'source'`; 44 at 182 px for training, 32 at 160 px
 * for LFW) and facenet-pytorch (`unit: 'output'`; 0 by default, its author advises 14) make it before scaling to
 * `size` x `size`. Throws 'input' for boxes that are not finite, empty, inverted or wholly outside the image.
 *
 * The originals scale with an area or antialiased filter; a bilinear warp with `inverse` agrees closely while the face is not
 * more than about twice the output size.
 */
export function marginCrop(
  box: Box,
  image: { width: number; height: number },
  options: { size: number; margin?: number; unit: MarginUnit },
): MarginCrop {
  const { size, margin = 0, unit } = options;
  checkBox(box, image);
  if (!Number.isInteger(size) || size < 1) {
    throw new FaceNetError(
      'input',
      `margin crop: size must be a whole number of pixels, got ${size}. Give the network's input size.`,
    );
  }
  if (!(margin >= 0) || margin > 65_536 || (unit === 'output' && margin >= size)) {
    throw new FaceNetError(
      'input',
      `margin crop: margin must be 0 or more${unit === 'output' ? ` and below the size ${size}` : ''}, got ${margin}. It is counted in ${unit} pixels.`,
    );
  }
  const [x0, y0, x1, y1] = box;
  const [mx, my] =
    unit === 'source'
      ? [margin, margin]
      : [(margin * (x1 - x0)) / (size - margin), (margin * (y1 - y0)) / (size - margin)];
  const cut: Box = [
    Math.trunc(Math.max(x0 - mx / 2, 0)),
    Math.trunc(Math.max(y0 - my / 2, 0)),
    Math.trunc(Math.min(x1 + mx / 2, image.width)),
    Math.trunc(Math.min(y1 + my / 2, image.height)),
  ];
  if (!(cut[2] > cut[0] && cut[3] > cut[1])) {
    throw new FaceNetError(
      'input',
      `box: must hold at least one whole pixel, got [${box.join(', ')}]. Leave such detections out.`,
    );
  }
  return { ...boxAlignment(cut[0], cut[1], cut[2] - cut[0], cut[3] - cut[1], { width: size, height: size }), box: cut };
}

/** Throws 'input' for a box that is not finite, empty, inverted or wholly outside an image of the given size. */
export function checkBox(box: Box, image: { width: number; height: number }): void {
  const [x0, y0, x1, y1] = box;
  if (!(box.length === 4 && box.every(Number.isFinite))) {
    throw new FaceNetError(
      'input',
      `box: must be four finite numbers x0, y0, x1, y1, got [${box.join(', ')}]. Leave such detections out.`,
    );
  }
  if (!(x1 > x0 && y1 > y0)) {
    throw new FaceNetError(
      'input',
      `box: x1 and y1 must exceed x0 and y0, got [${box.join(', ')}]. Boxes are x0, y0, x1, y1, not x, y, width, height.`,
    );
  }
  if (x1 <= 0 || y1 <= 0 || x0 >= image.width || y0 >= image.height) {
    throw new FaceNetError(
      'input',
      `box: must overlap the image of ${image.width} x ${image.height} pixels, got [${box.join(', ')}]. Was it found in an image of another size?`,
    );
  }
}
