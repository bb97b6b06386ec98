// Records what @vladmandic/face-api computes for a chip of 150x150, before any normalisation: test/cases/dlib-resnet.json.
//   node test/record-face-api.mjs
// Runs the package's own FaceRecognitionNet on its own tfjs (cpu); nothing of ours takes part.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const packageFile = (name) => createRequire(import.meta.url).resolve(`@vladmandic/face-api/${name}`);

// The package looks for a page when it is loaded.
globalThis.window = globalThis;
globalThis.document = { createElement: () => ({ getContext: () => null }) };
for (const name of [
  'HTMLImageElement',
  'HTMLCanvasElement',
  'HTMLVideoElement',
  'ImageData',
  'CanvasRenderingContext2D',
  'Image',
]) {
  globalThis[name] ??= class {};
}
const faceapi = await import(packageFile('dist/face-api.esm.js'));
const { tf } = faceapi;
await tf.setBackend('cpu');
await tf.ready();

const [{ weights }] = JSON.parse(
  readFileSync(packageFile('model/face_recognition_model-weights_manifest.json'), 'utf8'),
);
const bytes = readFileSync(packageFile('model/face_recognition_model.bin'));
const network = new faceapi.FaceRecognitionNet();
network.loadFromWeightMap(
  tf.io.decodeWeights(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), weights),
);

/** The chip, all integers: three sheared ramps and a linear congruential noise of 0 to 31. The test makes the same. */
function chip() {
  const pixels = new Float32Array(150 * 150 * 3);
  let state = 1;
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const [x, y, channel] = [Math.floor(i / 3) % 150, Math.floor(i / 450), i % 3];
    pixels[i] = ((x * (channel + 1) + y * (3 - channel)) % 224) + (state >>> 27);
  }
  return pixels;
}

const batch = tf.tensor4d(chip(), [1, 150, 150, 3]);
const output = network.forwardInput({ toBatchTensor: () => batch, batchSize: 1 });
const record = {
  what: '128 values of FaceRecognitionNet before normalisation, for the chip of test/record-face-api.mjs',
  made: `node test/record-face-api.mjs, @vladmandic/face-api ${JSON.parse(readFileSync(packageFile('package.json'), 'utf8')).version}, its tfjs ${tf.version_core}, cpu`,
  descriptor: [...(await output.data())],
};
writeFileSync(new URL('cases/dlib-resnet.json', import.meta.url), `${JSON.stringify(record, null, 1)}\n`);
