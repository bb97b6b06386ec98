/**
 * PNG (ISO/IEC 15948): every colour type, depth and interlacing, to RGBA bytes. Rows are taken from the inflating stream one by one, so
 * that beside the result only a few rows and one chunk exist, whatever the compressed data claim.
 */
import { Unzlib } from 'fflate';
import { FaceNetError } from '../errors.ts';
import { crc32 } from './crc32.ts';
import { type Orientation, readOrientation } from './exif.ts';

/** What a PNG says before its pixels. */
export interface PngHeader {
  /** Pixels, 1 to 2^31 - 1. */
  readonly width: number;
  readonly height: number;
  /** Bits a sample: 1, 2, 4, 8 or 16. */
  readonly depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. */
  readonly colourType: number;
  readonly interlaced: boolean;
}

/** Refuses with code 'image'; the texts follow "subject: rule, got value. remedy.". */
type Refuse = (rule: string, got: string) => FaceNetError;

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};
/** Adam7: first column, first row, column step, row step of each pass. */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
/** Compressed bytes handed over at a time: bounds what one step may inflate to about 16 MB. */
const INFLATE_STEP = 1 << 14;

/** True where the bytes begin as a PNG does. */
export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/**
 * The header chunk, checked.
 * @throws FaceNetError 'image' when it is missing, damaged or describes what no PNG can be.
 */
export function readPngHeader(bytes: Uint8Array, source: string): PngHeader {
  const refuse = refuser(source);
  if (bytes.length < 33) throw refuse('truncated PNG: the header takes 33 bytes', `${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(8) !== 13 || chunkName(bytes, 12) !== 'IHDR')
    throw refuse('a PNG begins with its header', `chunk ${quote(chunkName(bytes, 12))}`);
  if (crc32(bytes, 12, 29) !== view.getUint32(29)) throw refuse('PNG header is intact', 'a wrong checksum');
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [depth, colourType, compression, filter, interlace] = bytes.subarray(24, 29) as unknown as [
    number,
    number,
    number,
    number,
    number,
  ];
  if (width < 1 || height < 1 || width > 0x7fffffff || height > 0x7fffffff)
    throw refuse('a PNG has at least one pixel', `${width} x ${height}`);
  if (!DEPTHS[colourType]?.includes(depth))
    throw refuse('depth and colour type of a PNG are known', `${depth} bits, type ${colourType}`);
  if (compression !== 0 || filter !== 0 || interlace > 1)
    throw refuse('PNG methods are known', `${compression}, ${filter}, ${interlace}`);
  return { width, height, depth, colourType, interlaced: interlace === 1 };
}

/**
 * Pixels as stored (not turned), RGBA, alpha composited over black and 255 everywhere; 16 bits become value / 257 rounded; gamma and
 * colour profiles are ignored. The caller has checked width x height.
 * @throws FaceNetError 'image' when truncated or damaged.
 */
export function decodePng(
  bytes: Uint8Array,
  source: string,
): { data: Uint8Array; width: number; height: number; orientation: Orientation } {
  const refuse = refuser(source);
  const header = readPngHeader(bytes, source);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const truncated = (): FaceNetError => refuse('truncated PNG: it ends in IEND', `${bytes.length} bytes`);
  let palette: Uint8Array | undefined;
  let transparency: Uint8Array | undefined;
  let orientation: Orientation = 1;
  let rows: RowReader | undefined;
  let inflater: Unzlib | undefined;

  const inflate = (from: number, to: number): void => {
    if (rows === undefined || inflater === undefined) {
      const reader = new RowReader(header, palette, transparency, refuse);
      rows = reader;
      inflater = new Unzlib((chunk) => reader.push(chunk));
    }
    for (let at = from; at < to && !rows.complete; at += INFLATE_STEP) {
      try {
        inflater.push(bytes.subarray(at, Math.min(to, at + INFLATE_STEP)), false);
      } catch (cause) {
        if (cause instanceof FaceNetError) throw cause;
        throw new FaceNetError(
          'image',
          `${source}: compressed data of a PNG are valid, got ${String((cause as Error).message)}. Get the file again.`,
          { cause },
        );
      }
    }
  };

  for (let at = 33; ; ) {
    if (at + 12 > bytes.length) throw truncated();
    const length = view.getUint32(at);
    const name = chunkName(bytes, at + 4);
    const start = at + 8;
    const end = start + length;
    if (end + 4 > bytes.length) throw truncated();
    const intact = (): boolean => crc32(bytes, at + 4, end) === view.getUint32(end);
    const critical = ((bytes[at + 4] as number) & 0x20) === 0;
    if ((critical || name === 'tRNS') && !intact())
      throw refuse('chunks of a PNG are intact', `a wrong checksum of ${quote(name)}`);
    if (name === 'IEND') break;
    if (name === 'IDAT') inflate(start, end);
    else if (name === 'PLTE') {
      if (palette !== undefined || rows !== undefined || length === 0 || length % 3 !== 0 || length > 768)
        throw refuse('one palette of 1 to 256 colours', `${length} bytes`);
      palette = bytes.subarray(start, end);
    } else if (name === 'tRNS' && rows === undefined) transparency = bytes.subarray(start, end);
    else if (name === 'eXIf' && intact()) orientation = readOrientation(bytes.subarray(start, end));
    else if (critical) throw refuse('critical chunks of a PNG are known', quote(name));
    at = end + 4;
  }
  if (rows === undefined) throw refuse('a PNG has image data', 'none');
  if (!rows.complete) throw refuse('truncated PNG: image data for every row', `${rows.finishedRows} rows`);
  return { data: rows.pixels, width: header.width, height: header.height, orientation };
}

/** Takes inflated bytes as they come, undoes the filters and writes finished pixels. */
class RowReader {
  /** RGBA, alpha 255. */
  readonly pixels: Uint8Array;
  complete = false;
  finishedRows = 0;
  readonly #header: PngHeader;
  readonly #palette: Uint8Array | undefined;
  readonly #transparency: Uint8Array | undefined;
  readonly #refuse: Refuse;
  readonly #samples: number;
  /** Bytes from a byte to its left neighbour for the filters. */
  readonly #back: number;
  /** Filter byte and samples of the row that is arriving, and the row above it, unfiltered. */
  #row: Uint8Array;
  #above: Uint8Array;
  #filled = 0;
  #rowBytes = 0;
  #pass = -1;
  #y = 0;
  #passWidth = 0;
  #passHeight = 0;

  constructor(
    header: PngHeader,
    palette: Uint8Array | undefined,
    transparency: Uint8Array | undefined,
    refuse: Refuse,
  ) {
    const { width, height, depth, colourType } = header;
    if (colourType === 3 && palette === undefined) throw refuse('a PNG with indexed colours has a palette', 'none');
    const needed = colourType === 0 ? 2 : colourType === 2 ? 6 : colourType === 3 ? (palette?.length ?? 0) / 3 : 0;
    const fits =
      transparency === undefined || (colourType === 3 ? transparency.length <= needed : transparency.length === needed);
    if (!fits) throw refuse('transparency fits the colour type', `${transparency?.length ?? 0} bytes`);
    this.#header = header;
    this.#palette = palette;
    this.#transparency = transparency;
    this.#refuse = refuse;
    this.#samples = SAMPLES[colourType] as number;
    this.#back = Math.max(1, (this.#samples * depth) >> 3);
    const longest = 1 + Math.ceil((width * this.#samples * depth) / 8);
    this.#row = new Uint8Array(longest);
    this.#above = new Uint8Array(longest);
    this.pixels = new Uint8Array(width * height * 4);
    this.#nextPass();
  }

  /** More inflated bytes. What follows the last row is ignored. */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length && !this.complete; ) {
      const take = Math.min(chunk.length - at, this.#rowBytes - this.#filled);
      this.#row.set(chunk.subarray(at, at + take), this.#filled);
      this.#filled += take;
      at += take;
      if (this.#filled < this.#rowBytes) return;
      this.#unfilter();
      this.#write();
      this.#filled = 0;
      this.finishedRows++;
      [this.#row, this.#above] = [this.#above, this.#row];
      if (++this.#y === this.#passHeight) this.#nextPass();
    }
  }

  #nextPass(): void {
    const { width, height, depth, interlaced } = this.#header;
    do {
      this.#pass++;
      if (this.#pass === (interlaced ? PASSES.length : 1)) {
        this.complete = true;
        return;
      }
      const [left, top, stepX, stepY] = interlaced ? (PASSES[this.#pass] as (typeof PASSES)[number]) : [0, 0, 1, 1];
      this.#passWidth = Math.ceil((width - left) / stepX);
      this.#passHeight = Math.ceil((height - top) / stepY);
    } while (this.#passWidth <= 0 || this.#passHeight <= 0);
    this.#y = 0;
    this.#rowBytes = 1 + Math.ceil((this.#passWidth * this.#samples * depth) / 8);
    this.#above.fill(0);
  }

  #unfilter(): void {
    const [row, above, back, end] = [this.#row, this.#above, this.#back, this.#rowBytes];
    const filter = row[0] as number;
    // Byte 0 is the filter; bytes before the first pixel count as 0.
    switch (filter) {
      case 0:
        return;
      case 1:
        for (let i = 1 + back; i < end; i++) row[i] = (row[i] as number) + (row[i - back] as number);
        return;
      case 2:
        for (let i = 1; i < end; i++) row[i] = (row[i] as number) + (above[i] as number);
        return;
      case 3:
        for (let i = 1; i < end; i++) {
          const left = i > back ? (row[i - back] as number) : 0;
          row[i] = (row[i] as number) + ((left + (above[i] as number)) >> 1);
        }
        return;
      case 4:
        for (let i = 1; i < end; i++) {
          const left = i > back ? (row[i - back] as number) : 0;
          const corner = i > back ? (above[i - back] as number) : 0;
          const up = above[i] as number;
          const [toLeft, toUp, toCorner] = [
            Math.abs(up - corner),
            Math.abs(left - corner),
            Math.abs(left + up - 2 * corner),
          ];
          const nearest = toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
          row[i] = (row[i] as number) + nearest;
        }
        return;
      default:
        throw this.#refuse('row filters of a PNG are 0 to 4', `${filter}`);
    }
  }

  /** Puts the finished row's pixels where its pass wants them. */
  #write(): void {
    const { width, depth, colourType, interlaced } = this.#header;
    const [left, top, stepX, stepY] = interlaced ? (PASSES[this.#pass] as (typeof PASSES)[number]) : [0, 0, 1, 1];
    const [row, pixels, palette, transparency] = [this.#row, this.pixels, this.#palette, this.#transparency];
    const step = stepX * 4;
    let to = ((top + this.#y * stepY) * width + left) * 4;
    const wide = depth === 16;
    // Sample s of pixel x as 8 bits; `key` keeps 16 bits for the comparison with the transparent colour.
    const key = (index: number): number => {
      if (depth === 8) return row[1 + index] as number;
      if (wide) return ((row[1 + index * 2] as number) << 8) | (row[2 + index * 2] as number);
      const bit = index * depth;
      return ((row[1 + (bit >> 3)] as number) >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
    };
    // 255 / (2^depth - 1) is 255, 85, 17, 1: whole numbers. 16 bits: value / 257, rounded.
    const factor = wide ? 0 : 255 / ((1 << depth) - 1);
    const byte = (value: number): number => (wide ? Math.floor((value + 128) / 257) : value * factor);
    const clear = (channel: number): number =>
      (((transparency as Uint8Array)[channel * 2] as number) << 8) |
      ((transparency as Uint8Array)[channel * 2 + 1] as number);

    // The common kinds, without a call a sample.
    if (depth === 8 && transparency === undefined && colourType !== 3) {
      const samples = this.#samples;
      const [green, blue] = samples >= 3 ? [1, 2] : [0, 0];
      const alphaAt = samples === 4 ? 3 : samples === 2 ? 1 : -1;
      for (let x = 0, from = 1; x < this.#passWidth; x++, to += step, from += samples) {
        const alpha = alphaAt < 0 ? 255 : (row[from + alphaAt] as number);
        pixels[to] = overBlack(row[from] as number, alpha);
        pixels[to + 1] = overBlack(row[from + green] as number, alpha);
        pixels[to + 2] = overBlack(row[from + blue] as number, alpha);
        pixels[to + 3] = 255;
      }
      return;
    }
    for (let x = 0; x < this.#passWidth; x++, to += step) {
      let r: number;
      let g: number;
      let b: number;
      let alpha = 255;
      if (colourType === 2 || colourType === 6) {
        const at = x * this.#samples;
        const [rawR, rawG, rawB] = [key(at), key(at + 1), key(at + 2)];
        r = byte(rawR);
        g = byte(rawG);
        b = byte(rawB);
        if (colourType === 6) alpha = byte(key(at + 3));
        else if (transparency !== undefined && rawR === clear(0) && rawG === clear(1) && rawB === clear(2)) alpha = 0;
      } else if (colourType === 3) {
        const index = key(x);
        const at = index * 3;
        if (palette === undefined || at >= palette.length)
          throw this.#refuse('palette indices exist', `${index} of ${(palette?.length ?? 0) / 3}`);
        r = palette[at] as number;
        g = palette[at + 1] as number;
        b = palette[at + 2] as number;
        alpha = transparency?.[index] ?? 255;
      } else {
        const at = x * this.#samples;
        const raw = key(at);
        r = g = b = byte(raw);
        if (colourType === 4) alpha = byte(key(at + 1));
        else if (transparency !== undefined && raw === clear(0)) alpha = 0;
      }
      pixels[to] = overBlack(r, alpha);
      pixels[to + 1] = overBlack(g, alpha);
      pixels[to + 2] = overBlack(b, alpha);
      pixels[to + 3] = 255;
    }
  }
}

/** One 8-bit channel composited over black: channel x alpha / 255, rounded. */
export function overBlack(channel: number, alpha: number): number {
  return alpha === 255 ? channel : Math.floor((channel * alpha + 127) / 255);
}

function refuser(source: string): Refuse {
  return (rule, got) =>
    new FaceNetError('image', `${source}: ${rule}, got ${got}. Get the file again or save it anew.`);
}

function chunkName(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function quote(name: string): string {
  return JSON.stringify(name);
}
