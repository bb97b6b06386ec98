// area: networks
// Boxes and points of the tiny face detector and the 68-point network against the original package's, on its six sample photos.
import { afterAll, describe, expect, test } from 'vitest';
import type { DetectedFace, DetectionModel } from '../src/faces/detection/detection.ts';
import { createTinyFace, readTinyFaceBoxes, tinyFaceSize } from '../src/faces/detection/tiny-face.ts';
import type { Pixels } from '../src/faces/preprocessing.ts';
import { detectorWeights, readDetectorFile } from '../src/io/detector-file.ts';
import { ImageReader } from '../src/io/node/image-files.ts';
import type { Backend } from '../src/plan/runner.ts';
import { built, wasmBackend } from './backends.ts';
import recorded from './cases/tiny-face.json' with { type: 'json' };
import { part, photoPath, type TinyFaceCases } from './tiny-face.ts';

const { cases } = recorded as unknown as TinyFaceCases;
const backends: Backend[] = [];
afterAll(async () => {
  for (const backend of backends) await backend.dispose();
});
const file = readDetectorFile(await built('models/tiny-face.safetensors'));

async function open(threads: number): Promise<{ backend: Backend; model: DetectionModel }> {
  const backend = await wasmBackend({ threads });
  backends.push(backend);
  return { backend, model: await createTinyFace(detectorWeights(file), backend, { source: 'tiny-face' }) };
}

const { backend, model } = await open(1);
const reader = new ImageReader();
const photos = new Map<string, Pixels>();
async function photoOf(name: string): Promise<Pixels> {
  const photo = photos.get(name) ?? (await reader.read(photoPath(name)));
  photos.set(name, photo);
  return photo;
}

/** The smallest face for which the model takes the input size that the case was recorded with; none for the size it takes by itself. */
function minFaceFor(photo: Pixels, size: number): number | undefined {
  if (size === 416) return undefined;
  const minFace = (Math.max(photo.width, photo.height) * 40) / size;
  expect(tinyFaceSize(photo, minFace)).toBe(size);
  return minFace;
}

/** The original places points by the corner of the box, the network saw the whole pixels of it that lie in the photo. */
const shiftOf = ([x, y]: readonly number[]) => [Math.floor(Math.max(x!, 0)) - x!, Math.floor(Math.max(y!, 0)) - y!];

describe('against @vladmandic/face-api', () => {
  for (const { image, region, size, score, width, height, faces } of cases) {
    test(`${image}${region ? ` at ${region.join(' ')}` : ''}, input ${size}`, async () => {
      const photo = part(await photoOf(image), region);
      expect([photo.width, photo.height]).toEqual([width, height]);
      const minFace = minFaceFor(photo, size);
      const expected = faces.filter(({ box }) => Math.min(box[2]!, box[3]!) >= (minFace ?? 0));
      const found = await model.detect(photo, { minFace, minScore: score, limit: Number.POSITIVE_INFINITY });
      expect(found.length).toBe(expected.length);
      let worst = 0;
      expected.forEach((face, i) => {
        const { box, points68 = [], score: own } = found[i] as DetectedFace;
        expect(Math.abs(own - face.score)).toBeLessThan(1e-3);
        [box.x, box.y, box.width, box.height].forEach((value, k) => {
          worst = Math.max(worst, Math.abs(value - face.box[k]!));
        });
        const [dx, dy] = shiftOf(face.box);
        expect(points68).toHaveLength(68);
        face.points.forEach(([x, y], k) => {
          worst = Math.max(worst, Math.abs(points68[k]![0] - x - dx!), Math.abs(points68[k]![1] - y - dy!));
        });
      });
      console.log(`${image} ${size}: ${found.length} faces, worst difference ${worst.toExponential(1)} pixels`);
      // Asked for: one pixel. Both compute in float32; what is left is the order of sums.
      expect(worst).toBeLessThan(0.05);
    });
  }
});
