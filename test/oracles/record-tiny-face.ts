// Records test/cases/tiny-face.json: what @vladmandic/face-api itself finds in its six sample photos.
//
//   mkdir ../face-api && npm install --prefix ../face-api @vladmandic/face-api@1.7.15 @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
//   node build.mjs run test/oracles/record-tiny-face.ts ../face-api
//
// The original runs from that folder, on tfjs's wasm backend, with the weights of the package: tinyFaceDetector and faceLandmark68Net, called
// as its users do, on the pixels that our decoder reads from the photo. Nothing else of ours takes part.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ImageReader } from '../../src/io/node/image-files.ts';
import { openFaceApi } from '../face-api.ts';
import { part, photoNames, photoPath, rgb, type TinyFaceCases } from '../tiny-face.ts';

const { faceApi, tensorflow, programs } = await openFaceApi(process.argv[2] ?? '.', 1);
const short = (value: number): number => Number(value.toFixed(4));
const reader = new ImageReader();

type Region = readonly [x: number, y: number, width: number, height: number];

/** Small and tall, a face over the left and upper edge, a wide strip, a square. */
const parts: readonly (readonly [image: string, region: Region])[] = [
  ['sample6.jpg', [1400, 280, 361, 400]],
  ['sample1.jpg', [400, 430, 320, 500]],
  ['sample4.jpg', [0, 60, 1920, 401]],
  ['sample5.jpg', [500, 400, 416, 416]],
];

async function record(image: string, size: number, score: number, region?: Region) {
  const photo = part(await reader.read(photoPath(image)), region);
  const tensor = tensorflow.tensor(rgb(photo), [photo.height, photo.width, 3], 'int32');
  const options = new faceApi.TinyFaceDetectorOptions({ inputSize: size, scoreThreshold: score });
  const found = await faceApi.detectAllFaces(tensor, options).withFaceLandmarks();
  return {
    image,
    ...(region && { region }),
    size,
    score,
    width: photo.width,
    height: photo.height,
    faces: found.map(({ detection, landmarks }) => ({
      score: Number(detection.score.toFixed(6)),
      box: [detection.box.x, detection.box.y, detection.box.width, detection.box.height].map(short),
      points: landmarks.positions.map(({ x, y }) => [short(x), short(y)] as const),
    })),
  };
}

const cases: TinyFaceCases['cases'][number][] = [];
for (const image of photoNames) for (const size of [416, 800]) cases.push(await record(image, size, 0.5));
for (const [image, region] of parts) cases.push(await record(image, 416, 0.5, region));
for (const { image, size, faces } of cases) console.error(`${image} at ${size}: ${faces.length} faces`);
const all: TinyFaceCases = {
  command: 'node build.mjs run test/oracles/record-tiny-face.ts FOLDER (see its head)',
  programs,
  cases,
};
const text = JSON.stringify(all, undefined, 1)
  .replaceAll(/\n\s+(-?[\d.e-]+,?)(?=\n)/g, ' $1')
  .replaceAll(/\n\s+\](,?)(?=\n)/g, ' ]$1')
  .replaceAll(/\n\s+\[ /g, ' [ ');
writeFileSync(fileURLToPath(new URL('../cases/tiny-face.json', import.meta.url)), `${text}\n`);
