// Pictures of test/decoders.browser.ts with the pixels that Node's decoder 'exact' gives: photos, and every EXIF turn of a JPEG and a PNG.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { decodeImageInNode } from '../src/io/node/image-files.ts';
import { exifOrientation, exifSegment, pngChunk, writePng } from './oracles/plain-images.ts';

/** A file, where it is served or as base64, and its pixels. */
export interface ExpectedPixels {
  readonly name: string;
  readonly address?: string;
  readonly base64?: string;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly sha256: string;
}

/** Size of the PNGs, every seventh pixel of a photo: odd, so that the passes of an interlaced one differ in size. */
const [WIDTH, HEIGHT] = [101, 67];

export async function expected(): Promise<ExpectedPixels[]> {
  const folder = new URL('../node_modules/@vladmandic/face-api/demo/', import.meta.url);
  const describe = async (name: string, bytes: Uint8Array, address?: string): Promise<ExpectedPixels> => {
    const { data, width, height } = await decodeImageInNode(bytes, { decoder: 'exact', source: name });
    return {
      name,
      ...(address ? { address } : { base64: Buffer.from(bytes).toString('base64') }),
      width,
      height,
      channels: data.length / (width * height),
      sha256: createHash('sha256').update(data).digest('hex'),
    };
  };
  const photos = readdirSync(folder).filter((name) => /\.jpg$/.test(name));
  const found = await Promise.all(
    photos.map((name) =>
      describe(name, readFileSync(new URL(name, folder)), `/node_modules/@vladmandic/face-api/demo/${name}`),
    ),
  );
  const jpeg = readFileSync(new URL(photos[0] as string, folder));
  const { data, width } = await decodeImageInNode(jpeg, { decoder: 'exact' });
  const channels = data.length / (width * (found[0] as ExpectedPixels).height);
  const samples = Array.from({ length: WIDTH * HEIGHT * 3 }, (_, i) => {
    const at = Math.floor(i / 3);
    return data[(Math.floor(at / WIDTH) * 7 * width + (at % WIDTH) * 7) * channels + (i % 3)] as number;
  });
  const png = { width: WIDTH, height: HEIGHT, depth: 8, colourType: 2, samples };
  found.push(
    await describe('a PNG', writePng(png)),
    await describe('an interlaced PNG', writePng({ ...png, interlaced: true })),
  );
  for (let turn = 1; turn <= 8; turn++) {
    const tiff = exifOrientation(turn);
    // Behind the start of image (2 bytes), before everything else.
    const turned = Buffer.concat([jpeg.subarray(0, 2), Uint8Array.from(exifSegment(tiff)), jpeg.subarray(2)]);
    found.push(await describe(`a JPEG turned by EXIF ${turn}`, turned));
    found.push(await describe(`a PNG turned by EXIF ${turn}`, writePng({ ...png, extra: [pngChunk('eXIf', tiff)] })));
  }
  return found;
}
