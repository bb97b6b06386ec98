// Records test/cases/golden-faces.json: what a float64 run of the whole network and the original package say about the sample faces.
//
//   mkdir ../face-api && npm install --prefix ../face-api @vladmandic/face-api@1.7.15 @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
//   node build.mjs run test/oracles/record-golden.ts ../face-api
//
// The original runs from that folder, on tfjs's wasm backend, with the weights of the package.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ImageReader } from '../../src/io/node/image-files.ts';
import {
  chipOf,
  digestOf,
  exactCrop,
  exactEmbedding,
  type GoldenFaces,
  modelWeights,
  sampleFaces,
} from '../golden-faces.ts';

/** The little of the original that is called. */
interface FaceApi {
  readonly nets: { readonly faceRecognitionNet: Net };
}
interface Net {
  loadFromDisk(folder: string): Promise<void>;
  forward(input: unknown): Promise<{ readonly shape: readonly number[]; dataSync(): Float32Array }>;
}
interface TensorFlow {
  readonly version_core: string;
  setBackend(name: string): Promise<boolean>;
  getBackend(): string;
  tensor(data: ArrayLike<number>, shape: readonly number[], dtype: string): unknown;
}

const folder = resolve(process.argv[2] ?? '.');
const load = createRequire(join(folder, 'package.json'));
const tensorflow = load('@tensorflow/tfjs') as TensorFlow;
const wasm = load('@tensorflow/tfjs-backend-wasm') as { setWasmPaths(path: string): void };
const packages = join(folder, 'node_modules');
wasm.setWasmPaths(`${join(packages, '@tensorflow', 'tfjs-backend-wasm', 'dist')}/`);
await tensorflow.setBackend('wasm');
const faceApi = load('@vladmandic/face-api/dist/face-api.node-wasm.js') as FaceApi;
const original = faceApi.nets.faceRecognitionNet;
await original.loadFromDisk(join(packages, '@vladmandic', 'face-api', 'model'));
const version = (name: string): string =>
  (JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')) as { version: string }).version;

/** Nine digits bring a float32 back exactly. */
const short = (values: ArrayLike<number>): number[] => Array.from(values, (value) => Number(value.toPrecision(9)));

const reader = new ImageReader();
const weights = await modelWeights();
const faces: GoldenFaces['faces'][number][] = [];
for (const face of sampleFaces()) {
  const crop = await exactCrop(face, reader);
  const chip = chipOf(crop);
  const output = await original.forward(tensorflow.tensor(chip, [150, 150, 3], 'int32'));
  const values = output.dataSync();
  const { features } = exactEmbedding(chip, weights);
  const away = Math.max(...values.map((value, i) => Math.abs(value - features[i]!)));
  console.error(`${face.name}: shape ${output.shape}, original and float64 oracle differ by ${away.toExponential(2)}`);
  faces.push({
    name: face.name,
    chip: digestOf(chip),
    embedding: short(exactEmbedding(crop, weights).embedding),
    original: short(values),
  });
}
const record: GoldenFaces = {
  command: 'node build.mjs run test/oracles/record-golden.ts FOLDER (see its head)',
  programs: {
    '@vladmandic/face-api': version('@vladmandic/face-api'),
    '@tensorflow/tfjs': `${version('@tensorflow/tfjs')}, backend ${tensorflow.getBackend()}`,
  },
  faces,
};
const text = JSON.stringify(record, undefined, 1)
  .replaceAll(/\n\s+(-?[\d.e-]+,?)(?=\n)/g, ' $1')
  .replaceAll(/\n\s+\]/g, ' ]');
writeFileSync(fileURLToPath(new URL('../cases/golden-faces.json', import.meta.url)), `${text}\n`);
