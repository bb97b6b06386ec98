/**
 * Encoded images to pixels, the same bits in every runtime: full size, colour profiles ignored, EXIF turn applied, alpha over black.
 * The format is recognised by its first bytes, never by a name.
 */
import { FaceNetError } from '../errors.ts';
import { type Orientation, turnUpright } from './exif.ts';
import { isJpeg, type JpegDecoder, readJpegHeader } from './jpeg.ts';
import { decodePng, isPng, readPngHeader } from './png.ts';
import { decodePnm, isPnm, readPnmHeader } from './pnm.ts';

/** RGB or RGBA bytes of one image, sRGB, row-major: data.length = width * height * 3 or * 4. Alpha is ignored. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/** Formats that are told apart. Those decoded here: jpeg, png, pnm. */
export type ImageFormat =
  | 'jpeg'
  | 'png'
  | 'pnm'
  | 'webp'
  | 'gif'
  | 'avif'
  | 'heic'
  | 'bmp'
  | 'tiff'
  | 'jpeg-xl'
  | 'jpeg-2000'
  | 'svg'
  | 'pdf';

/** How formats are called in messages. */
const FORMAT_NAMES: Readonly<Record<ImageFormat, string>> = {
  jpeg: 'JPEG',
  png: 'PNG',
  pnm: 'PNM',
  webp: 'WebP',
  gif: 'GIF',
  avif: 'AVIF',
  heic: 'HEIC',
  bmp: 'BMP',
  tiff: 'TIFF',
  'jpeg-xl': 'JPEG XL',
  'jpeg-2000': 'JPEG 2000',
  svg: 'SVG',
  pdf: 'PDF',
};

/** Width x height above which nothing is decoded, unless asked: 100 megapixels. */
export const DEFAULT_MAX_PIXELS = 100_000_000;

/** Options of `decodeImage`. */
export interface DecodeOptions {
  /** The decoder for JPEG files; without it they are refused. */
  readonly jpeg?: JpegDecoder;
  /** What the image is called in error messages, such as its file name. Default 'image'. */
  readonly source?: string;
  /** Largest width x height, read from the header before anything is allocated. Default 100,000,000. */
  readonly maxPixels?: number;
}

/** The format of encoded bytes, or undefined where they are none of those known. */
export function imageFormat(bytes: Uint8Array): ImageFormat | undefined {
  if (isJpeg(bytes)) return 'jpeg';
  if (isPng(bytes)) return 'png';
  if (isPnm(bytes)) return 'pnm';
  const head = String.fromCharCode(...bytes.subarray(0, 64));
  if (head.startsWith('GIF87a') || head.startsWith('GIF89a')) return 'gif';
  if (head.startsWith('RIFF') && head.slice(8, 12) === 'WEBP') return 'webp';
  if (head.slice(4, 8) === 'ftyp') {
    const brands = head.slice(8, 40);
    if (/avi[fs]/.test(brands)) return 'avif';
    if (/hei[cxms]|hev[cxms]|mif1|msf1/.test(brands)) return 'heic';
  }
  if (head.startsWith('BM') && bytes.length >= 26) return 'bmp';
  if (/^(II[*+]\0|MM\0[*+])/.test(head)) return 'tiff';
  if (head.startsWith('\xff\x0a') || head.startsWith('\0\0\0\x0cJXL \r\n\x87\n')) return 'jpeg-xl';
  if (head.startsWith('\0\0\0\x0cjP  ') || head.startsWith('\xff\x4f\xff\x51')) return 'jpeg-2000';
  if (/^(\xef\xbb\xbf)?\s*<(\?xml|svg|!DOCTYPE svg)/i.test(head)) return 'svg';
  if (head.startsWith('%PDF')) return 'pdf';
  return undefined;
}

/**
 * Pixels of a JPEG, PNG or PNM file: RGBA, alpha 255, upright.
 * @throws FaceNetError 'image': empty, of an unknown or unsupported format, too large, truncated, damaged, CMYK.
 */
export function decodeImage(bytes: Uint8Array, options: DecodeOptions = {}): Pixels {
  const source = options.source ?? 'image';
  const format = recogniseImage(bytes, source);
  if (format === 'jpeg') {
    const { width, height } = readJpegHeader(bytes, source);
    limitPixels(width, height, options);
    if (options.jpeg === undefined)
      throw new FaceNetError(
        'image',
        `${source}: JPEG files need a decoder, got none. Pass a JpegDecoder as options.jpeg.`,
      );
    return upright(options.jpeg.decode(bytes, source));
  }
  if (format === 'png') {
    const { width, height } = readPngHeader(bytes, source);
    limitPixels(width, height, options);
    return upright(decodePng(bytes, source));
  }
  if (format === 'pnm') {
    const { width, height } = readPnmHeader(bytes, source);
    limitPixels(width, height, options);
    return upright({ ...decodePnm(bytes, source), orientation: 1 });
  }
  throw unsupportedFormat(format, source);
}

/**
 * The format, where it is known at all.
 * @throws FaceNetError 'image' for an empty file and for bytes that are no image.
 */
export function recogniseImage(bytes: Uint8Array, source: string): ImageFormat {
  if (bytes.length === 0)
    throw new FaceNetError('image', `${source}: an image has bytes, got an empty file. Get the file again.`);
  const format = imageFormat(bytes);
  if (format === undefined)
    throw new FaceNetError(
      'image',
      `${source}: the file is an image, got bytes of no known image format. Pass a JPEG or PNG file.`,
    );
  return format;
}

/** The refusal of a format that is known but not decoded here. */
export function unsupportedFormat(format: ImageFormat, source: string): FaceNetError {
  const bySharp = format === 'webp' || format === 'gif' || format === 'avif' || format === 'tiff';
  const remedy = bySharp
    ? 'In Node install sharp (npm i sharp), or convert it'
    : format === 'heic' || format === 'bmp'
      ? 'Convert it to JPEG or PNG: sharp as npm installs it does not read it either'
      : 'Convert it to JPEG or PNG';
  return new FaceNetError('image', `${source}: JPEG, PNG and PNM are decoded, got ${FORMAT_NAMES[format]}. ${remedy}.`);
}

/**
 * @throws FaceNetError 'image' when width x height is above the limit, 'input' when the limit is no number.
 */
export function limitPixels(
  width: number,
  height: number,
  { source = 'image', maxPixels = DEFAULT_MAX_PIXELS }: DecodeOptions,
): void {
  if (!(maxPixels > 0))
    throw new FaceNetError(
      'input',
      `maxPixels: a positive number, got ${maxPixels}. Leave it out for ${DEFAULT_MAX_PIXELS}.`,
    );
  if (width * height > maxPixels) {
    throw new FaceNetError(
      'image',
      `${source}: at most ${maxPixels / 1e6} megapixels, got ${width} x ${height}. Make it smaller or raise maxPixels.`,
    );
  }
}

/** Applies the EXIF turn to RGBA bytes. */
export function upright(stored: { data: Uint8Array; width: number; height: number; orientation: Orientation }): Pixels {
  const { data, width, height, orientation } = stored;
  if (orientation === 1) return { data, width, height };
  const turned = turnUpright(new Uint32Array(data.buffer, data.byteOffset, width * height), width, height, orientation);
  return { data: new Uint8Array(turned.pixels.buffer), width: turned.width, height: turned.height };
}
