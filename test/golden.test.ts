// area: networks
// on: none lavapipe swiftshader
//
// The sample faces against the float64 run of the whole network and against the original package (test/oracles/record-golden.ts).
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Graph } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { ImageReader } from '../src/io/node/image-files.ts';
import { dlibResnet } from '../src/networks/dlib-resnet.ts';
import { parametersOf } from '../src/networks/initialise.ts';
import { type CreateOptions, FaceNetGPU } from '../src/node.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import {
  chipOf,
  digestOf,
  exactCrop,
  exactEmbedding,
  type GoldenFaces,
  means,
  modelWeights,
  sampleFaces,
} from './golden-faces.ts';

const golden = JSON.parse(readFileSync(new URL('cases/golden-faces.json', import.meta.url), 'utf8')) as GoldenFaces;
const adapter = process.env.FACENET_ADAPTER ?? 'none';
// A software GPU takes a second and more a face.
const faces = adapter === 'none' ? sampleFaces() : sampleFaces().slice(0, 4);
const records = new Map(golden.faces.map((face) => [face.name, face]));
const reader = new ImageReader();
const crops = new Map<string, Float64Array>();

beforeAll(async () => {
  for (const face of faces) crops.set(face.name, await exactCrop(face, reader));
});

/** L2 distance of row `row` of `data` from `expected`; NaN fails every comparison. */
function away(data: Float32Array, row: number, expected: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < expected.length; i++) sum += (data[row * expected.length + i]! - expected[i]!) ** 2;
  return Math.sqrt(sum);
}

describe('the record', () => {
  test('names every sample face once, with 128 numbers each', () => {
    expect(golden.faces.map(({ name }) => name)).toEqual(sampleFaces().map(({ name }) => name));
    for (const { embedding, original } of golden.faces) expect([embedding.length, original.length]).toEqual([128, 128]);
  });

  test('was made from the crops that photos and eye positions give today', () => {
    for (const { name } of faces) expect(digestOf(chipOf(crops.get(name)!)), name).toBe(records.get(name)!.chip);
  });

  // Once is enough: nothing of it depends on the adapter.
  if (adapter !== 'none') return;
  test('is what the float64 network gives today', { timeout: 120_000 }, async () => {
    const { name } = faces[0]!;
    const { embedding } = exactEmbedding(crops.get(name)!, await modelWeights());
    expect(away(Float32Array.from(records.get(name)!.embedding), 0, embedding)).toBeLessThan(1e-6);
  });
});

const settings: readonly Omit<CreateOptions, 'model'>[] =
  adapter === 'none'
    ? [
        { backend: 'wasm', threads: 1, relaxed: false },
        { backend: 'wasm', threads: 2 },
      ]
    : [{ backend: 'webgpu' }];

describe.each(settings)('photo to unit vector, %o', (options) => {
  let net: FaceNetGPU;
  beforeAll(async () => {
    net = await FaceNetGPU.create({ model: 'dlib-resnet', ...options, batchSize: 4 });
  });
  afterAll(() => net?.dispose());

  test('within 1e-4 of float64, with the same bits alone and in a batch', async () => {
    const { data, count } = await net.embed(faces);
    expect(count).toBe(faces.length);
    let worst = 0;
    for (const [row, { name }] of faces.entries()) {
      const distance = away(data, row, records.get(name)!.embedding);
      expect(distance, name).toBeLessThan(1e-4);
      worst = Math.max(worst, distance);
    }
    console.log(`golden faces on ${net.why}: at most ${worst.toExponential(1)} from float64`);
    const last = faces.length - 1;
    expect((await net.embed(faces[last]!)).data).toEqual(data.subarray(last * 128));
  });

  test('the crop within a level of float64', async () => {
    for (const face of faces.slice(0, 4)) {
      const { data, width, height } = await net.align(face);
      expect([width, height]).toEqual([150, 150]);
      const expected = crops.get(face.name)!;
      let worst = 0;
      for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(data[i]! - expected[i]!));
      // Half a level is the rounding to bytes.
      expect(worst, face.name).toBeLessThan(0.51);
    }
  });
});

test('128 values before normalisation within 1e-3 of the original package', async () => {
  const weights = await modelWeights();
  const size = { width: 150, height: 150 };
  const batchSize = 4;
  for (const backend of await backends()) {
    const store = new Store(backend);
    for (const { name, shape } of parametersOf(dlibResnet, {}, size)) store.set(name, weights[name]!, shape);
    const graph = new Graph();
    const features = dlibResnet.features(graph.input('x', [BATCH, 150, 150, 3]));
    const plan = await Plan.create(graph, { features }, backend, store, { batchSize });
    let worst = 0;
    for (let first = 0; first < faces.length; first += batchSize) {
      const batch = faces.slice(first, first + batchSize);
      const x = new Float32Array(batch.length * 150 * 150 * 3);
      batch.forEach(({ name }, row) => {
        chipOf(crops.get(name)!).forEach((byte, i) => {
          x[row * 67_500 + i] = (byte - means[i % 3]!) / 255;
        });
      });
      const values = (await plan.run({ x }, batch.length)).features as Float32Array;
      for (const [row, { name }] of batch.entries()) {
        const { original } = records.get(name)!;
        for (let i = 0; i < 128; i++) {
          const difference = Math.abs(values[row * 128 + i]! - original[i]!);
          expect(difference, `${name}, value ${i} on ${title(backend)}`).toBeLessThan(1e-3);
          worst = Math.max(worst, difference);
        }
      }
    }
    console.log(
      `values before normalisation on ${title(backend)}: at most ${worst.toExponential(1)} from the original`,
    );
    plan.dispose();
    store.dispose();
    await backend.dispose();
  }
});
