import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { convertDlibResNet, DLIB_RESNET_SHA256, readManifest } from '../src/io/face-api.ts';
import {
  type ModelFile,
  type ModelMetadata,
  matchTensors,
  readModelFile,
  requireFinite,
  weightsOf,
  writeModelFile,
} from '../src/io/model-file.ts';
import { convertDlibFiles } from '../src/io/node/convert-face-api.ts';
import { readSafetensors, type Tensor, toFloat32, writeSafetensors } from '../src/io/safetensors.ts';
import { sha256 } from '../src/io/sha256.ts';

const folder = 'node_modules/@vladmandic/face-api/model';
const temporary = mkdtempSync(join(tmpdir(), 'facenet-models-'));
afterAll(() => rmSync(temporary, { recursive: true }));

const load = (name: string): { text: string; files: Map<string, Uint8Array> } => ({
  text: readFileSync(`${folder}/${name}-weights_manifest.json`, 'utf8'),
  files: new Map([[`${name}.bin`, readFileSync(`${folder}/${name}.bin`)]]),
});
async function caught(action: () => unknown): Promise<FaceNetError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof FaceNetError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

/** The parts of TensorFlow.js that are used as the second opinion on quantised weights. */
interface TensorFlow {
  io: {
    decodeWeights(
      bytes: ArrayBuffer,
      specs: unknown[],
    ): Record<string, { dataSync(): ArrayLike<number>; shape: number[]; dtype: string }>;
  };
  setBackend(name: string): Promise<boolean>;
}

async function tensorFlow(): Promise<TensorFlow> {
  // An ES module whose package does not say so: Node only takes it under another name.
  const copy = join(temporary, 'tfjs.mjs');
  if (!existsSync(copy)) copyFileSync('node_modules/@vladmandic/face-api/dist/tfjs.esm.js', copy);
  // Its Node part needs require(); with a document in sight it takes the browser's part, which needs nothing.
  const scope = globalThis as { window?: unknown };
  scope.window = { document: {} };
  try {
    const tf = (await import(/* @vite-ignore */ pathToFileURL(copy).href)) as TensorFlow;
    await tf.setBackend('cpu');
    return tf;
  } finally {
    delete scope.window;
  }
}

describe('manifests of face-api.js', () => {
  it.each(['face_recognition_model', 'tiny_face_detector_model', 'face_landmark_68_model', 'ssd_mobilenetv1_model'])(
    'reads %s: every byte once, the very values of TensorFlow.js',
    async (name) => {
      const { text, files } = load(name);
      const { tensors, quantization } = readManifest(text, files);
      const specs = (JSON.parse(text) as { weights: { name: string; shape: number[] }[] }[]).flatMap(
        ({ weights }) => weights,
      );
      expect([...tensors.keys()]).toEqual(specs.map((spec) => spec.name));
      const bytes = new Uint8Array(files.get(`${name}.bin`) as Uint8Array);
      const theirs = (await tensorFlow()).io.decodeWeights(bytes.buffer, specs);
      for (const [weight, tensor] of tensors) {
        const other = theirs[weight] as { dataSync(): ArrayLike<number>; shape: number[] };
        expect(tensor.shape).toEqual(other.shape);
        const { scale, min } = quantization.get(weight) ?? { scale: 1, min: 0 };
        const ours = toFloat32(tensor, scale, min);
        const values = other.dataSync();
        expect(ours.length).toBe(values.length);
        for (let i = 0; i < ours.length; i++)
          if (ours[i] !== values[i]) expect.fail(`${weight}[${i}]: ${ours[i]} instead of ${values[i]}`);
      }
    },
  );

  const weight = (more: object = {}): object => ({ name: 'w', shape: [2], dtype: 'float32', ...more });
  const group = (weights: unknown, paths: unknown = ['b']): string => JSON.stringify([{ weights, paths }]);
  const bytes = (length: number): Map<string, Uint8Array> => new Map([['b', Uint8Array.from({ length }, (_, i) => i)]]);

  it('reads every storage, at odd offsets, over several files', () => {
    const halves = { dtype: 'float16' };
    const text = group(
      [
        weight({ name: 'q', shape: [3], quantization: { dtype: 'uint8', scale: 0.5, min: -1 } }),
        weight({ name: 'f' }),
        weight({ name: 'h', quantization: halves }),
        weight({ name: 'i', shape: [], dtype: 'int32', quantization: { dtype: 'uint8', scale: 2, min: -3 } }),
        weight({ name: 'u', shape: [1], quantization: { dtype: 'uint16', scale: 0.25, min: 1 } }),
        weight({ name: '__proto__', shape: [1], dtype: 'int32' }),
      ],
      ['a', 'b'],
    );
    const whole = Buffer.alloc(3 + 8 + 4 + 1 + 2 + 4);
    whole.set([0, 1, 255]);
    whole.writeFloatLE(1.5, 3);
    whole.writeFloatLE(-2, 7);
    whole.writeUInt16LE(0x3c00, 11);
    whole.writeUInt16LE(0xc000, 13);
    whole[15] = 7;
    whole.writeUInt16LE(1000, 16);
    whole.writeInt32LE(-5, 18);
    const { tensors, quantization } = readManifest(
      text,
      new Map([
        ['a', whole.subarray(0, 5)],
        ['b', whole.subarray(5)],
      ]),
    );
    const values = (name: string): number[] => {
      const { scale, min } = quantization.get(name) ?? { scale: 1, min: 0 };
      return [...toFloat32(tensors.get(name) as Tensor, scale, min)];
    };
    expect(['q', 'f', 'h', 'i', 'u', '__proto__'].map(values)).toEqual([
      [-1, -0.5, 126.5],
      [1.5, -2],
      [1, -2],
      [11],
      [251],
      [-5],
    ]);
    expect([...tensors.values()].map(({ dtype }) => dtype)).toEqual(['U8', 'F32', 'F16', 'I32', 'F32', 'I32']);
  });

  it.each<[string, string, number, RegExp]>([
    ['no JSON', '[{', 0, /is JSON/],
    ['an object', '{}', 0, /list of groups/],
    ['a group of null', '[null]', 0, /paths and weights/],
    ['a missing file', group([], ['c']), 0, /none for "c"/],
    ['a path that is no text', group([], [1]), 0, /none for number/],
    ['a weight without a name', group([{}]), 0, /has a name/],
    ['a doubled name', group([weight(), weight()]), 16, /unique/],
    ['a shape that is no list', group([weight({ shape: 2 })]), 8, /shape/],
    ['a fraction', group([weight({ shape: [1.5] })]), 8, /shape/],
    ['a negative size', group([weight({ shape: [-1] })]), 8, /shape/],
    ['an overflow', group([weight({ shape: [2 ** 40, 2 ** 40, 0] })]), 0, /shape/],
    ['33 sizes', group([weight({ shape: Array(33).fill(1) })]), 4, /shape/],
    ['too few bytes', group([weight()]), 7, /got 7 of 8/],
    ['too many bytes', group([weight()]), 9, /every byte belongs to a weight, got 1 more/],
    ['an unknown dtype', group([weight({ dtype: 'string' })]), 8, /float32 or int32/],
    ['a quantization without scale', group([weight({ quantization: { dtype: 'uint8', min: 0 } })]), 2, /quantization/],
    [
      'a scale that is a text',
      group([weight({ quantization: { dtype: 'uint8', min: 0, scale: '1' } })]),
      2,
      /quantization/,
    ],
    [
      'an unknown quantization',
      group([weight({ quantization: { dtype: 'uint4', min: 0, scale: 1 } })]),
      1,
      /quantization/,
    ],
    ['nesting', '['.repeat(1_000_000), 0, /is JSON/],
    ['11 MB', ' '.repeat(11_000_000), 0, /at most/],
  ])('refuses %s', async (_what, text, length, rule) => {
    const error = await caught(() => readManifest(text, bytes(length), 'x.json'));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
    expect(error.message.startsWith('x.json: ')).toBe(true);
  });
});

describe('dlib-resnet as one file', () => {
  const manifest = readFileSync(`${folder}/face_recognition_model-weights_manifest.json`);
  const weights = readFileSync(`${folder}/face_recognition_model.bin`);

  it('holds every tensor exactly as stored, with the contract', async () => {
    const output = join(temporary, 'models', 'dlib-resnet.safetensors');
    const length = await convertDlibFiles(folder, output, 'facenet-gpu test');
    const bytes = readFileSync(output);
    expect(bytes.length).toBe(length);
    expect(length).toBeLessThan(6_600_000);
    expect(readdirSync(join(temporary, 'models'))).toEqual(['dlib-resnet.safetensors']);

    const { metadata, tensors, quantization } = readModelFile(bytes, 'dlib-resnet.safetensors');
    const original = readManifest(manifest.toString(), new Map([['face_recognition_model.bin', weights]]));
    expect(tensors.size).toBe(117);
    expect(quantization).toEqual(original.quantization);
    for (const [name, { dtype, shape, data }] of original.tensors) {
      const other = tensors.get(name) as Tensor;
      expect([other.dtype, other.shape.join()]).toEqual([dtype, shape.join()]);
      expect(
        Buffer.compare(
          new Uint8Array(other.data.buffer, other.data.byteOffset, other.data.byteLength),
          new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        ),
      ).toBe(0);
    }
    // Values stated for this network in its package, not ours: FaceRecognitionNet.ts.
    expect(metadata).toMatchObject({
      network: 'dlib-resnet',
      dimensions: 128,
      input: { width: 150, height: 150, colour: 'rgb' },
      pixels: { scale: 1 / 255, mean: [122.782, 117.001, 104.298] },
      template: {
        name: 'dlib',
        points: [
          [47.7, 47.1],
          [100.3, 47.1],
        ],
      },
      operatingPoints: [],
      library: 'facenet-gpu test',
    });
    expect(metadata.sourceSha256).toBe(DLIB_RESNET_SHA256.weights);
    expect(weightsOf({ tensors, quantization }, 'fc').length).toBe(256 * 128);
    // The same files give the same bytes.
    expect(await sha256(await convertDlibResNet({ manifest, weights }, 'facenet-gpu test'))).toBe(await sha256(bytes));
  });

  it('refuses other files', async () => {
    const changed = new Uint8Array(weights);
    changed[1000] = (changed[1000] as number) ^ 1;
    expect((await caught(() => convertDlibResNet({ manifest, weights: changed }, 'x'))).message).toMatch(
      /^dlib-resnet weights: SHA-256/,
    );
    expect((await caught(() => convertDlibResNet({ manifest: manifest.subarray(1), weights }, 'x'))).message).toMatch(
      /^dlib-resnet manifest: SHA-256/,
    );
    expect((await caught(() => convertDlibFiles(temporary, join(temporary, 'y'), 'x'))).code).toBe('input');
    expect(existsSync(join(temporary, 'y'))).toBe(false);
  });
});

const metadata: ModelMetadata = {
  network: 'nn4.small2',
  variant: { pools: 'released', batchNorm: true, width: 0.5 },
  dimensions: 128,
  input: { width: 96, height: 64, colour: 'bgr' },
  pixels: { scale: 1 / 255, mean: [0, 1, 2.5] },
  template: {
    name: 'openface',
    points: [
      [18.639, 16.25],
      [75.73, 15.184],
      [47.515, 49.386],
    ],
  },
  operatingPoints: [
    { threshold: 1.1, far: 0.001, farInterval: [0.0004, 0.0021], val: 0.9, pairs: 6000, source: 'LFW' },
  ],
  licence: 'MIT',
  trainedOn: 'Zoë\'s "photos"',
  source: 'a',
  sourceSha256: 'a'.repeat(64),
  library: 'facenet-gpu 0.1.0',
};
const model = (more: Partial<ModelMetadata> = {}): ModelFile => ({
  metadata: { ...metadata, ...more },
  tensors: new Map<string, Tensor>([
    ['w', { dtype: 'F32', shape: [1], data: new Float32Array([1]) }],
    ['q', { dtype: 'U8', shape: [2], data: new Uint8Array([0, 9]) }],
  ]),
  quantization: new Map([['q', { scale: 0.1, min: -0.2 }]]),
});
/** The same file with one metadata string changed. */
function patched(key: string, value: string | undefined): Uint8Array {
  const { tensors, metadata: text } = readSafetensors(writeModelFile(model()));
  if (value === undefined) text.delete(key);
  else text.set(key, value);
  return writeSafetensors(tensors, text);
}

describe('model files', () => {
  it('come back as they were', () => {
    const whole = model();
    const { pixels: _, ...rest } = whole.metadata;
    for (const file of [
      whole,
      model({ pixels: { standardisation: 'per-image' } }),
      { ...whole, metadata: { ...rest, pixels: whole.metadata.pixels, variant: undefined } },
    ]) {
      const back = readModelFile(writeModelFile(file as ModelFile));
      expect(back.metadata).toEqual(JSON.parse(JSON.stringify(file.metadata)));
      expect(back.quantization).toEqual(file.quantization);
      expect(back.tensors).toEqual(file.tensors);
    }
    expect([...weightsOf(whole, 'q')]).toEqual([Math.fround(-0.2), Math.fround(0.7)]);
  });

  it('R25: a file of format 1 opens for ever', () => {
    const file = readFileSync(new URL('./cases/model-1.safetensors', import.meta.url));
    expect(readModelFile(file).metadata).toEqual(JSON.parse(JSON.stringify(metadata)));
  });

  it.each<[string, string | undefined, RegExp]>([
    ['format', undefined, /names its format/],
    ['format', 'facenet-gpu/model@2', /facenet-gpu\/model@1, got "facenet-gpu\/model@2"\. Use a newer version/],
    ['network', undefined, /'network' is a text/],
    ['dimensions', '0', /'dimensions'/],
    ['dimensions', '1e2', /'dimensions'/],
    ['dimensions', '70000', /'dimensions'/],
    ['input', '{"width":96,"height":96}', /colour/],
    ['input', '{"width":96,"height":96,"colour":"grb"}', /colour/],
    ['input', '{"width":0,"height":96,"colour":"rgb"}', /'input'/],
    ['input', '{"width":1.5,"height":96,"colour":"rgb"}', /'input'/],
    ['input', '[', /'input' is JSON/],
    ['input', 'null', /'input'/],
    ['pixels', '{"scale":0,"mean":[0,0,0]}', /'pixels'/],
    ['pixels', '{"scale":1e999,"mean":[0,0,0]}', /'pixels'/],
    ['pixels', '{"scale":1,"mean":[0,0]}', /'pixels'/],
    ['pixels', '{"scale":1,"mean":[0,0,0,0]}', /'pixels'/],
    ['template', '{"name":"x","points":[[1]]}', /'template'/],
    ['template', '{"name":"x","points":[[1,null]]}', /'template'/],
    ['template', '{"points":[]}', /'template'/],
    ['operatingPoints', '{}', /'operatingPoints'/],
    ['operatingPoints', '[{"threshold":5,"far":0,"farInterval":[0,1],"val":1,"pairs":1,"source":""}]', /0 to 4/],
    ['operatingPoints', '[{"threshold":1,"far":2,"farInterval":[0,1],"val":1,"pairs":1,"source":""}]', /0 to 1/],
    ['operatingPoints', '[null]', /'operatingPoints'/],
    ['variant', '[]', /'variant'/],
    ['variant', '{"a":{}}', /'variant'/],
    ['sourceSha256', 'abc', /'sourceSha256'/],
    ['quantization', undefined, /an integer tensor has scale and min, got none for "q"/],
    ['quantization', '[["q",1,0],["q",1,0]]', /named once/],
    ['quantization', '[["q",1,0],["w",1,0]]', /U8 or I8/],
    ['quantization', '[["q",1]]', /rows/],
    ['quantization', '{', /JSON/],
  ])('refuse metadata %s = %s', async (key, value, rule) => {
    const error = await caught(() => readModelFile(patched(key, value), 'm.safetensors'));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
  });

  it('are not written where they could not be read', async () => {
    expect((await caught(() => writeModelFile(model({ dimensions: 0.5 })))).code).toBe('model');
    expect((await caught(() => writeModelFile({ ...model(), quantization: new Map() }))).code).toBe('model');
  });

  it('a variant named __proto__ is only a name', () => {
    const { variant } = readModelFile(patched('variant', '{"__proto__":1}')).metadata;
    expect(Object.keys(variant ?? {})).toEqual(['__proto__']);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('R7: refuse weights that are not finite, by name and place', async () => {
    for (const value of [Number.NaN, Infinity, -Infinity]) {
      const values = new Float32Array([1, 2, value]);
      expect((await caught(() => requireFinite('conv1/w', values))).message).toMatch(
        /non-finite value in "conv1\/w", got -?(NaN|Infinity) at 2/,
      );
    }
    for (const value of [0, -0, 1e-45, 3.4e38, -1e30]) requireFinite('w', new Float32Array([value]));
    const { tensors } = model();
    expect(
      (await caught(() => weightsOf({ tensors, quantization: new Map([['q', { scale: 1e300, min: 0 }]]) }, 'q')))
        .message,
    ).toMatch(/non-finite/);
    expect((await caught(() => weightsOf(model(), 'none'))).message).toMatch(/"none"/);
  });
});

describe('matchTensors', () => {
  const tensors = new Map([
    ['a', { shape: [1, 2] }],
    ['b', { shape: [3] }],
    ['c', { shape: [] }],
    ['d', { shape: [2] }],
  ]);
  const expected = [
    { name: 'a', shape: [1, 2] },
    { name: 'b', shape: [3, 1] },
    { name: 'e', shape: [5] },
    { name: 'f', shape: [6, 1] },
  ];
  it('lists everything in one error', async () => {
    const error = await caught(() => matchTensors(expected, tensors, { source: 'm' }));
    expect(error.code).toBe('model');
    expect(error.message).toBe(
      'm: every tensor of the network and no other, got 2 missing: "e" [5], "f" [6, 1]; 1 of another shape: "b" [3] instead of [3, 1]; 2 surplus: "c", "d". Use the weights of this network.',
    );
  });
  it('returns what is missing where that is allowed, and still refuses wrong shapes', async () => {
    const options = { allowMissing: true, allowSurplus: true };
    expect(
      matchTensors(
        [
          { name: 'a', shape: [1, 2] },
          { name: 'e', shape: [5] },
        ],
        tensors,
        options,
      ),
    ).toEqual(['e']);
    expect((await caught(() => matchTensors(expected, tensors, options))).message).toMatch(/got 1 of another shape/);
    expect(matchTensors([], new Map())).toEqual([]);
  });
  it('keeps the message within reason', async () => {
    const many = new Map(Array.from({ length: 5000 }, (_, i) => [`tensor ${i}`, { shape: [] }]));
    const { message } = await caught(() => matchTensors([], many));
    expect(message).toMatch(/5000 surplus: .* and 4800 more/);
    expect(message.length).toBeLessThan(20_000);
  });
});

if (process.env.FACENET_WRITE_CASES === '1')
  writeFileSync(new URL('./cases/model-1.safetensors', import.meta.url), writeModelFile(model()));
