// Tiny face detector and 68-point network, ours against the original: photos and faces per second on the six sample photos, in one run.
//
//   (FOLDER holds the original, see test/oracles/record-tiny-face.ts)
//   node build.mjs run bench/detect-peers.ts FOLDER [rounds, 5]
//
// Both run on WebAssembly with one thread, all that tfjs has in Node, on photos decoded beforehand; the original's tensors are made beforehand too.
// Rounds alternate. Times are medians over the rounds, of all six photos.
import { openBackend } from '../src/backends/open.ts';
import { createTinyFace } from '../src/faces/detection/tiny-face.ts';
import { detectorWeights, readDetectorFile } from '../src/io/detector-file.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { ImageReader, readWholeFile } from '../src/io/node/image-files.ts';
import { openFaceApi } from '../test/face-api.ts';
import { photoNames, photoPath, rgb } from '../test/tiny-face.ts';

const [, , folder = '../face-api', count = '5'] = process.argv;
const rounds = Number(count);
const { faceApi, tensorflow, programs, threads } = await openFaceApi(folder, 1);
const { backend } = await openBackend(createNodeHost(), { backend: 'wasm', threads: 1 });
const file = readDetectorFile(await readWholeFile('dist/models/tiny-face.safetensors', 'tiny-face', 1 << 24));
const model = await createTinyFace(detectorWeights(file), backend, { source: 'tiny-face' });
const reader = new ImageReader();
const photos = await Promise.all(photoNames.map((name) => reader.read(photoPath(name))));
const tensors = photos.map((photo) => tensorflow.tensor(rgb(photo), [photo.height, photo.width, 3], 'int32'));
const options = new faceApi.TinyFaceDetectorOptions({ inputSize: 416, scoreThreshold: 0.5 });

const contestants = {
  ours: async () => {
    let faces = 0;
    for (const photo of photos) faces += (await model.detect(photo, { limit: Number.POSITIVE_INFINITY })).length;
    return faces;
  },
  original: async () => {
    let faces = 0;
    for (const tensor of tensors) faces += (await faceApi.detectAllFaces(tensor, options).withFaceLandmarks()).length;
    return faces;
  },
};

const times: Record<keyof typeof contestants, number[]> = { ours: [], original: [] };
let faces = 0;
for (let round = -1; round < rounds; round++) {
  const order = Object.keys(contestants) as (keyof typeof contestants)[];
  if (round % 2) order.reverse();
  for (const name of order) {
    const start = performance.now();
    faces = await contestants[name]();
    // The first round warms up.
    if (round >= 0) times[name].push(performance.now() - start);
  }
}
const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] as number;
console.log(backend.description, JSON.stringify(programs), `tfjs threads: ${threads()}`);
for (const name of ['ours', 'original'] as const) {
  const time = median(times[name]);
  const rate = (things: number) => ((1000 * things) / time).toFixed(1);
  const spread = `${Math.min(...times[name]).toFixed(0)} to ${Math.max(...times[name]).toFixed(0)}`;
  console.log(
    `${name}: ${(time / photos.length).toFixed(1)} ms a photo, ${rate(photos.length)} photos/s, ${rate(faces)} faces/s (${faces} faces; six photos ${spread} ms)`,
  );
}
console.log(`ratio ${(median(times.original) / median(times.ours)).toFixed(2)}`);
for (const tensor of tensors) tensor.dispose();
await model.dispose();
await backend.dispose();
