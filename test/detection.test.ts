// area: detection
// on: none lavapipe swiftshader
//
// FaceDetector and MTCNN: the class on both backends with the detector of the clone; MTCNN with its weights, which lie outside the repository,
// against what the numpy run of the same weights found in photos (photos.json).
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openBackend } from '../src/backends/open.ts';
import { behindAll, endAt, mtcnnLevels } from '../src/faces/detection/mtcnn.ts';
import { marginCrop } from '../src/faces/margin-crop.ts';
import { type Preprocessing, place } from '../src/faces/preprocessing.ts';
import { Graph } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { readDetectorFile } from '../src/io/detector-file.ts';
import { checkDetectorBytes, convertMtcnn, openDetectorFile } from '../src/io/mtcnn.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { ImageReader } from '../src/io/node/image-files.ts';
import { readSafetensors, type Tensor, toFloat32, writeSafetensors } from '../src/io/safetensors.ts';
import { mtcnnParameters, pnet } from '../src/networks/mtcnn.ts';
import { type DetectedFace, FaceDetector, FaceNetGPU, type Pixels } from '../src/node.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { openDevice } from './backends.ts';
import { FaultDevice } from './fault-device.ts';
import { part, photoPath } from './tiny-face.ts';

const adapter = process.env.FACENET_ADAPTER ?? 'none';
const backend = adapter === 'none' ? 'wasm' : 'webgpu';
const root = fileURLToPath(new URL('../', import.meta.url));
const data = join(process.env.FACENET_SHARED ?? join(root, '..', 'shared'), 'data');
const weightsFile = join(data, 'weights', 'mtcnn.safetensors');
const tinyFace = join(root, 'dist', 'models', 'tiny-face.safetensors');
const reader = new ImageReader();
const onProcessor = adapter === 'none';

const flat = (width: number, height: number, channels = 3, value = 128): Pixels => ({
  data: new Uint8Array(width * height * channels).fill(value),
  width,
  height,
});

/** across x down copies of a picture of four bytes a pixel. */
function tiled(tile: Pixels, across: number, down: number): Pixels {
  const bytes = new Uint8Array(across * down * tile.data.length);
  const line = tile.width * 4;
  for (let y = 0; y < down * tile.height; y++)
    for (let x = 0; x < across; x++) {
      const from = (y % tile.height) * line;
      bytes.set(tile.data.subarray(from, from + line), (y * across + x) * line);
    }
  return { data: bytes, width: across * tile.width, height: down * tile.height };
}

/** The portrait of sample5.jpg, 416 x 416, RGBA. */
const portrait = async (): Promise<Pixels> => {
  const { data: bytes, width, height } = await reader.read(photoPath('sample5.jpg'));
  const channels = bytes.length / (width * height);
  const rgba = new Uint8Array(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgba[4 * i + c] = bytes[i * channels + c]!;
  return part({ data: rgba, width, height }, [500, 400, 416, 416]);
};

/** What an object holds on its device; pipelines are kept for those who come later. */
function held(net: FaceNetGPU) {
  const { buffers, bytes, programs } = net.counters();
  return { buffers, bytes, programs };
}

function differences(found: readonly DetectedFace[], expected: readonly DetectedFace[]): number {
  expect(found.length).toBe(expected.length);
  let worst = 0;
  expected.forEach(({ box, landmarks }, i) => {
    const other = found[i]!;
    for (const key of ['x', 'y', 'width', 'height'] as const)
      worst = Math.max(worst, Math.abs(box[key] - other.box[key]));
    landmarks.forEach(([x, y], k) => {
      worst = Math.max(worst, Math.hypot(x - other.landmarks[k]![0], y - other.landmarks[k]![1]));
    });
  });
  return worst;
}

describe(`FaceDetector with tiny-face on ${backend}`, () => {
  let detector: FaceDetector;
  let face: Pixels;
  beforeAll(async () => {
    detector = await FaceDetector.create({ model: tinyFace, backend, threads: 1 });
    face = await portrait();
  });
  afterAll(() => detector.dispose());

  test('says what it is, and finds the face', async () => {
    expect([detector.network, detector.backend]).toEqual(['tiny-face', backend]);
    const [found, ...others] = await detector.detect(face);
    expect(others).toEqual([]);
    const [left, right, nose, mouthLeft, mouthRight] = found!.landmarks as [number, number][];
    expect(left![0]).toBeLessThan(right![0]);
    expect(nose![1]).toBeGreaterThan(left![1]);
    expect(mouthLeft![0]).toBeLessThan(mouthRight![0]);
  });

  test.skipIf(onProcessor)('as on wasm', async () => {
    const wasm = await FaceDetector.create({ model: tinyFace, backend: 'wasm', threads: 1 });
    expect(differences(await detector.detect(face), await wasm.detect(face))).toBeLessThan(0.05);
    await wasm.dispose();
  });

  test('calls that overlap give what they give alone, and leave nothing', async () => {
    const alone = [await detector.detect(face), await detector.detect(flat(90, 50))];
    const before = detector.counters();
    const together = await Promise.all([face, flat(90, 50), face].map((photo) => detector.detect(photo)));
    expect(together).toEqual([alone[0], alone[1], alone[0]]);
    expect(detector.counters()).toEqual(before);
  });

  test('limit, minScore, minFace: their ranges', async () => {
    expect(await detector.detect(face, { minScore: 1 })).toEqual([]);
    for (const options of [{ minFace: 0 }, { minFace: Number.NaN }, { minScore: 2 }, { minScore: -1 }, { limit: 0 }])
      await expect(detector.detect(face, options)).rejects.toMatchObject({ code: 'input' });
  });

  test('what is no photo is refused, the object goes on', async () => {
    await expect(detector.detect(new Uint8Array([1, 2, 3]))).rejects.toMatchObject({ code: 'image' });
    await expect(detector.detect({ data: new Uint8Array(5), width: 2, height: 2 })).rejects.toMatchObject({
      code: 'image',
    });
    await expect(detector.detect(join(root, 'no-such.jpg'))).rejects.toMatchObject({ code: 'input' });
    const aborted = AbortSignal.abort();
    await expect(detector.detect(face, { signal: aborted })).rejects.toMatchObject({ code: 'aborted' });
    expect(await detector.detect(face)).toHaveLength(1);
  });

  test('disposed, twice; then every call says so', async () => {
    const other = await FaceDetector.create({ model: new Uint8Array(readFileSync(tinyFace)), backend, threads: 1 });
    await Promise.all([other.dispose(), other.dispose()]);
    await expect(other.detect(face)).rejects.toMatchObject({ code: 'disposed' });
  });

  test('on the device of a model, which goes on after it', async () => {
    const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend, threads: 1, batchSize: 1 });
    const before = held(net);
    const sharing = await FaceDetector.create({ model: tinyFace, share: net });
    expect(sharing.why).toBe(net.why);
    const [found] = await sharing.detect(face);
    const { count } = await net.embed({ image: face, ...found! });
    expect(count).toBe(1);
    await sharing.dispose();
    expect(held(net)).toEqual(before);
    expect((await net.embed({ image: face, ...found! })).count).toBe(1);
    await expect(FaceDetector.create({ model: tinyFace, share: net, backend: 'wasm' })).rejects.toMatchObject({
      code: 'input',
    });
    await net.dispose();
    await expect(FaceDetector.create({ model: tinyFace, share: net })).rejects.toMatchObject({ code: 'disposed' });
  });

  test.runIf(onProcessor)('a file that is no detector', async () => {
    for (const model of ['dlib-resnet', 'no-such-model', photoPath('sample1.jpg'), new Uint8Array(9)])
      await expect(FaceDetector.create({ model, backend })).rejects.toMatchObject({ code: 'model' });
    await expect(FaceDetector.create({ model: undefined as unknown as string })).rejects.toMatchObject({
      code: 'input',
    });
    const file = readSafetensors(new Uint8Array(readFileSync(tinyFace)), { source: 'x' });
    const unknown = writeSafetensors(file.tensors, new Map([...file.metadata, ['network', 'toString']]));
    await expect(FaceDetector.create({ model: unknown, backend })).rejects.toMatchObject({ code: 'model' });
  });
});

describe.runIf(adapter === 'swiftshader')('a lost device', () => {
  const made: FaultDevice[] = [];
  afterAll(() => {
    for (const { device } of made) device.destroy();
  });

  /** The n-th device is lost at the n-th call of `submit` given, later ones never. */
  function gpuWith(...calls: number[]): GPU {
    const before = made.length;
    const requestAdapter = async () => {
      const opened = (await openDevice())!;
      const requestDevice = async () => {
        const call = calls[made.length - before];
        made.push(new FaultDevice(opened.device, call ? { fault: { at: 'submit', call, what: 'lose' } } : {}));
        return made.at(-1)!.device;
      };

      const { info, features, limits } = opened.adapter;
      return { info, features, limits, requestDevice } as unknown as GPUAdapter;
    };
    return { requestAdapter } as unknown as GPU;
  }

  test('is replaced once: the same faces, told once, nothing stays', { timeout: 120_000 }, async () => {
    const face = await portrait();
    const told: boolean[] = [];
    const onDeviceLost = ({ recovered }: { recovered: boolean }) => told.push(recovered);
    const options = { model: tinyFace, backend: 'webgpu', onDeviceLost } as const;
    const undisturbed = await FaceDetector.create({ ...options, gpu: gpuWith() });
    const opening = made.at(-1)!.calls.submit;
    const expected = await undisturbed.detect(face);
    expect(made.at(-1)!.calls.submit).toBeGreaterThan(opening);
    await undisturbed.dispose();

    const first = made.length;
    const disturbed = await FaceDetector.create({ ...options, gpu: gpuWith(opening + 1) });
    expect(await disturbed.detect(face)).toEqual(expected);
    expect([told, made.length - first]).toEqual([[true], 2]);
    // Lost while nothing runs.
    made.at(-1)!.device.destroy();
    expect(await disturbed.detect(face)).toEqual(expected);
    expect(told).toEqual([true, true]);
    await disturbed.dispose();
    expect(made.map(({ live }) => live)).toEqual(made.map(() => 0));
  });

  test('no other, or a device of the caller: typed; one that comes later is taken', { timeout: 120_000 }, async () => {
    const face = await portrait();
    const told: boolean[] = [];
    const onDeviceLost = ({ recovered }: { recovered: boolean }) => told.push(recovered);
    const real = gpuWith();
    let gone = false;
    const gpu = { requestAdapter: async () => (gone ? null : real.requestAdapter()) } as unknown as GPU;
    const detector = await FaceDetector.create({ model: tinyFace, backend: 'webgpu', gpu, onDeviceLost });
    const expected = await detector.detect(face);
    gone = true;
    made.at(-1)!.device.destroy();
    for (let time = 0; time < 2; time++)
      await expect(detector.detect(face)).rejects.toMatchObject({
        code: 'device-lost',
        message: expect.stringMatching(/needs an adapter/),
      });
    gone = false;
    expect(await detector.detect(face)).toEqual(expected);
    expect(told).toEqual([false]);
    await detector.dispose();

    const { device } = (await openDevice())!;
    const own = await FaceDetector.create({ model: tinyFace, device });
    device.destroy();
    for (let time = 0; time < 2; time++) await expect(own.detect(face)).rejects.toMatchObject({ code: 'device-lost' });
    await own.dispose();
  });

  test("a shared one: the detector follows the model's", { timeout: 120_000 }, async () => {
    const face = await portrait();
    const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: 'webgpu', batchSize: 1, gpu: gpuWith() });
    const detector = await FaceDetector.create({ model: tinyFace, share: net });
    const expected = await detector.detect(face);
    made.at(-1)!.device.destroy();
    expect(await detector.detect(face)).toEqual(expected);
    expect((await net.embed({ image: face, ...expected[0]! })).count).toBe(1);
    await detector.dispose();
    await net.dispose();
    expect(made.at(-1)!.live).toBe(0);
  });
});

describe.runIf(onProcessor)('a model whose template is a box', () => {
  const preprocessing = (name: string): Preprocessing => ({
    width: 160,
    height: 160,
    colour: 'rgb',
    scale: [1, 1, 1],
    shift: [0, 0, 0],
    template: { name, width: 160, height: 160, points: [], margin: 32 },
  });
  const box = { x: 40, y: 50, width: 100, height: 120 };
  const landmarks = [[70, 90] as const, [110, 90] as const];

  test.each([
    ['mtcnn-box', 'output'],
    ['facenet-box', 'source'],
  ] as const)('%s counts its margin in %s pixels', (name, unit) => {
    const { alignment } = place(flat(300, 300), landmarks, preprocessing(name), box);
    const { inverse } = marginCrop([40, 50, 140, 170], flat(300, 300), { size: 160, margin: 32, unit });
    expect(alignment.inverse).toEqual(inverse);
    // facenet adds 16 pixels of the photo on each side; facenet-pytorch lets the box fill 128 of the 160 pixels.
    const across = unit === 'source' ? 132 : Math.trunc(140 + 12.5) - Math.trunc(40 - 12.5);
    expect(inverse[0] * 160).toBeCloseTo(across, 9);
  });

  test('and wants it', () => {
    expect(() => place(flat(9, 9), landmarks, preprocessing('mtcnn-box'))).toThrow(
      expect.objectContaining({ code: 'input' }),
    );
  });
});

describe.runIf(onProcessor)('the pyramid', () => {
  test('halves areas until a cell of 12 pixels is left, in the sizes of facenet-pytorch', () => {
    const levels = mtcnnLevels({ width: 100, height: 50 }, 20);
    expect(levels.map(({ columns, rows }) => [columns, rows])).toEqual([
      [61, 31],
      [43, 22],
      [31, 16],
    ]);
    expect(mtcnnLevels({ width: 20_000, height: 19 }, 20)).toEqual([]);
  });
});

// A level smaller than its tile: convolutions that mix neighbours must not carry what lies behind it into its last cells.
test.each([22, 23])(`PNet in a tile of 58 as on the picture of %i pixels alone, on ${backend}`, async (size) => {
  const { backend: on } = await openBackend(createNodeHost(), { backend, threads: 1 });
  let seed = 7;
  const random = () => {
    seed = (seed * 16807) % 2147483647;
    return seed / 2147483647 - 0.5;
  };
  const weights = new Map(
    [...mtcnnParameters()]
      .filter(([name]) => name.startsWith('pnet'))
      .map(([name, shape]) => [
        name,
        { shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, random) },
      ]),
  );
  const picture = Float32Array.from({ length: size * size * 3 }, () => 2 * random());
  const side = 58;
  const tile = new Float32Array(side * side * 3);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const from = (Math.min(y, size - 1) * size + Math.min(x, size - 1)) * 3;
      tile.set(picture.subarray(from, from + 3), (y * side + x) * 3);
    }
  const end = new Float32Array((side - 2) ** 2);
  endAt(end, side - 2, size - 2, size - 2, behindAll(weights));
  const store = new Store(on);
  for (const [name, { data: values, shape }] of weights) store.set(name, values, shape);
  const run = async (length: number, inputs: Record<string, Float32Array>) => {
    const graph = new Graph();
    const x = graph.input('x', [BATCH, length, length, 3]);
    const bias = inputs.end && graph.input('end', [BATCH, length - 2, length - 2, 1]);
    const plan = await Plan.create(graph, { ...pnet(x, bias) }, on, store, { batchSize: 1 });
    const { offsets } = await plan.run(inputs, 1);
    plan.dispose();
    return offsets as Float32Array;
  };
  const [alone, inTile] = [await run(size, { x: picture }), await run(side, { x: tile, end })];
  const cells = Math.sqrt(alone.length / 4);
  let [away, largest] = [0, 0];
  for (let row = 0; row < cells; row++)
    for (let i = 0; i < 4 * cells; i++) {
      const value = alone[row * 4 * cells + i]!;
      largest = Math.max(largest, Math.abs(value));
      away = Math.max(away, Math.abs(value - inTile[row * 4 * ((side - 10) / 2) + i]!));
    }
  expect(away / largest).toBeLessThan(1e-4);
  store.dispose();
  await on.dispose();
});

/** Random weights under facenet-pytorch's names, and the value that each of ours must have, written down anew. */
describe.runIf(onProcessor)('MTCNN files of others', () => {
  const names = (name: string) =>
    name
      .replaceAll('/', '.')
      .replaceAll('-', '_')
      .replace(/slope$/, 'weight');
  const foreign = new Map<string, Tensor>();
  let seed = 1;
  for (const [name, shape] of mtcnnParameters()) {
    const [a = 1, b = 1, c = 1, d = 1] = shape;
    const turned = shape.length === 4 ? [d, c, a, b] : shape.length === 2 ? [b, a] : [...shape];
    const values = Float32Array.from({ length: shape.reduce((x, y) => x * y, 1) }, () => {
      seed = (seed * 16807) % 2147483647;
      return seed / 2147483647 - 0.5;
    });
    foreign.set(names(name), { dtype: 'F32', shape: turned, data: values });
  }
  const convert = (tensors: ReadonlyMap<string, Tensor>) =>
    convertMtcnn(writeSafetensors(tensors, new Map()), { library: 'test', shapes: mtcnnParameters() });

  test('convolutions [out, in, y, x] and dense layers that read W, H, C', async () => {
    const { tensors } = readDetectorFile(await convert(foreign));
    const of = (name: string) => toFloat32(tensors.get(name)!);
    const conv = foreign.get('rnet.conv2.weight')!.data as Float32Array;
    // ours [3, 3, 28, 48] at y 2, x 1, in 5, out 7
    expect(of('rnet/conv2/weight')[((2 * 3 + 1) * 28 + 5) * 48 + 7]).toBe(conv[((7 * 28 + 5) * 3 + 2) * 3 + 1]);
    const dense = foreign.get('onet.dense5.weight')!.data as Float32Array;
    // ours [(y * 3 + x) * 128 + channel, out], theirs [out, (x * 3 + y) * 128 + channel]
    expect(of('onet/dense5/weight')[((1 * 3 + 2) * 128 + 9) * 256 + 11]).toBe(dense[11 * 1152 + (2 * 3 + 1) * 128 + 9]);
    const last = foreign.get('onet.dense6_3.weight')!.data as Float32Array;
    expect(of('onet/dense6-3/weight')[100 * 10 + 3]).toBe(last[3 * 256 + 100]);
    expect(of('pnet/prelu3/slope')).toEqual(foreign.get('pnet.prelu3.weight')!.data);
  });

  test('three files as one, in any order; each once', async () => {
    const own = (net: string) =>
      writeSafetensors(
        new Map([...foreign].filter(([name]) => name.startsWith(net)).map(([name, t]) => [name.slice(5), t])),
        new Map(),
      );
    const files = ['onet', 'pnet', 'rnet'].map(own);
    const joined = await openDetectorFile(files, 'x');
    const whole = await openDetectorFile(writeSafetensors(foreign, new Map()), 'x');
    expect([...joined.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
    for (const [name, tensor] of whole.tensors) expect(toFloat32(joined.tensors.get(name)!)).toEqual(toFloat32(tensor));
    await expect(openDetectorFile(files.slice(1), 'x')).rejects.toThrow(/onet/);
    await expect(openDetectorFile([...files, files[0]!], 'x')).rejects.toThrow(/twice/);
  });

  test('another shape or a missing layer is refused', async () => {
    const wrong = new Map(foreign).set('pnet.conv2.bias', { dtype: 'F32', shape: [3], data: new Float32Array(3) });
    await expect(convert(wrong)).rejects.toMatchObject({ code: 'model' });
    const less = new Map(foreign);
    less.delete('rnet.dense5_2.bias');
    await expect(convert(less)).rejects.toMatchObject({ code: 'model' });
    expect(() => checkDetectorBytes(new Uint8Array(40), 'x')).toThrow(expect.objectContaining({ code: 'model' }));
  });
});

describe.runIf(existsSync(weightsFile))(`MTCNN on ${backend} (skipped loudly without ${weightsFile})`, () => {
  let detector: FaceDetector;
  let face: Pixels;
  beforeAll(async () => {
    detector = await FaceDetector.create({ model: weightsFile, backend, threads: 1 });
    face = await portrait();
  });
  afterAll(() => detector.dispose());

  test.skipIf(onProcessor)('as on wasm', async () => {
    const wasm = await FaceDetector.create({ model: weightsFile, backend: 'wasm', threads: 1 });
    const options = { minFace: 60 };
    const expected = await wasm.detect(face, options);
    expect(expected.length).toBeGreaterThan(0);
    expect(differences(await detector.detect(face, options), expected)).toBeLessThan(0.5);
    await wasm.dispose();
  });

  test.runIf(onProcessor && existsSync(join(data, 'photos')))('in the photos: what the reference found', async () => {
    const { photos } = JSON.parse(readFileSync(join(data, 'photos', 'photos.json'), 'utf8')) as {
      photos: { file: string; mtcnn?: { box: [number, number, number, number]; points: [number, number][] }[] }[];
    };
    let boxes = 0;
    let near = 0;
    let overlapping = 0;
    const odd: string[] = [];
    for (const { file, mtcnn = [] } of photos) {
      const photo = await reader.read(join(data, 'photos', file));
      const found = await detector.detect(photo, { minFace: Math.max(photo.width, photo.height) > 400 ? 40 : 20 });
      if (found.length !== mtcnn.length) odd.push(`${file}: ${found.length} faces of ${mtcnn.length}`);
      for (const { box: corners, points } of mtcnn) {
        const [x1, y1, x2, y2] = corners;
        const overlaps = found.map(({ box }) => {
          const width = Math.min(x2, box.x + box.width) - Math.max(x1, box.x);
          const height = Math.min(y2, box.y + box.height) - Math.max(y1, box.y);
          const shared = Math.max(0, width) * Math.max(0, height);
          return shared / ((x2 - x1) * (y2 - y1) + box.width * box.height - shared);
        });
        const best = Math.max(...overlaps);
        const own = found[overlaps.indexOf(best)]!;
        const eyes = Math.hypot(points[0]![0] - points[1]![0], points[0]![1] - points[1]![1]);
        const away = Math.max(
          ...points.map(([x, y], i) => Math.hypot(x - own.landmarks[i]![0], y - own.landmarks[i]![1])),
        );
        boxes++;
        if (best >= 0.9) overlapping++;
        if (best >= 0.9 && away <= 0.03 * eyes) near++;
        else
          odd.push(`${file}: IoU ${best.toFixed(3)}, points ${((100 * away) / eyes).toFixed(1)} % of the eye distance`);
      }
    }
    expect(odd).toEqual([]);
    expect([boxes, overlapping, near]).toEqual([126, 126, 126]);
  });

  test.runIf(onProcessor)('the same bits twice, and for 1 and 2 threads', async () => {
    const once = await detector.detect(face, { minFace: 30 });
    expect(once.length).toBeGreaterThan(0);
    expect(await detector.detect(face, { minFace: 30 })).toEqual(once);
    const two = await FaceDetector.create({ model: weightsFile, backend: 'wasm', threads: 2 });
    expect(await two.detect(face, { minFace: 30 })).toEqual(once);
    await two.dispose();
  });

  test.runIf(onProcessor)('a hundred faces of a tiled photo, also at its edges; limit takes the best', async () => {
    const small = part(face, [0, 0, 416, 416]);
    const faces = await detector.detect(tiled(small, 10, 10), { minFace: 90 });
    expect(faces.length).toBeGreaterThanOrEqual(100);
    faces.forEach(({ score }, i) => expect(score).toBeLessThanOrEqual(faces[i - 1]?.score ?? 1));
    expect(await detector.detect(tiled(small, 10, 10), { minFace: 90, limit: 3 })).toEqual(faces.slice(0, 3));
  });

  test.runIf(onProcessor)('any picture: none, tiny, a strip of 20,000, without alpha, grey, upside down', async () => {
    for (const photo of [flat(1, 1), flat(1, 700), flat(20_000, 3), flat(640, 480, 3, 0), flat(480, 640, 4, 255)])
      expect(await detector.detect(photo)).toEqual([]);
    expect(Array.isArray(await detector.detect(flat(20_000, 40), { minFace: 20 }))).toBe(true);
    const [rgba] = await detector.detect(face);
    const three = new Uint8Array(face.width * face.height * 3);
    const clear = Uint8Array.from(face.data);
    const grey = new Uint8Array(three.length);
    for (let i = 0; i < face.width * face.height; i++) {
      three.set(face.data.subarray(4 * i, 4 * i + 3), 3 * i);
      clear[4 * i + 3] = 0;
      grey.fill((three[3 * i]! + three[3 * i + 1]! + three[3 * i + 2]!) / 3, 3 * i, 3 * i + 3);
    }
    expect((await detector.detect({ ...face, data: three }))[0]).toEqual(rgba);
    expect((await detector.detect({ ...face, data: clear }))[0]).toEqual(rgba);
    const [other] = await detector.detect({ ...face, data: grey });
    expect(differences([other!], [rgba!])).toBeLessThan(20);
    const turned = new Uint8Array(three.length);
    for (let i = 0; i < three.length / 3; i++) turned.set(three.subarray(3 * i, 3 * i + 3), three.length - 3 * i - 3);
    for (const { landmarks } of await detector.detect({ ...face, data: turned }))
      expect(landmarks.flat().every(Number.isFinite)).toBe(true);
  });

  test.runIf(onProcessor)('memory is bounded: a photo of 96 MB takes what one of 64 MiB takes, at most', async () => {
    const large = tiled(face, 14, 10);
    expect(large.data.length).toBeGreaterThan(2 ** 26);
    const faces = await detector.detect(large, { minFace: 120 });
    expect(faces.length).toBeGreaterThanOrEqual(140);
    const { bytes } = detector.counters();
    expect(bytes).toBeLessThan(300e6);
    expect(await detector.detect(large, { minFace: 120, limit: 1 })).toHaveLength(1);
    expect(detector.counters().bytes).toBe(bytes);
  });
});
