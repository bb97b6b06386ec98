// The six sample photos of the development package @vladmandic/face-api, and what the original finds in them.
import { fileURLToPath } from 'node:url';
import type { Pixels } from '../src/faces/preprocessing.ts';

export const photoNames = ['sample1.jpg', 'sample2.jpg', 'sample3.jpg', 'sample4.jpg', 'sample5.jpg', 'sample6.jpg'];

export const photoPath = (name: string): string =>
  fileURLToPath(new URL(`../node_modules/@vladmandic/face-api/demo/${name}`, import.meta.url));

/** test/cases/tiny-face.json. */
export interface TinyFaceCases {
  readonly command: string;
  readonly programs: Readonly<Record<string, string>>;
  readonly cases: readonly {
    readonly image: string;
    /** The part of the photo that was looked at: x, y, width, height; left out for all of it. */
    readonly region?: readonly [number, number, number, number];
    /** `inputSize` of TinyFaceDetectorOptions. */
    readonly size: number;
    readonly score: number;
    readonly width: number;
    readonly height: number;
    /** In the order of the original: by falling score. Pixels of the photo, as edges: the first pixel covers 0 .. 1. */
    readonly faces: readonly {
      readonly score: number;
      /** x, y, width, height. */
      readonly box: readonly number[];
      readonly points: readonly (readonly [number, number])[];
    }[];
  }[];
}

/** The bytes without alpha. */
export function rgb({ data, width, height }: Pixels): Uint8Array {
  const channels = data.length / (width * height);
  if (channels === 3) return Uint8Array.from(data);
  const bytes = new Uint8Array(width * height * 3);
  for (let i = 0, from = 0; i < bytes.length; i += 3, from += 4) {
    bytes[i] = data[from] as number;
    bytes[i + 1] = data[from + 1] as number;
    bytes[i + 2] = data[from + 2] as number;
  }
  return bytes;
}

/** A part of a photo as a photo of its own. */
export function part(photo: Pixels, region: readonly [number, number, number, number] | undefined): Pixels {
  if (!region) return photo;
  const [left, top, width, height] = region;
  const channels = photo.data.length / (photo.width * photo.height);
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * photo.width + left) * channels;
    data.set(photo.data.subarray(from, from + width * channels), y * width * channels);
  }
  return { data, width, height };
}
