/**
 * Encoders for test images, written plainly: PNG of every colour type, depth, filter and interlacing (deflate and CRC by Node's zlib), and
 * baseline JPEG of flat 8x8 blocks, whose decoded values are known exactly.
 */
import { crc32, deflateSync } from 'node:zlib';

/** One PNG chunk with its checksum. */
export function pngChunk(name: string, content: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), content]);
  const chunk = Buffer.alloc(8 + body.length);
  chunk.writeUInt32BE(content.length, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(checksum(body), 4 + body.length);
  return chunk;
}

/** CRC-32, bit by bit: Node 20.19 has none of its own. */
export function checksum(bytes: Uint8Array): number {
  if (typeof crc32 === 'function') return crc32(bytes);
  let c = ~0;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (0xedb88320 & -(c & 1));
  }
  return ~c >>> 0;
}

export interface PngSpec {
  width: number;
  height: number;
  depth: number;
  colourType: number;
  /** Raw sample values, row-major, `channels` a pixel. */
  samples: ArrayLike<number>;
  interlaced?: boolean;
  palette?: number[];
  transparency?: number[];
  /** Chunks between IHDR and IDAT. */
  extra?: Buffer[];
  /** Filter of row n of a pass; default n modulo 5. */
  filter?: (row: number) => number;
  /** IDAT chunks of this many bytes; default all in one. */
  split?: number;
}

export function writePng(spec: PngSpec): Buffer {
  const { width, height, depth, colourType, samples, interlaced = false, filter = (row: number) => row % 5 } = spec;
  const channels = [1, 0, 3, 1, 2, 0, 4][colourType] as number;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = depth;
  header[9] = colourType;
  header[12] = interlaced ? 1 : 0;
  const passOf = (x: number, y: number): number => {
    // The 8x8 table of the standard.
    const table = ['16462646', '77777777', '56565656', '77777777', '36463646', '77777777', '56565656', '77777777'];
    return Number((table[y % 8] as string)[x % 8]);
  };
  const raw: number[] = [];
  for (const pass of interlaced ? [1, 2, 3, 4, 5, 6, 7] : [0]) {
    let above: number[] = [];
    let row = 0;
    for (let y = 0; y < height; y++) {
      const bits: number[] = [];
      for (let x = 0; x < width; x++) {
        if (interlaced && passOf(x, y) !== pass) continue;
        for (let c = 0; c < channels; c++) {
          const value = samples[(y * width + x) * channels + c] as number;
          for (let bit = depth - 1; bit >= 0; bit--) bits.push((value >> bit) & 1);
        }
      }
      if (bits.length === 0) continue;
      const line: number[] = [];
      for (let i = 0; i < bits.length; i += 8)
        line.push(
          Number.parseInt(
            bits
              .slice(i, i + 8)
              .join('')
              .padEnd(8, '0'),
            2,
          ),
        );
      const type = filter(row);
      const back = Math.max(1, (channels * depth) / 8);
      raw.push(type);
      line.forEach((value, i) => {
        const a = line[i - back] ?? 0;
        const b = above[i] ?? 0;
        const c = above[i - back] ?? 0;
        const guess = a + b - c;
        const paeth = [a, b, c].reduce((best, next) => (Math.abs(guess - next) < Math.abs(guess - best) ? next : best));
        raw.push((value - ([0, a, b, Math.floor((a + b) / 2), paeth][type] as number)) & 255);
      });
      above = line;
      row++;
    }
  }
  const compressed = deflateSync(Buffer.from(raw));
  const data: Buffer[] = [];
  for (let at = 0; at < compressed.length; at += spec.split ?? compressed.length)
    data.push(pngChunk('IDAT', compressed.subarray(at, at + (spec.split ?? compressed.length))));
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    pngChunk('IHDR', header),
    ...(spec.palette ? [pngChunk('PLTE', Buffer.from(spec.palette))] : []),
    ...(spec.transparency ? [pngChunk('tRNS', Buffer.from(spec.transparency))] : []),
    ...(spec.extra ?? []),
    ...data,
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
}

/** One JPEG segment. */
function segment(marker: number, content: number[]): number[] {
  return [0xff, marker, (content.length + 2) >> 8, (content.length + 2) & 255, ...content];
}

/**
 * A baseline JPEG of flat 8x8 blocks. `blocks[row][column]` lists one value 0..255 a component; with quantiser 8 a DC coefficient of
 * value - 128 decodes to exactly that value. Three components are marked as RGB (Adobe transform 0), four as CMYK.
 */
export function writeFlatJpeg(
  blocks: number[][][],
  options: { extra?: number[]; precision?: number; width?: number; height?: number; scans?: number } = {},
): Uint8Array {
  const rows = blocks.length;
  const columns = (blocks[0] as number[][]).length;
  const components = (blocks.flat()[0] as number[]).length;
  const { width = columns * 8, height = rows * 8, precision = 8 } = options;
  // Sixteen code lengths, then the symbols: DC categories 0..11 in four bits each; AC only "end of block", in one bit.
  const dcTable = [0x00, 0, 0, 0, 12, ...Array(12).fill(0), ...Array.from({ length: 12 }, (_, i) => i)];
  const acTable = [0x10, 1, ...Array(15).fill(0), 0];
  let bits = '';
  const last: number[] = Array(components).fill(0);
  for (const row of blocks) {
    for (const block of row) {
      block.forEach((value, c) => {
        const difference = value - 128 - (last[c] as number);
        last[c] = value - 128;
        const category = difference === 0 ? 0 : Math.floor(Math.log2(Math.abs(difference))) + 1;
        bits += category.toString(2).padStart(4, '0');
        if (category > 0)
          bits += (difference > 0 ? difference : difference + 2 ** category - 1).toString(2).padStart(category, '0');
        bits += '0';
      });
    }
  }
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  const data: number[] = [];
  for (let i = 0; i < bits.length; i += 8) {
    const byte = Number.parseInt(bits.slice(i, i + 8), 2);
    data.push(byte);
    if (byte === 255) data.push(0);
  }
  const ids = Array.from({ length: components }, (_, i) => i + 1);
  const scan = [...segment(0xda, [components, ...ids.flatMap((id) => [id, 0x00]), 0, 63, 0]), ...data];
  return Uint8Array.from([
    0xff,
    0xd8,
    ...(options.extra ?? []),
    ...(components >= 3 ? segment(0xee, [0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0]) : []),
    ...segment(0xdb, [0, ...Array(64).fill(8)]),
    ...segment(0xc0, [
      precision,
      height >> 8,
      height & 255,
      width >> 8,
      width & 255,
      components,
      ...ids.flatMap((id) => [id, 0x11, 0]),
    ]),
    ...segment(0xc4, dcTable),
    ...segment(0xc4, acTable),
    ...Array.from({ length: options.scans ?? 1 }, () => scan).flat(),
    0xff,
    0xd9,
  ]);
}

/** A TIFF structure with one orientation entry, as EXIF holds it. */
export function exifOrientation(
  value: number,
  options: { little?: boolean; type?: number; before?: number } = {},
): Buffer {
  const { little = false, type = 3, before = 0 } = options;
  const tiff = Buffer.alloc(8 + 2 + (before + 1) * 12 + 4);
  const u16 = (x: number, at: number) => (little ? tiff.writeUInt16LE(x, at) : tiff.writeUInt16BE(x, at));
  const u32 = (x: number, at: number) => (little ? tiff.writeUInt32LE(x, at) : tiff.writeUInt32BE(x, at));
  tiff.write(little ? 'II' : 'MM', 0, 'latin1');
  u16(42, 2);
  u32(8, 4);
  u16(before + 1, 8);
  for (let i = 0; i < before; i++) u16(0x0100 + i, 10 + i * 12);
  const at = 10 + before * 12;
  u16(0x0112, at);
  u16(type, at + 2);
  u32(1, at + 4);
  u16(value, at + 8);
  return tiff;
}

/** The same as a JPEG APP1 segment. */
export function exifSegment(tiff: Uint8Array): number[] {
  return segment(0xe1, [0x45, 0x78, 0x69, 0x66, 0, 0, ...tiff]);
}
