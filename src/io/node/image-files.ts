/** Image files in Node: reading, the JPEG decoder's file, and sharp where it is installed. */
import { readFile, stat } from 'node:fs/promises';
import { FaceNetError } from '../../errors.ts';
import {
  DEFAULT_MAX_PIXELS,
  type DecodeOptions,
  decodeImage,
  type ImageFormat,
  imageFormat,
  limitPixels,
  type Pixels,
  recogniseImage,
  unsupportedFormat,
  upright,
} from '../images.ts';
import { JpegDecoder, readJpegComponents } from '../jpeg.ts';
import { overBlack } from '../png.ts';

/** Largest image file that is read, in bytes: 1 GiB. */
export const MAX_IMAGE_FILE_BYTES = 1 << 30;

/** Options of `readImageFile` and `decodeImageInNode`. */
export interface NodeDecodeOptions extends DecodeOptions {
  /**
   * 'exact': our own decoders, the same bits in every runtime. 'sharp': everything by sharp. Default: exact where the format allows it,
   * sharp for WebP, GIF, AVIF, TIFF and CMYK JPEG (HEIC if it was built with it) where it is installed.
   */
  readonly decoder?: 'exact' | 'sharp';
}

/** Where jpeg-turbo.wasm lies: beside the bundle, or in the package when run from source. */
const JPEG_FILES = ['./jpeg-turbo.wasm', '../../../node_modules/@cwasm/jpeg-turbo/jpeg-turbo.wasm'];

/**
 * A decoder for JPEG files; one serves any number of images, one at a time.
 * @throws FaceNetError 'internal' when the package is incomplete.
 */
export async function loadJpegDecoder(): Promise<JpegDecoder> {
  let cause: unknown;
  for (const path of JPEG_FILES) {
    try {
      return new JpegDecoder(await WebAssembly.compile(new Uint8Array(await readFile(new URL(path, import.meta.url)))));
    } catch (error) {
      cause = error;
    }
  }
  throw new FaceNetError(
    'internal',
    'jpeg-turbo.wasm: part of this package, got no readable file. Install the package again.',
    { cause },
  );
}

/**
 * Reads and decodes an image file: RGBA pixels, upright.
 * @param path file path or file: URL.
 * @throws FaceNetError 'input' when there is no such file, it is a folder or cannot be read; 'image' as `decodeImage` does.
 */
export async function readImageFile(path: string | URL, options: NodeDecodeOptions = {}): Promise<Pixels> {
  const source = options.source ?? String(path);
  return decodeImageInNode(await readWholeFile(path, source, MAX_IMAGE_FILE_BYTES), { ...options, source });
}

/**
 * As `decodeImage`, with sharp for what is not decoded here. Without `options.jpeg` a JPEG costs some milliseconds more, since its decoder is
 * compiled for it alone: see `ImageReader`.
 */
export async function decodeImageInNode(bytes: Uint8Array, options: NodeDecodeOptions = {}): Promise<Pixels> {
  const { source = 'image', decoder } = options;
  const format = recogniseImage(bytes, source);
  if (decoder === 'sharp') return decodeWithSharp(bytes, format, options);
  const ours = format === 'png' || format === 'pnm' || (format === 'jpeg' && readJpegComponents(bytes) !== 4);
  const jpeg = options.jpeg ?? (format === 'jpeg' ? await loadJpegDecoder() : undefined);
  const exact = { ...options, ...(jpeg && { jpeg }) };
  if (ours || decoder === 'exact') return decodeImage(bytes, exact);
  if ((await importSharp()) === undefined) return decodeImage(bytes, exact);
  return decodeWithSharp(bytes, format, options);
}

/** Reads one image after another with one JPEG decoder, which is loaded at the first JPEG. */
export class ImageReader {
  #jpeg: Promise<JpegDecoder> | undefined;

  /** @param source path, file: URL, or the encoded bytes. @throws as `readImageFile` and `decodeImageInNode`. */
  async read(source: string | URL | Uint8Array, options: NodeDecodeOptions = {}): Promise<Pixels> {
    const called = options.source ?? (source instanceof Uint8Array ? 'image' : String(source));
    const bytes = source instanceof Uint8Array ? source : await readWholeFile(source, called, MAX_IMAGE_FILE_BYTES);
    const named = { ...options, source: called };
    if (named.jpeg !== undefined || imageFormat(bytes) !== 'jpeg') return decodeImageInNode(bytes, named);
    this.#jpeg ??= loadJpegDecoder();
    return decodeImageInNode(bytes, { ...named, jpeg: await this.#jpeg });
  }
}

/**
 * All bytes of a file.
 * @throws FaceNetError 'input' for a missing file, a folder, a file above `limit`, or one that may not be read.
 */
export async function readWholeFile(path: string | URL, source: string, limit: number): Promise<Uint8Array> {
  try {
    const { size, isDirectory } = await describe(path);
    if (isDirectory) throw new FaceNetError('input', `${source}: a file, got a folder. Name a file in it.`);
    if (size > limit)
      throw new FaceNetError('input', `${source}: at most ${limit} bytes, got ${size}. Make it smaller.`);
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof FaceNetError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    const got =
      code === 'ENOENT'
        ? 'nothing there'
        : code === 'EACCES' || code === 'EPERM'
          ? 'no permission'
          : code === 'EISDIR'
            ? 'a folder'
            : code;
    throw new FaceNetError('input', `${source}: a readable file, got ${got}. Check the path.`, { cause });
  }
}

async function describe(path: string | URL): Promise<{ size: number; isDirectory: boolean }> {
  const status = await stat(path);
  return { size: status.size, isDirectory: status.isDirectory() };
}

/** The little of sharp's interface that is used; the package is optional and has its types in itself. */
interface Sharp {
  metadata(): Promise<{ width?: number; height?: number; orientation?: number; pages?: number }>;
  toColourspace(name: string): Sharp;
  ensureAlpha(): Sharp;
  raw(): Sharp;
  toBuffer(options: {
    resolveWithObject: true;
  }): Promise<{ data: Uint8Array; info: { width: number; height: number; channels: number } }>;
}
type SharpFunction = (bytes: Uint8Array, options: object) => Sharp;

/** Formats handed to sharp. SVG and PDF are not among them: they may refer to other files. */
const SHARP_FORMATS: ReadonlySet<ImageFormat> = new Set<ImageFormat>([
  'jpeg',
  'png',
  'webp',
  'gif',
  'avif',
  'heic',
  'tiff',
]);

async function importSharp(): Promise<SharpFunction | undefined> {
  const name = 'sharp';
  try {
    const loaded = (await import(name)) as { default?: SharpFunction };
    return loaded.default;
  } catch {
    return undefined;
  }
}

async function decodeWithSharp(bytes: Uint8Array, format: ImageFormat, options: NodeDecodeOptions): Promise<Pixels> {
  const { source = 'image', maxPixels = DEFAULT_MAX_PIXELS } = options;
  if (!SHARP_FORMATS.has(format)) throw unsupportedFormat(format, source);
  const sharp = await importSharp();
  if (sharp === undefined)
    throw new FaceNetError(
      'image',
      `${source}: decoder 'sharp' needs the package sharp, got none. Install it (npm i sharp) or use the decoder 'exact'.`,
    );
  // The first frame only: the limit then counts one frame. Profiles are ignored, as everywhere.
  const settings = { failOn: 'warning', limitInputPixels: false, pages: 1, ignoreIcc: true };
  try {
    const { width = 0, height = 0, orientation } = await sharp(bytes, settings).metadata();
    limitPixels(width, height, { source, maxPixels });
    const { data, info } = await sharp(bytes, settings)
      .toColourspace('srgb')
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 4)
      throw new FaceNetError(
        'image',
        `${source}: RGBA out of sharp, got ${info.channels} channels. Convert it to PNG.`,
      );
    const own = new Uint8Array(data);
    for (let i = 0; i < own.length; i += 4) {
      const alpha = own[i + 3] as number;
      if (alpha === 255) continue;
      for (let c = i; c < i + 3; c++) own[c] = overBlack(own[c] as number, alpha);
      own[i + 3] = 255;
    }
    const turn =
      Number.isInteger(orientation) && (orientation as number) >= 1 && (orientation as number) <= 8
        ? (orientation as 1)
        : 1;
    return upright({ data: own, width: info.width, height: info.height, orientation: turn });
  } catch (cause) {
    if (cause instanceof FaceNetError) throw cause;
    throw new FaceNetError(
      'image',
      `${source}: an intact image, got '${String((cause as Error).message)}' from sharp. Get the file again.`,
      { cause },
    );
  }
}
