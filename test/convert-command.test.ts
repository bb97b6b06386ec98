// area: networks
//
// `facenet convert` as a program: files of every format, written by test/oracles, become models that embed as a float64 run of the same numbers.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { Graph } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { type ModelFile, readModelFile, weightsOf } from '../src/io/model-file.ts';
import { type Tensor, writeSafetensors } from '../src/io/safetensors.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { networks } from '../src/networks/networks.ts';
import { FaceNetGPU } from '../src/node.ts';
import { evaluate } from './networks-oracle.ts';
import { uniform } from './numeric.ts';
import { readOpenFaceWeights } from './openface-weights.ts';
import { facenetPytorch } from './oracles/facenet-pytorch.ts';
import { openFaceTorch, openFaceUnits, torchValue } from './oracles/openface-torch.ts';
import { type PlainTensor, writePlainNpz, writePyTorch } from './oracles/plain-archives.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const cli = process.env.FACENET_CLI ?? join(root, 'dist', 'cli.js');
const folder = mkdtempSync(join(tmpdir(), 'facenet-convert-'));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

function convert(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, '--json', 'convert', ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return { code: status, stderr, answer: JSON.parse(stdout || '{}') as Record<string, unknown> };
}

/** Byte for byte: vitest's own comparison takes minutes for millions of numbers. */
function same(actual: ReadonlyMap<string, Tensor>, expected: ReadonlyMap<string, Tensor>): void {
  expect([...actual].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual(
    [...expected].map(([name, { dtype, shape }]) => [name, dtype, shape]),
  );
  for (const [name, { data }] of actual) sameBytes(name, data, (expected.get(name) as Tensor).data);
}
function sameBytes(name: string, actual: ArrayBufferView, expected: ArrayBufferView): void {
  const view = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
  expect(Buffer.compare(view(actual), view(expected)), name).toBe(0);
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** [out, in, h, w] -> [h, w, in, out], [out, in] -> [in, out]: an index map, written apart from src/io. */
function channelsLast(data: ArrayLike<number>, shape: readonly number[]): Float32Array {
  if (shape.length < 2) return Float32Array.from(data);
  const [outputs, inputs, height = 1, width = 1] = shape as [number, number, number?, number?];
  return Float32Array.from({ length: data.length }, (_, to) => {
    const o = to % outputs;
    const i = Math.floor(to / outputs) % inputs;
    const place = Math.floor(to / (outputs * inputs));
    return data[(o * inputs + i) * height * width + place] as number;
  });
}

describe('facenet-pytorch', () => {
  const SIDE = 76;
  const list = facenetPytorch(512, 11);
  const random = uniform(41);
  // As trained networks have them: kernels that keep the size of activations, statistics near those of a normal.
  const value = (name: string, shape: readonly number[]) => {
    if (shape.length > 1) return Math.sqrt(6 / size(shape.slice(1))) * random();
    if (/running_var|bn\.weight/.test(name)) return 1 + 0.3 * random();
    return 0.1 * random();
  };
  const state = new Map<string, PlainTensor>(
    list.map(([name, shape]) => [
      name,
      { shape, data: Float32Array.from({ length: size(shape) }, () => value(name, shape)) },
    ]),
  );
  const crop = {
    data: Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => 128 + 90 * Math.sin(i / 300) + 30 * random()),
    width: SIDE,
    height: SIDE,
  };

  /** Length-1 embedding in float64; `pixels` are what the first layer reads. */
  function oracle(pixels: Float64Array): Float64Array {
    const graph = new Graph();
    const y = networks['inception-resnet-v1'].build(graph.input('x', [BATCH, SIDE, SIDE, 3]));
    const given: Record<string, ArrayLike<number>> = { x: pixels };
    for (const [name, shape] of list)
      if (!name.startsWith('logits.'))
        given[name] = channelsLast((state.get(name) as PlainTensor).data as Float32Array, shape);
    return evaluate(graph, [y], given, 1).get(y) as Float64Array;
  }

  async function embedded(model: string): Promise<Float32Array> {
    const net = await FaceNetGPU.create({ model, backend: 'wasm', threads: 1, batchSize: 1 });
    try {
      return (await net.embed(crop)).data;
    } finally {
      await net.dispose();
    }
  }
  const away = (actual: Float32Array, expected: Float64Array) =>
    Math.hypot(...Array.from(actual, (v, i) => v - (expected[i] as number)));

  test('a .pt of all its tensors, counters and classifier becomes a model that embeds as float64 does', {
    timeout: 120_000,
  }, async () => {
    const counted = new Map(state);
    for (const [name] of list)
      if (name.endsWith('running_mean'))
        counted.set(name.replace('running_mean', 'num_batches_tracked'), { shape: [], data: BigInt64Array.of(7n) });
    writeFileSync(at('seeded.pt'), writePyTorch(counted));
    const { code, answer, stderr } = convert(at('seeded.pt'), at('seeded.safetensors'), '--size', String(SIDE));
    expect(stderr).not.toMatch(/error/);
    expect(code).toBe(0);
    expect(answer).toMatchObject({
      schema: 'facenet/convert@1',
      network: 'inception-resnet-v1',
      dimensions: 512,
      input: { width: SIDE, height: SIDE, colour: 'rgb' },
      pixels: { scale: 1 / 128, mean: [127.5, 127.5, 127.5] },
      tensors: list.length - 2,
      source: 'seeded.pt',
    });
    const expected = oracle(Float64Array.from(crop.data, (byte) => (byte - 127.5) / 128));
    expect(away(await embedded(at('seeded.safetensors')), expected)).toBeLessThanOrEqual(1e-4);
  });

  test('.npz with the same names is the same model; float16 is near it', { timeout: 120_000 }, async () => {
    writeFileSync(at('seeded.npz'), writePlainNpz(state));
    expect(convert(at('seeded.npz'), at('npz.safetensors'), '--size', String(SIDE)).code).toBe(0);
    const [first, second] = (['seeded', 'npz'] as const).map((name) =>
      readModelFile(readFileSync(at(`${name}.safetensors`))),
    ) as [ModelFile, ModelFile];
    same(second.tensors, first.tensors);
    expect(convert(at('seeded.safetensors'), at('half.safetensors'), '--half').code).toBe(0);
    const half = readModelFile(readFileSync(at('half.safetensors')));
    expect(half.tensors.get('last_linear.weight')?.dtype).toBe('F16');
    expect(half.tensors.get('last_bn.bias')?.dtype).toBe('F32');
    expect(half.metadata.sourceSha256).toBe(first.metadata.sourceSha256);
  });

  test('--per-image: each crop to mean 0 and deviation 1, as facenet before 2018', { timeout: 120_000 }, async () => {
    const args = ['--per-image', '--size', String(SIDE)];
    expect(convert(at('seeded.pt'), at('prewhitened.safetensors'), ...args).answer).toMatchObject({
      pixels: { standardisation: 'per-image' },
    });
    const bytes = Float64Array.from(crop.data);
    const mean = bytes.reduce((a, b) => a + b, 0) / bytes.length;
    const deviation = Math.sqrt(bytes.reduce((a, b) => a + (b - mean) ** 2, 0) / bytes.length);
    const expected = oracle(bytes.map((byte) => (byte - mean) / Math.max(deviation, 1 / Math.sqrt(bytes.length))));
    expect(away(await embedded(at('prewhitened.safetensors')), expected)).toBeLessThanOrEqual(1e-4);
    // Not what fixed numbers give.
    expect(away(await embedded(at('seeded.safetensors')), expected)).toBeGreaterThan(1e-3);
  });

  test('every missing, surplus and misshapen tensor in one error, and no file', () => {
    const broken = new Map(state);
    broken.delete('mixed_6a.branch0.conv.weight');
    broken.delete('last_bn.bias');
    broken.set('mixed_9z.weight', { shape: [2], data: new Float32Array(2) });
    broken.set('conv2d_2a.bn.bias', { shape: [31], data: new Float32Array(31) });
    for (const name of [...broken.keys()])
      if (name.startsWith('repeat_')) broken.set(name, state.get(name) as PlainTensor);
    writeFileSync(at('broken.pt'), writePyTorch(broken));
    const { code, stderr } = convert(at('broken.pt'), at('broken.safetensors'));
    expect(code).toBe(4);
    expect(stderr).toContain('2 missing: "mixed_6a.branch0.conv.weight" [3, 3, 256, 384], "last_bn.bias" [512]');
    expect(stderr).toContain('1 of another shape: "conv2d_2a.bn.bias" [31] instead of [32]');
    expect(stderr).toContain('1 surplus: "mixed_9z.weight"');
    expect(readdirSync(folder).filter((name) => name.startsWith('broken.s'))).toEqual([]);
    // What is allowed to be missing may not be misshapen.
    expect(convert(at('broken.pt'), at('broken.safetensors'), '--allow-missing').code).toBe(4);
  });
});

describe('OpenFace', () => {
  const units = openFaceUnits('nn4.small2');

  test('.t7 and a folder of CSV give the same tensors, to the last element', { timeout: 60_000 }, () => {
    writeFileSync(at('net.t7'), openFaceTorch('nn4.small2'));
    expect(convert(at('net.t7'), at('t7.safetensors')).answer).toMatchObject({ network: 'nn4.small2', tensors: 224 });
    const csv = at('csv');
    mkdirSync(csv);
    let number = 0;
    const write = (name: string, count: number) => {
      number++;
      writeFileSync(join(csv, `${name}.csv`), Array.from({ length: count }, (_, i) => torchValue(number, i)).join(','));
    };
    // The order in which openFaceTorch numbers its tensors: weight, bias, gamma, beta, mean, variance of each unit.
    for (const [keras, , out, input, kernel] of units) {
      const [conv = '', norm = ''] = keras.split('/');
      write(`${conv}_w`, out * input * kernel * kernel);
      for (const name of [`${conv}_b`, `${norm}_w`, `${norm}_b`, `${norm}_m`, `${norm}_v`]) write(name, out);
    }
    write('dense_w', 128 * 736);
    write('dense_b', 128);
    const { code, answer } = convert(csv, at('csv.safetensors'));
    expect(code).toBe(0);
    expect(answer).toMatchObject({ network: 'nn4.small2', variant: { pools: 'released' }, source: 'csv' });
    const [torch, keras] = ['t7', 'csv'].map((name) => readModelFile(readFileSync(at(`${name}.safetensors`)))) as [
      ModelFile,
      ModelFile,
    ];
    same(keras.tensors, torch.tensors);
    // A kernel against the formula: unit 1 is conv2, its weight the seventh tensor, [64, 64, 1, 1].
    expect(torch.tensors.get('inception2/3x3reduce/weight')?.data[3 * 64 + 5]).toBe(torchValue(7, 5 * 64 + 3));
  });

  const partial = `${process.env.FACENET_SHARED ?? '../shared'}/data/weights/openface-nn4.small2.v1-partial.safetensors`;
  describe.skipIf(!existsSync(partial))(`the real, incomplete weights (skipped loudly without ${partial})`, () => {
    const missing = ['inception3c/3x3', 'inception4e/3x3', 'inception5a/1x1', 'inception5a/3x3', 'inception5b/3x3'].map(
      (unit) => `${unit}/weight`,
    );

    test('five missing kernels in one error, and how to go on', () => {
      const { code, stderr } = convert(partial, at('partial.safetensors'));
      expect(code).toBe(4);
      expect(stderr).toMatch(/got 5 missing: /);
      for (const name of missing) expect(stderr).toContain(`"${name}"`);
      expect(stderr).toContain('--allow-missing');
      expect(existsSync(at('partial.safetensors'))).toBe(false);
    });

    test('--allow-missing: random by seed, said in the card, all else as it was', () => {
      const { code, answer } = convert(partial, at('partial.safetensors'), '--allow-missing', '--seed', '9');
      expect(code).toBe(0);
      expect(answer.initialised).toEqual({ seed: 9, tensors: missing });
      const file = readModelFile(readFileSync(at('partial.safetensors')));
      expect(file.metadata.initialised).toEqual({ seed: 9, tensors: missing });
      const drawn = initialise(
        parametersOf(networks['nn4.small2']).filter(({ name }) => missing.includes(name)),
        9,
      );
      for (const name of missing) sameBytes(name, weightsOf(file, name), drawn.get(name) as Float32Array);
      const { values } = readOpenFaceWeights(partial);
      for (const [name, data] of values) sameBytes(name, weightsOf(file, name), data);
      const { stdout } = spawnSync(process.execPath, [cli, 'info', at('partial.safetensors')], { encoding: 'utf8' });
      expect(stdout).toMatch(/NOT TRAINED +5 of 224 tensors are random, by seed 9: inception3c/);
    });
  });
});

describe('other sources', () => {
  const manifest = join(root, 'node_modules/@vladmandic/face-api/model/face_recognition_model-weights_manifest.json');

  test("face-api.js's manifest is the packaged model", () => {
    expect(convert(manifest, at('dlib.safetensors')).code).toBe(0);
    const packaged = readFileSync(join(root, 'dist/models/dlib-resnet.safetensors'));
    expect(Buffer.compare(readFileSync(at('dlib.safetensors')), packaged)).toBe(0);
  });

  test('a contract of its own: other pixels, size and colours, and no thresholds of the old one', () => {
    const args = [
      '--size',
      '168',
      '--colour',
      'bgr',
      '--mean',
      '100,110,120',
      '--scale',
      '0.5',
      '--template',
      'arcface',
    ];
    expect(convert(manifest, at('own.safetensors'), ...args).code).toBe(0);
    const { metadata } = readModelFile(readFileSync(at('own.safetensors')));
    expect(metadata).toMatchObject({
      input: { width: 168, height: 168, colour: 'bgr' },
      pixels: { scale: 0.5, mean: [100, 110, 120] },
      template: { name: 'arcface' },
      operatingPoints: [],
    });
    expect(metadata.template.points[0]?.[0]).toBeCloseTo((38.2946 * 168) / 112, 9);
  });

  test('any network by its own names, with --network', () => {
    const values = new Map<string, PlainTensor>(
      parametersOf(networks.nns2).map(({ name, shape }, index) => [
        name,
        { shape, data: new Float32Array(size(shape)).fill(index / 1024) },
      ]),
    );
    writeFileSync(at('nns2.npz'), writePlainNpz(values));
    expect(convert(at('nns2.npz'), at('nns2.safetensors')).stderr).toMatch(/Name the network/);
    const { code, answer } = convert(at('nns2.npz'), at('nns2.safetensors'), '--network', 'nns2');
    expect(code).toBe(0);
    expect(answer).toMatchObject({ network: 'nns2', dimensions: 128, input: { width: 116, height: 140 } });
    const { tensors } = readModelFile(readFileSync(at('nns2.safetensors')));
    for (const [name, { data }] of values) sameBytes(name, (tensors.get(name) as Tensor).data, data);
    // Numbers that are no weights, both named.
    const labels = (name: string): Tensor => {
      const { shape, data } = values.get(name) as PlainTensor;
      return { dtype: 'I64', shape: [...shape], data: new BigInt64Array(data.length) };
    };
    const wrong = new Map<string, Tensor>(
      [...values].map(([name, { shape, data }]) => [
        name,
        { dtype: 'F32', shape: [...shape], data: data as Float32Array },
      ]),
    );
    for (const name of ['conv1/bias', 'embedding/bias']) wrong.set(name, labels(name));
    writeFileSync(at('labels.safetensors'), writeSafetensors(wrong));
    expect(convert(at('labels.safetensors'), at('x.safetensors'), '--network', 'nns2')).toMatchObject({
      code: 4,
      stderr: expect.stringMatching(/got I64 in "conv1\/bias", I64 in "embedding\/bias"/),
    });
    expect(convert(manifest, at('x.safetensors'), '--network', 'nn4').stderr).toMatch(
      /--network must be .*dlib-resnet, got nn4/,
    );
  });

  test('refusals: what is there, another ending, a folder, no weights, a manifest that points elsewhere', () => {
    const before = readFileSync(at('dlib.safetensors'));
    const again = convert(manifest, at('dlib.safetensors'), '--half');
    expect([again.code, again.stderr]).toEqual([3, expect.stringMatching(/is there\. Give --force/)]);
    expect(Buffer.compare(readFileSync(at('dlib.safetensors')), before)).toBe(0);
    expect(convert(manifest, at('dlib.safetensors'), '--force', '--half').code).toBe(0);
    expect(convert(manifest, at('dlib.bin')).stderr).toMatch(/ending in \.safetensors/);
    expect(convert(manifest, join(folder, 'none', 'x.safetensors')).code).toBe(3);
    mkdirSync(at('empty'));
    expect(convert(at('empty'), at('x.safetensors')).stderr).toMatch(/1 to 10000 files ending in/);
    expect(convert(at('nothing.pt'), at('x.safetensors')).stderr).toMatch(/got nothing there/);
    writeFileSync(at('elsewhere.json'), JSON.stringify([{ paths: ['../secret.bin'], weights: [] }]));
    expect(convert(at('elsewhere.json'), at('x.safetensors')).stderr).toMatch(/files in its own folder/);
    writeFileSync(at('text.pt'), 'no weights');
    expect(convert(at('text.pt'), at('x.safetensors')).stderr).toMatch(/another format/);
    expect(existsSync(at('x.safetensors'))).toBe(false);
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});
