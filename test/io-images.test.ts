import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { PNG } from 'pngjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { type DecodeOptions, decodeImage, imageFormat, type Pixels } from '../src/io/images.ts';
import type { JpegDecoder } from '../src/io/jpeg.ts';
import { decodeImageInNode, ImageReader, loadJpegDecoder, readImageFile } from '../src/io/node/image-files.ts';
import images from './cases/images.json' with { type: 'json' };
import {
  exifOrientation,
  exifSegment,
  type PngSpec,
  pngChunk,
  writeFlatJpeg,
  writePng,
} from './oracles/plain-images.ts';

const require = createRequire(import.meta.url);
const photo = (n: number): string => `node_modules/@vladmandic/face-api/demo/sample${n}.jpg`;
const [orientationCase, depthCase] = ['IM-01', 'IM-03'].map((id) =>
  images.cases.find((entry) => entry.id === id),
) as unknown as [
  { stored: string[][]; upright: Record<string, string[][]> },
  {
    grey8: { value: number; rgb: number[] };
    grey16: { value: number; rgb: number[] }[];
    rgba: { value: number[]; rgb: number[] }[];
  },
];

let jpeg: JpegDecoder;
beforeAll(async () => {
  jpeg = await loadJpegDecoder();
});

const decode = (bytes: Uint8Array, options: DecodeOptions = {}): Pixels => decodeImage(bytes, { jpeg, ...options });
const rgb = ({ data, width }: Pixels, x: number, y: number): number[] => [
  ...data.subarray((y * width + x) * 4, (y * width + x) * 4 + 3),
];

function refusal(bytes: Uint8Array, options: DecodeOptions = {}): FaceNetError {
  try {
    decode(bytes, { source: 'x.jpg', ...options });
  } catch (error) {
    if (error instanceof FaceNetError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('IM-01: EXIF turn', () => {
  const shade = (letter: string): number[] => [20 + (letter.charCodeAt(0) - 97) * 40, 200, 100];
  const letters = ({ data, width, height }: Pixels, block: number): string[][] =>
    Array.from({ length: height / block }, (_, y) =>
      Array.from({ length: width / block }, (_, x) => {
        const red = data[(y * block * width + x * block) * 4] as number;
        return String.fromCharCode(97 + (red - 20) / 40);
      }),
    );

  for (let orientation = 0; orientation <= 9; orientation++) {
    const expected = orientationCase.upright[String(orientation)] ?? orientationCase.stored;
    for (const little of [false, true]) {
      it(`orientation ${orientation}, ${little ? 'Intel' : 'Motorola'} order, in a JPEG and in a PNG`, () => {
        const tiff = exifOrientation(orientation, { little, before: 3 });
        const photo = writeFlatJpeg(
          orientationCase.stored.map((row) => row.map(shade)),
          { extra: exifSegment(tiff) },
        );
        expect(letters(decode(photo), 8)).toEqual(expected);
        const png = writePng({
          width: 3,
          height: 2,
          depth: 8,
          colourType: 2,
          samples: orientationCase.stored.flat().flatMap(shade),
          extra: [pngChunk('eXIf', tiff)],
        });
        expect(letters(decode(png), 1)).toEqual(expected);
      });
    }
  }

  it('reads an unreadable note as upright: wrong type, count, offset, length, order mark', () => {
    const good = exifOrientation(6);
    const broken = [
      exifOrientation(6, { type: 4 }),
      ...[0, 1, 3, 4, 7, 17].map((at) => Buffer.from(good).fill(0xee, at, at + 1)),
      good.subarray(0, 20),
      Buffer.alloc(0),
    ];
    for (const tiff of broken) {
      const { width, height } = decode(writeFlatJpeg([[[1], [2], [3]]], { extra: exifSegment(tiff) }));
      expect([width, height]).toEqual([24, 8]);
    }
  });

  it('takes the first of two notes', () => {
    const extra = [...exifSegment(exifOrientation(3)), ...exifSegment(exifOrientation(6))];
    expect(decode(writeFlatJpeg([[[1], [2]]], { extra })).width).toBe(16);
  });
});

describe('IM-03: channels and depths to 8-bit RGB', () => {
  const one = (depth: number, colourType: number, samples: number[], more: Partial<PngSpec> = {}): number[] =>
    rgb(decode(writePng({ width: 1, height: 1, depth, colourType, samples, ...more })), 0, 0);

  it('8-bit grey', () => {
    expect(one(8, 0, [depthCase.grey8.value])).toEqual(depthCase.grey8.rgb);
    expect(rgb(decode(writeFlatJpeg([[[depthCase.grey8.value]]])), 5, 5)).toEqual(depthCase.grey8.rgb);
  });
  for (const { value, rgb: expected } of depthCase.grey16) {
    it(`16-bit grey ${value}, alone and with alpha`, () => {
      expect(one(16, 0, [value])).toEqual(expected);
      expect(one(16, 4, [value, 65535])).toEqual(expected);
    });
  }
  for (const { value, rgb: expected } of depthCase.rgba) {
    it(`alpha ${value[3]} over black, 8 bits and 16 bits`, () => {
      expect(one(8, 6, value)).toEqual(expected);
      expect(
        one(
          16,
          6,
          value.map((v) => v * 257),
        ),
      ).toEqual(expected);
    });
  }
  it('fewer bits: grey of 1, 2, 4 bits spans 0..255', () => {
    expect([0, 1].map((v) => one(1, 0, [v])[0])).toEqual([0, 255]);
    expect([0, 1, 2, 3].map((v) => one(2, 0, [v])[0])).toEqual([0, 85, 170, 255]);
    expect([1, 7, 15].map((v) => one(4, 0, [v])[0])).toEqual([17, 119, 255]);
  });
  it('palette with and without transparency', () => {
    const palette = [10, 20, 30, 200, 100, 50, 1, 2, 3];
    expect(one(2, 3, [1], { palette })).toEqual([200, 100, 50]);
    expect(one(8, 3, [1], { palette, transparency: [0, 128] })).toEqual([100, 50, 25]);
    expect(one(8, 3, [2], { palette, transparency: [0, 128] })).toEqual([1, 2, 3]);
  });
  it('a transparent colour is compared in all its bits', () => {
    expect(one(8, 2, [9, 8, 7], { transparency: [0, 9, 0, 8, 0, 7] })).toEqual([0, 0, 0]);
    expect(one(8, 2, [9, 8, 6], { transparency: [0, 9, 0, 8, 0, 7] })).toEqual([9, 8, 6]);
    expect(one(16, 0, [0x1234], { transparency: [0x12, 0x34] })).toEqual([0, 0, 0]);
    expect(one(16, 0, [0x1235], { transparency: [0x12, 0x34] })).toEqual([18, 18, 18]);
    expect(one(4, 0, [5], { transparency: [0, 5] })).toEqual([0, 0, 0]);
  });
});

describe('PNG', () => {
  const types: [number, number][] = [
    [0, 1],
    [0, 2],
    [0, 4],
    [0, 8],
    [0, 16],
    [2, 8],
    [2, 16],
    [3, 1],
    [3, 2],
    [3, 4],
    [3, 8],
    [4, 8],
    [4, 16],
    [6, 8],
    [6, 16],
  ];
  const random = (count: number, below: number, seed: number): number[] => {
    let x = seed;
    return Array.from({ length: count }, () => {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      return (x >>> 8) % below;
    });
  };

  it.each(types)(
    'type %i with %i bits: every size 1..9, plain and interlaced, all filters, like pngjs',
    (colourType, depth) => {
      const channels = [1, 0, 3, 1, 2, 0, 4][colourType] as number;
      const palette = random(3 * Math.min(2 ** depth, 256), 256, 7);
      for (let width = 1; width <= 9; width++) {
        for (const height of [1, 2, 5, 8, 9]) {
          for (const interlaced of [false, true]) {
            const samples = random(width * height * channels, 2 ** depth, width * 31 + height);
            const file = writePng({
              width,
              height,
              depth,
              colourType,
              samples,
              interlaced,
              split: 13,
              ...(colourType === 3 && { palette }),
            });
            const ours = decode(file);
            expect([ours.width, ours.height, ours.data.length]).toEqual([width, height, width * height * 4]);
            const theirs = PNG.sync.read(file).data;
            for (let i = 0; i < theirs.length; i += 4) {
              const alpha = theirs[i + 3] as number;
              for (let c = 0; c < 3; c++) {
                const expected =
                  alpha === 255 ? (theirs[i + c] as number) : Math.round(((theirs[i + c] as number) * alpha) / 255);
                if (ours.data[i + c] !== expected)
                  expect.fail(`${width}x${height} value ${i + c}: ${ours.data[i + c]} instead of ${expected}`);
              }
              if (ours.data[i + 3] !== 255) expect.fail('alpha is 255');
            }
          }
        }
      }
    },
  );

  const valid = writePng({ width: 20, height: 20, depth: 8, colourType: 2, samples: random(1200, 256, 3), split: 100 });

  it('is truncated at every byte short', () => {
    for (let length = 0; length < valid.length; length++) expect(refusal(valid.subarray(0, length)).code).toBe('image');
    expect(refusal(valid.subarray(0, valid.length - 1)).message).toMatch(/truncated/);
  });

  it('ignores what follows the end, and unknown ancillary chunks', () => {
    expect(decode(Buffer.concat([valid, Buffer.from('PK\x03\x04')])).width).toBe(20);
    const samples = [1, 2, 3];
    expect(
      rgb(
        decode(
          writePng({
            width: 1,
            height: 1,
            depth: 8,
            colourType: 2,
            samples,
            extra: [pngChunk('iCCP', Buffer.from('garbage')), pngChunk('gAMA', Buffer.alloc(4))],
          }),
        ),
        0,
        0,
      ),
    ).toEqual(samples);
  });

  const patch = (at: number, bytes: number[], fix = true): Buffer => {
    const file = Buffer.from(valid);
    file.set(bytes, at);
    if (fix) pngChunk('IHDR', file.subarray(16, 29)).copy(file, 8);
    return file;
  };
  it.each<[string, Uint8Array, RegExp]>([
    ['0 columns', patch(16, [0, 0, 0, 0]), /at least one pixel/],
    ['0 rows', patch(20, [0, 0, 0, 0]), /at least one pixel/],
    ['2^31 columns', patch(16, [0x80, 0, 0, 0]), /at least one pixel/],
    ['3 bits', patch(24, [3]), /depth and colour type/],
    ['RGB of 4 bits', patch(24, [4]), /depth and colour type/],
    ['type 5', patch(25, [5]), /depth and colour type/],
    ['unknown compression', patch(26, [1]), /methods/],
    ['unknown interlacing', patch(28, [2]), /methods/],
    ['a wrong header checksum', patch(29, [0], false), /header is intact/],
    ['a changed data byte', patch(60, [(valid[60] as number) ^ 4], false), /chunks of a PNG are intact/],
    ['more rows than data', patch(20, [0, 0, 0, 21]), /every row/],
    ['no data', Buffer.concat([valid.subarray(0, 33), pngChunk('IEND', Buffer.alloc(0))]), /has image data/],
    ['no palette', writePng({ width: 1, height: 1, depth: 8, colourType: 3, samples: [0] }), /palette/],
    [
      'an index outside the palette',
      writePng({ width: 1, height: 1, depth: 8, colourType: 3, samples: [1], palette: [1, 2, 3] }),
      /indices exist/,
    ],
    [
      'a palette of 4 bytes',
      writePng({ width: 1, height: 1, depth: 8, colourType: 3, samples: [0], palette: [1, 2, 3, 4] }),
      /palette/,
    ],
    [
      'transparency of a wrong size',
      writePng({ width: 1, height: 1, depth: 8, colourType: 2, samples: [1, 2, 3], transparency: [0] }),
      /transparency/,
    ],
    [
      'an unknown critical chunk',
      writePng({
        width: 1,
        height: 1,
        depth: 8,
        colourType: 0,
        samples: [0],
        extra: [pngChunk('CRIT', Buffer.alloc(0))],
      }),
      /critical/,
    ],
    [
      'filter 5',
      Buffer.concat([
        writePng({ width: 1, height: 1, depth: 8, colourType: 0, samples: [0] }).subarray(0, 33),
        pngChunk('IDAT', deflateSync(Buffer.from([5, 0]))),
        pngChunk('IEND', Buffer.alloc(0)),
      ]),
      /filters/,
    ],
    [
      'data that are no deflate stream',
      Buffer.concat([
        valid.subarray(0, 33),
        pngChunk('IDAT', Buffer.alloc(50, 0xee)),
        pngChunk('IEND', Buffer.alloc(0)),
      ]),
      /compressed data/,
    ],
  ])('refuses %s', (_what, file, rule) => {
    const error = refusal(file);
    expect(error.code).toBe('image');
    expect(error.message).toMatch(rule);
  });
});

describe('JPEG', () => {
  it('gives the values of flat blocks exactly, grey and colour', () => {
    const grey = decode(
      writeFlatJpeg([
        [[0], [77]],
        [[128], [255]],
      ]),
    );
    expect([rgb(grey, 0, 0), rgb(grey, 15, 7), rgb(grey, 7, 15), rgb(grey, 15, 15)].map(([v]) => v)).toEqual([
      0, 77, 128, 255,
    ]);
    expect(rgb(decode(writeFlatJpeg([[[200, 100, 50]]])), 3, 3)).toEqual([200, 100, 50]);
    expect(decode(writeFlatJpeg([[[9]]], { width: 3, height: 5 }))).toMatchObject({ width: 3, height: 5 });
  });

  it('gives the bits of the package the decoder comes from, again and again', () => {
    // @cwasm/jpeg-turbo's own loader with the same libjpeg-turbo: proves our loader, header walk and memory handling.
    const original = require('@cwasm/jpeg-turbo') as {
      decode(bytes: Uint8Array): { data: Uint8ClampedArray; width: number; height: number };
    };
    for (const n of [1, 4, 1]) {
      const bytes = readFileSync(photo(n));
      const [ours, theirs] = [decode(bytes), original.decode(bytes)];
      expect([ours.width, ours.height]).toEqual([theirs.width, theirs.height]);
      expect(Buffer.from(ours.data.buffer).equals(Buffer.from(theirs.data.buffer))).toBe(true);
      expect(decode(writeFlatJpeg([[[n]]])).data[0]).toBe(n);
    }
  });

  it('IM-04: refuses a file cut at 10, 50, 90, 99 % and by one byte, and goes on right after', () => {
    const bytes = readFileSync(photo(3));
    const before = decode(bytes);
    for (const length of [0.1, 0.5, 0.9, 0.99]
      .map((share) => Math.floor(bytes.length * share))
      .concat(bytes.length - 1, bytes.length - 2)) {
      const error = refusal(bytes.subarray(0, length));
      expect(error.code).toBe('image');
      expect(error.message).toMatch(/truncated/);
    }
    // Cut, but with an end marker put behind: only the decoder can tell.
    const patched = Buffer.concat([bytes.subarray(0, bytes.length >> 1), Buffer.from([0xff, 0xd9])]);
    expect(refusal(patched).message).toMatch(/damaged/);
    expect(Buffer.from(decode(bytes).data.buffer).equals(Buffer.from(before.data.buffer))).toBe(true);
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    ['CMYK', () => writeFlatJpeg([[[1, 2, 3, 4]]]), /CMYK.*[Ii]nstall sharp/],
    ['two components', () => writeFlatJpeg([[[1, 2]]]), /1 or 3 components/],
    ['12 bits', () => writeFlatJpeg([[[1]]], { precision: 12 }), /8 bits/],
    ['0 columns', () => writeFlatJpeg([[[1]]], { width: 0 }), /at least one pixel/],
    ['0 rows', () => writeFlatJpeg([[[1]]], { height: 0 }), /at least one pixel/],
    ['101 scans', () => writeFlatJpeg([[[1]]], { scans: 101 }), /scans/],
    ['no frame', () => Uint8Array.from([0xff, 0xd8, 0xff, 0xd9]), /frame/],
    [
      'two frames',
      () => {
        const file = [...writeFlatJpeg([[[1]]])];
        const at = file.findIndex((byte, i) => byte === 0xff && file[i + 1] === 0xc0);
        return Uint8Array.from([...file.slice(0, at), ...file.slice(at, at + 13), ...file.slice(at)]);
      },
      /one frame/,
    ],
  ])('refuses %s', (_what, file, rule) => {
    const error = refusal(file());
    expect(error.code).toBe('image');
    expect(error.message).toMatch(rule);
  });

  it('accepts 1 x 65,535 by header, which is within the limit, and names missing data', () => {
    expect(refusal(writeFlatJpeg([[[1]]], { width: 65535, height: 1 })).message).toMatch(/damaged/);
  });

  it('reads bytes in shared memory and leaves the input as it was', () => {
    const file = writeFlatJpeg([[[33]]]);
    const shared = new Uint8Array(new SharedArrayBuffer(file.length + 1), 1);
    shared.set(file);
    expect(decode(shared).data[0]).toBe(33);
    expect([...shared]).toEqual([...file]);
  });
});

describe('limits', () => {
  it('IM-06: refuses 60,000 x 60,000 from the header, and a real 14,000 x 14,000, without memory', () => {
    const header = Buffer.alloc(13);
    header.writeUInt32BE(60_000, 0);
    header.writeUInt32BE(60_000, 4);
    header.set([8, 2], 8);
    const declared = Buffer.concat([
      Buffer.from('89504e470d0a1a0a', 'hex'),
      pngChunk('IHDR', header),
      pngChunk('IDAT', deflateSync(Buffer.alloc(5000))),
      pngChunk('IEND', Buffer.alloc(0)),
    ]);
    header.writeUInt32BE(14_000, 0);
    header.writeUInt32BE(14_000, 4);
    header.set([1, 0], 8);
    const real = Buffer.concat([
      Buffer.from('89504e470d0a1a0a', 'hex'),
      pngChunk('IHDR', header),
      pngChunk('IDAT', deflateSync(Buffer.alloc(14_000 * 1751))),
      pngChunk('IEND', Buffer.alloc(0)),
    ]);
    const before = process.memoryUsage();
    expect(refusal(declared).message).toMatch(/at most 100 megapixels, got 60000 x 60000/);
    expect(refusal(real).message).toMatch(/at most 100 megapixels, got 14000 x 14000/);
    expect(refusal(writeFlatJpeg([[[1]]], { width: 60_000, height: 60_000 })).message).toMatch(
      /at most 100 megapixels/,
    );
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(50e6);
    expect(after.rss - before.rss).toBeLessThan(50e6);
  });

  it('takes another limit, exactly', () => {
    const file = writePng({ width: 10, height: 10, depth: 1, colourType: 0, samples: Array(100).fill(1) });
    expect(decode(file, { maxPixels: 100 }).width).toBe(10);
    expect(refusal(file, { maxPixels: 99 }).message).toMatch(/10 x 10/);
    expect(refusal(file, { maxPixels: Number.NaN }).code).toBe('input');
    expect(refusal(file, { maxPixels: 0 }).code).toBe('input');
  });

  it('inflates no more than the rows need', () => {
    // 1 x 1 whose data would inflate to 200 MB.
    const bomb = deflateSync(Buffer.alloc(200_000_000));
    const file = writePng({ width: 1, height: 1, depth: 8, colourType: 0, samples: [0], interlaced: true });
    const inflated = Buffer.concat([file.subarray(0, 33), pngChunk('IDAT', bomb), pngChunk('IEND', Buffer.alloc(0))]);
    const before = process.memoryUsage().rss;
    expect(decode(inflated).width).toBe(1);
    expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
  });
});

describe('formats', () => {
  const ascii = (text: string): Uint8Array => Uint8Array.from(text.padEnd(64, '\0'), (c) => c.charCodeAt(0));
  const samples: [string, string, Uint8Array][] = [
    ['gif', 'GIF', ascii('GIF89a\x64\0\x64\0')],
    ['webp', 'WebP', ascii('RIFF\x10\0\0\0WEBPVP8 ')],
    ['avif', 'AVIF', ascii('\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf')],
    ['heic', 'HEIC', ascii('\0\0\0\x18ftypheic\0\0\0\0mif1heic')],
    ['bmp', 'BMP', ascii('BM\x36\0\0\0')],
    ['tiff', 'TIFF', ascii('II*\0\x08\0\0\0')],
    ['tiff', 'TIFF', ascii('MM\0*\0\0\0\x08')],
    ['svg', 'SVG', ascii('<?xml version="1.0"?><svg/>')],
    ['svg', 'SVG', ascii('\xef\xbb\xbf <svg xmlns="')],
    ['jpeg-xl', 'JPEG XL', ascii('\xff\x0a')],
    ['pdf', 'PDF', ascii('%PDF-1.7')],
  ];
  it.each(samples)('knows %s and refuses it by name with a remedy', async (format, name, bytes) => {
    expect(imageFormat(bytes)).toBe(format);
    const error = refusal(bytes);
    expect(error.code).toBe('image');
    expect(error.message).toContain(`got ${name}.`);
    expect(error.message).toMatch(['svg', 'pdf', 'jpeg-xl'].includes(format) ? /Convert it/ : /sharp/);
    await expect(decodeImageInNode(bytes, { jpeg, decoder: 'exact' })).rejects.toMatchObject({ code: 'image' });
  });
  it('knows formats by content, not by name; refuses nothing and text', () => {
    expect(
      decode(writePng({ width: 1, height: 1, depth: 8, colourType: 0, samples: [5] }), { source: 'photo.jpg' }).data[0],
    ).toBe(5);
    expect(refusal(new Uint8Array(0)).message).toBe(
      'x.jpg: an image has bytes, got an empty file. Get the file again.',
    );
    expect(refusal(new TextEncoder().encode('not a picture')).message).toMatch(
      /^x\.jpg: the file is an image, got bytes of no known image format/,
    );
    expect(() => decodeImage(writeFlatJpeg([[[1]]]))).toThrow(/JPEG files need a decoder/);
  });
  it('PGM and PPM, with comments, 8 and 16 bits', () => {
    const file = (head: string, data: number[]): Uint8Array => Buffer.concat([Buffer.from(head), Buffer.from(data)]);
    expect([...decode(file('P5\n# a comment\n2 1\n255\n', [7, 200])).data]).toEqual([7, 7, 7, 255, 200, 200, 200, 255]);
    expect([...decode(file('P6 1 1 15 ', [15, 0, 3])).data]).toEqual([255, 0, 51, 255]);
    expect([...decode(file('P5 1 1 65535 ', [0x80, 0x00])).data]).toEqual([128, 128, 128, 255]);
    for (const bad of [
      'P5',
      'P5 ',
      'P5 1',
      'P5 1 1',
      'P5 1 1 255',
      'P5 0 1 255 ',
      'P5 1 1 70000 ',
      'P5 -1 1 255 ',
      'P5 99999999999 1 255 ',
      'P5 #',
      'P5 2 2 255 abc',
    ]) {
      expect(refusal(Buffer.from(bad)).code).toBe('image');
    }
    expect(refusal(Buffer.from('P5 60000 60000 255 ')).message).toMatch(/100 megapixels/);
  });
});

describe('files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'facenet-images-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('reads a photo by path and by URL', async () => {
    const { width, height, data } = await readImageFile(photo(1), { jpeg });
    expect(data.length).toBe(width * height * 4);
    expect((await readImageFile(new URL(`../${photo(1)}`, import.meta.url), { jpeg })).width).toBe(width);
  });

  it('needs no decoder handed over, and keeps one between images', async () => {
    const file = writeFlatJpeg([[[12]]]);
    expect((await decodeImageInNode(file)).data[0]).toBe(12);
    const reader = new ImageReader();
    expect((await reader.read(photo(1))).width).toBe((await readImageFile(photo(1), { jpeg })).width);
    expect((await Promise.all([reader.read(file), reader.read(file)])).map(({ data }) => data[0])).toEqual([12, 12]);
    await expect(reader.read('no such file.jpg')).rejects.toThrow(/^no such file\.jpg: /);
    await expect(reader.read(new Uint8Array(3))).rejects.toThrow(/^image: /);
  });

  it('IM-11: names the file in every refusal', async () => {
    const text = join(folder, 'x.jpg');
    writeFileSync(text, 'a text file');
    writeFileSync(join(folder, 'empty.png'), '');
    writeFileSync(join(folder, 'cmyk.jpg'), writeFlatJpeg([[[1, 2, 3, 4]]]));
    const refused = async (path: string): Promise<FaceNetError> =>
      readImageFile(path, { jpeg, decoder: 'exact' }).then(
        () => expect.fail('was read'),
        (error) => error,
      );
    for (const [path, code, words] of [
      [text, 'image', /no known image format/],
      [join(folder, 'empty.png'), 'image', /empty file/],
      [join(folder, 'cmyk.jpg'), 'image', /sharp/],
      [folder, 'input', /got a folder/],
      [join(folder, 'missing.jpg'), 'input', /nothing there/],
    ] as const) {
      const error = await refused(path);
      expect(error).toBeInstanceOf(FaceNetError);
      expect(error.code).toBe(code);
      expect(error.message.startsWith(`${path}: `)).toBe(true);
      expect(error.message).toMatch(words);
    }
  });

  const withoutSharp = !existsSync('node_modules/sharp');
  it.runIf(withoutSharp)('says how to get sharp where it is missing', async () => {
    await expect(decodeImageInNode(writeFlatJpeg([[[1]]]), { jpeg, decoder: 'sharp' })).rejects.toThrow(/npm i sharp/);
    await expect(decodeImageInNode(writeFlatJpeg([[[1, 2, 3, 4]]]), { jpeg })).rejects.toThrow(/CMYK.*npm i sharp/);
  });
});
