import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { standardize } from '../ops/standardize.ts';
import { type Alignment, alignFace, boxAlignment, centreCrop } from './alignment.ts';
import type { AlignmentTemplate } from './alignment-templates.ts';
import { marginCrop, marginUnits } from './margin-crop.ts';

/** RGB or RGBA bytes of one image, sRGB, row-major; alpha is ignored. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/** How a model wants its pictures: part of its file, and of the fingerprint of what it embeds. */
export interface Preprocessing {
  readonly width: number;
  readonly height: number;
  /** Order of the channels the network was trained on. */
  readonly colour: 'rgb' | 'bgr';
  /** Network input = byte * scale + shift, by channel in the order of `colour`. */
  readonly scale: readonly [number, number, number];
  readonly shift: readonly [number, number, number];
  /** Behind them each crop is given mean 0 and deviation 1 (facenet before 2018). */
  readonly standardisation?: 'per-image';
  readonly template: AlignmentTemplate;
}

/** Whether an image is given as pixels; `checkPixels` says whether they are right. */
export const isPixels = (image: unknown): image is Pixels =>
  typeof image === 'object' && image !== null && 'data' in image && 'width' in image && !ArrayBuffer.isView(image);

/** What the network reads: crops as `scale` and `shift` leave them (augmented or not), or each standardised. [N, height, width, 3]. */
export const networkInput = (crops: Value, { standardisation }: Preprocessing): Value =>
  standardisation === 'per-image' ? crops.graph.scope('standardize', () => standardize(crops)) : crops;

/** A picture and where in it the face lies. */
export interface Placed {
  readonly pixels: Pixels;
  readonly alignment: Alignment;
}

/** Throws 'image' unless `pixels` is what it says. */
export function checkPixels(pixels: Pixels, subject: string, index?: number): void {
  const { data, width, height } = pixels;
  const at = index === undefined ? {} : { index };
  if (
    !(
      Number.isInteger(width) &&
      Number.isInteger(height) &&
      width >= 1 &&
      height >= 1 &&
      width <= 65_535 &&
      height <= 65_535
    )
  ) {
    throw new FaceNetError(
      'image',
      `${subject}: width and height must be whole numbers from 1 to 65,535, got ${width} x ${height}.`,
      at,
    );
  }
  if (
    !(data instanceof Uint8Array || data instanceof Uint8ClampedArray) ||
    (data.length !== width * height * 3 && data.length !== width * height * 4)
  ) {
    const got = data instanceof Uint8Array || data instanceof Uint8ClampedArray ? `${data.length} bytes` : typeof data;
    throw new FaceNetError(
      'image',
      `${subject}: data must hold width * height * 3 or 4 bytes (${width * height * 3} or ${width * height * 4}), got ${got}.`,
      at,
    );
  }
}

/** Where a face lies in a photo, as a detector finds it. */
export interface FacePlace {
  /** Two eyes, five points (eyes, nose, mouth corners) or 68. */
  readonly landmarks: readonly (readonly [x: number, y: number])[];
  /** For models whose crop is a detector's box with a margin. */
  readonly box?: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
}

/**
 * Where the crop lies in a picture: by landmarks, or by the box for a template that is one (`marginUnits`), if there are any; without them the
 * picture must be a crop already, and is scaled whole if it has the template's proportions, cut to them about its middle otherwise.
 */
export function place(pixels: Pixels, landmarks: unknown, { template }: Preprocessing, box?: FacePlace['box']): Placed {
  const { width, height, name, points, margin = 0 } = template;
  if (landmarks !== undefined && points.length === 0) {
    if (!box)
      throw new FaceNetError(
        'input',
        `box: the template ${name} needs a detector's box, got points alone. Give the box beside them.`,
      );
    const { x, y, width: across, height: down } = box;
    const unit = marginUnits[name as keyof typeof marginUnits] ?? 'output';
    return { pixels, alignment: marginCrop([x, y, x + across, y + down], pixels, { size: width, margin, unit }) };
  }
  if (landmarks !== undefined) return { pixels, alignment: alignFace(landmarks, template, { image: pixels }) };
  const alignment =
    pixels.width * height === pixels.height * width
      ? boxAlignment(0, 0, pixels.width, pixels.height, template)
      : centreCrop(pixels, template);
  return { pixels, alignment };
}

/** Bytes of the part of a picture that a crop reads, packed, and the row of `placements` that goes with it (operator warpAffine). */
export interface Region {
  readonly bytes: Uint8Array;
  /** width, height, bytes per pixel, then the map from output pixel to pixel of `bytes`. */
  readonly placement: readonly [width: number, height: number, channels: number, ...map: number[]];
}

/**
 * Means of block x block pixels of a rectangle of a picture, rounded to whole bytes; the last ones of fewer pixels. `left`, `top` inside the picture,
 * `right`, `bottom` behind the last pixel. Channels keep their number and order.
 */
export function blockMeans(
  { data, width, height }: Pixels,
  { left, top, right, bottom }: { left: number; top: number; right: number; bottom: number },
  block: number,
): { readonly bytes: Uint8Array; readonly columns: number; readonly rows: number } {
  const channels = data.length / (width * height);
  const columns = Math.max(1, Math.ceil((right - left) / block));
  const rows = Math.max(1, Math.ceil((bottom - top) / block));
  const bytes = new Uint8Array(columns * rows * channels);
  for (let row = 0; row < rows; row++) {
    const y0 = top + row * block;
    const y1 = Math.min(y0 + block, height);
    if (block === 1) {
      bytes.set(
        data.subarray((y0 * width + left) * channels, (y0 * width + left + columns) * channels),
        row * columns * channels,
      );
      continue;
    }
    for (let column = 0; column < columns; column++) {
      const x0 = left + column * block;
      const x1 = Math.min(x0 + block, width);
      const count = (y1 - y0) * (x1 - x0);
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let y = y0; y < y1; y++)
          for (let x = x0; x < x1; x++) sum += data[(y * width + x) * channels + channel] as number;
        bytes[(row * columns + column) * channels + channel] = Math.floor((sum + count / 2) / count);
      }
    }
  }
  return { bytes, columns, rows };
}

/**
 * Cuts out the pixels that a crop needs, with a rim of two. A face much larger than the crop is first averaged over k x k blocks,
 * k = floor(scale), rounded to whole bytes: bilinear sampling alone would skip pixels, and the region stays below about
 * (3 x output)^2 pixels whatever the photo. Channels keep their order.
 */
export function cutRegion({ pixels, alignment }: Placed): Region {
  const { data, width, height } = pixels;
  const channels = data.length / (width * height);
  const {
    inverse: [a, b, tx, c, d, ty],
    width: outWidth,
    height: outHeight,
  } = alignment;
  const xs: number[] = [];
  const ys: number[] = [];
  for (const [x, y] of [
    [0, 0],
    [outWidth - 1, 0],
    [0, outHeight - 1],
    [outWidth - 1, outHeight - 1],
  ] as const) {
    xs.push(a * x + b * y + tx);
    ys.push(c * x + d * y + ty);
  }
  const scale = Math.sqrt(Math.abs(a * d - b * c));
  const block = Math.max(1, Math.floor(scale));
  const rim = 2 * block;
  const clamp = (value: number, limit: number) => Math.max(0, Math.min(limit, value));
  const left = clamp(Math.floor(Math.min(...xs)) - rim, width - 1);
  const top = clamp(Math.floor(Math.min(...ys)) - rim, height - 1);
  const right = clamp(Math.ceil(Math.max(...xs)) + rim + 1, width);
  const bottom = clamp(Math.ceil(Math.max(...ys)) + rim + 1, height);
  const { bytes, columns, rows } = blockMeans(pixels, { left, top, right, bottom }, block);
  // A block's centre lies (block - 1) / 2 pixels behind its first pixel.
  const shift = (block - 1) / 2;
  const map = [a, b, tx - left - shift, c, d, ty - top - shift].map((value) => value / block);
  return { bytes, placement: [columns, rows, channels, ...map] };
}

/** Most bytes one region can take for this preprocessing: what a batch's heap must hold for each face. */
export function regionBytes({ width, height }: Preprocessing): number {
  const side = Math.ceil(2 * Math.hypot(width, height)) + 12;
  return Math.ceil((side * side * 4) / 4) * 4;
}
