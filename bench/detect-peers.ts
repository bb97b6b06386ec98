// Our detectors against face-api.js's: photos and faces per second on its six sample photos, in one run.
//
//   (FOLDER holds the original, see test/oracles/record-tiny-face.ts)
//   node build.mjs run bench/detect-peers.ts FOLDER [rounds, 5] [--mtcnn FILE] [--webgpu]
//
// --mtcnn: MTCNN's weights too, with its own smallest face (40 pixels here). --webgpu: both detectors on the adapter there is as well.
// On WebAssembly all run with one thread, all that tfjs has in Node, on photos decoded beforehand; the original's tensors are made beforehand too.
// Rounds alternate. Times are medians over the rounds, of all six photos.
import { openBackend } from '../src/backends/open.ts';
import { detectors } from '../src/faces/detection/detectors.ts';
import { detectorWeights } from '../src/io/detector-file.ts';
import { openDetectorFile } from '../src/io/mtcnn.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { ImageReader, readWholeFile } from '../src/io/node/image-files.ts';
import { openFaceApi } from '../test/face-api.ts';
import { photoNames, photoPath, rgb } from '../test/tiny-face.ts';
import { alternating, median, type Timed } from './rounds.ts';

const [, , folder = '../face-api', ...rest] = process.argv;
const rounds = Number(rest.find((word) => /^\d+$/.test(word)) ?? 5);
const mtcnn = rest.includes('--mtcnn') ? rest[rest.indexOf('--mtcnn') + 1] : undefined;
const kinds = rest.includes('--webgpu') ? (['wasm', 'webgpu'] as const) : (['wasm'] as const);
const { faceApi, tensorflow, programs, threads } = await openFaceApi(folder, 1);
const reader = new ImageReader();
const photos = await Promise.all(photoNames.map((name) => reader.read(photoPath(name))));
const tensors = photos.map((photo) => tensorflow.tensor(rgb(photo), [photo.height, photo.width, 3], 'int32'));
const options = new faceApi.TinyFaceDetectorOptions({ inputSize: 416, scoreThreshold: 0.5 });

/** What is timed, by name: one look at all photos, which tells how many faces there are. */
const contestants = new Map<string, () => Promise<number>>();
const close: (() => Promise<void>)[] = [];
for (const kind of kinds) {
  const { backend } = await openBackend(createNodeHost(), { backend: kind, threads: 1 });
  console.log(`${kind}: ${backend.description}`);
  for (const file of ['dist/models/tiny-face.safetensors', ...(mtcnn === undefined ? [] : [mtcnn])]) {
    const opened = await openDetectorFile(await readWholeFile(file, file, 1 << 24), file);
    const network = opened.metadata.network as keyof typeof detectors;
    const model = await detectors[network](detectorWeights(opened), backend, { source: file });
    contestants.set(`${network} on ${kind}`, async () => {
      let faces = 0;
      for (const photo of photos) faces += (await model.detect(photo, { limit: Number.POSITIVE_INFINITY })).length;
      return faces;
    });
    close.push(() => model.dispose());
  }
  close.push(() => backend.dispose());
}
const original = "face-api.js's own";
contestants.set(original, async () => {
  let faces = 0;
  for (const tensor of tensors) faces += (await faceApi.detectAllFaces(tensor, options).withFaceLandmarks()).length;
  return faces;
});

const found = await alternating(contestants, rounds);
console.log(JSON.stringify(programs), `tfjs threads: ${threads()}, ${rounds} rounds`);
const peer = median((found.get(original) as Timed<number>).times);
for (const [name, { times, result: count }] of found) {
  const time = median(times);
  const rate = (things: number) => ((1000 * things) / time).toFixed(1);
  const spread = `${Math.min(...times).toFixed(0)} to ${Math.max(...times).toFixed(0)}`;
  console.log(
    `${name}: ${(time / photos.length).toFixed(1)} ms a photo, ${rate(photos.length)} photos/s, ${rate(count)} faces/s (${count} faces; six photos ${spread} ms), ${(peer / time).toFixed(2)} times the original's photos/s`,
  );
}
for (const tensor of tensors) tensor.dispose();
for (const end of close) await end();
