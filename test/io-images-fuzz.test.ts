// area: fuzz
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { decodeImage } from '../src/io/images.ts';
import { loadJpegDecoder } from '../src/io/node/image-files.ts';
import {
  exifOrientation,
  exifSegment,
  type PngSpec,
  pngChunk,
  writeFlatJpeg,
  writePng,
} from './oracles/plain-images.ts';
import { generator } from './oracles/plain-random.ts';

const MUTATIONS = Number(process.env.FACENET_FUZZ_IMAGES ?? 10_000);
const SEED = Number(process.env.FACENET_FUZZ_SEED ?? 20_261_125);

/** Small files of both formats in many kinds, and a real photograph (cut to be quick to copy, so only its head is intact). */
function seeds(next: (limit: number) => number): Uint8Array[] {
  const kinds: Partial<PngSpec>[] = [
    { depth: 8, colourType: 2 },
    { depth: 16, colourType: 6, interlaced: true },
    { depth: 1, colourType: 0, interlaced: true },
    { depth: 4, colourType: 3, palette: Array.from({ length: 48 }, () => next(256)), transparency: [0, 128] },
    { depth: 8, colourType: 4 },
    { depth: 16, colourType: 0, transparency: [1, 2] },
  ];
  const pngs = kinds.map((kind) =>
    writePng({
      width: 13,
      height: 11,
      depth: 8,
      colourType: 2,
      samples: Array.from({ length: 13 * 11 * 4 }, () => next(2 ** (kind.depth as number))),
      split: 64,
      extra: [pngChunk('eXIf', exifOrientation(1 + next(8)))],
      ...kind,
    }),
  );
  const block = (count: number): number[] => Array.from({ length: count }, () => next(256));
  const jpegs = [1, 3, 3].map((components) =>
    writeFlatJpeg(
      [
        [block(components), block(components)],
        [block(components), block(components)],
      ],
      {
        extra: exifSegment(exifOrientation(1 + next(8))),
        width: 16 - next(8),
        height: 16 - next(8),
      },
    ),
  );
  return [...pngs, ...jpegs, readFileSync('node_modules/@vladmandic/face-api/demo/sample5.jpg').subarray(0, 4000)];
}

/** Recomputes the checksums of a PNG, so that mutations reach what lies behind them. */
function repairPng(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > bytes.length) return;
    const chunk = pngChunk(String.fromCharCode(...bytes.subarray(at + 4, at + 8)), bytes.subarray(at + 8, end));
    bytes.set(chunk.subarray(-4), end);
    at = end + 4;
  }
}

it(`decodes or refuses ${MUTATIONS} mutated images, typed (seed ${SEED})`, {
  timeout: 60_000 + MUTATIONS * 5,
}, async () => {
  const next = generator(SEED);
  const jpeg = await loadJpegDecoder();
  const corpus = seeds(next);
  const golden = writeFlatJpeg([[[1, 2, 3]]]);
  const counts = { decoded: 0, refused: 0 };
  let slowest = 0;
  for (let n = 0; n < MUTATIONS; n++) {
    let bytes = new Uint8Array(corpus[next(corpus.length)] as Uint8Array);
    for (let rounds = 1 + next(4); rounds > 0 && bytes.length > 0; rounds--) {
      const at = next(bytes.length);
      const kind = next(5);
      if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << next(8));
      else if (kind === 1) bytes[at] = next(256);
      else if (kind === 2) bytes.fill(next(2) * 255, at, at + next(8));
      else if (kind === 3) bytes.copyWithin(at, next(bytes.length), next(bytes.length));
      else if (next(4) === 0) bytes = bytes.subarray(0, at);
    }
    if (bytes[0] === 0x89 && next(4) > 0) repairPng(bytes);
    const start = performance.now();
    try {
      // A low limit: a mutated header that declares 60,000 rows must not make the test slow.
      const { data, width, height } = decodeImage(bytes, { jpeg, maxPixels: 1_000_000 });
      if (data.length !== width * height * 4 || width < 1 || height < 1)
        expect.fail(`mutation ${n}: ${data.length} bytes for ${width} x ${height}`);
      counts.decoded++;
    } catch (error) {
      if (!(error instanceof FaceNetError) || error.code !== 'image') {
        console.error(`mutation ${n} of seed ${SEED}: ${Buffer.from(bytes).toString('hex')}`);
        throw error;
      }
      if (!/^image: .+, got .+\. .+\.$/s.test(error.message) || error.message.length > 400)
        expect.fail(`mutation ${n}: message ${error.message}`);
      counts.refused++;
    }
    slowest = Math.max(slowest, performance.now() - start);
    // The decoder after a refusal is as good as new.
    if (n % 500 === 0) expect([...decodeImage(golden, { jpeg }).data.subarray(0, 4)]).toEqual([1, 2, 3, 255]);
  }
  expect(counts.decoded).toBeGreaterThan(MUTATIONS / 20);
  expect(counts.refused).toBeGreaterThan(MUTATIONS / 20);
  console.log(`${MUTATIONS} images: ${JSON.stringify(counts)}, slowest ${slowest.toFixed(0)} ms`);
});
