// area: detection
//
// MTCNN's weights in the forms of others, written here, through `facenet convert` and FaceDetector: facenet's det1.npy, det2.npy, det3.npy,
// facenet-pytorch's pnet.pt, rnet.pt, onet.pt, and safetensors give one detector. Runs dist/cli.js.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { readDetectorFile } from '../src/io/detector-file.ts';
import { readSafetensors, toFloat32, writeSafetensors } from '../src/io/safetensors.ts';
import { mtcnnParameters } from '../src/networks/mtcnn.ts';
import { type DetectedFace, FaceDetector } from '../src/node.ts';
import { uniform } from './numeric.ts';
import { type PlainTensor, writePyTorch } from './oracles/plain-archives.ts';
import { writeNpyDictionary } from './oracles/plain-npy.ts';
import { photoPath } from './tiny-face.ts';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const root = fileURLToPath(new URL('../', import.meta.url));
const real = join(process.env.FACENET_SHARED ?? join(root, '..', 'shared'), 'data', 'weights', 'mtcnn.safetensors');
const folder = mkdtempSync(join(tmpdir(), 'facenet-mtcnn-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

type Weights = ReadonlyMap<string, PlainTensor>;
const nets = ['pnet', 'rnet', 'onet'] as const;

/** Seeded weights under facenet-pytorch's names, in its shapes: convolutions [out, in, y, x], dense layers [out, in]. */
function seeded(): Weights {
  const random = uniform(5);
  return new Map(
    [...mtcnnParameters()].map(([name, ours]): [string, PlainTensor] => {
      const [a = 1, b = 1, c = 1, d = 1] = ours;
      const shape = ours.length === 4 ? [d, c, a, b] : ours.length === 2 ? [b, a] : [a];
      const data = Float32Array.from({ length: a * b * c * d }, () => 0.2 * random());
      return [
        name
          .replaceAll('/', '.')
          .replaceAll('-', '_')
          .replace(/slope$/, 'weight'),
        { shape, data },
      ];
    }),
  );
}

/** facenet's name of a layer: dense layers are its convolutions of MATLAB. */
function facenetLayer(net: string, layer: string): string {
  if (layer.startsWith('prelu')) return net === 'pnet' ? layer.replace('prelu', 'PReLU') : layer;
  return layer.replace('dense', 'conv').replace('_', '-');
}

/** The weights as facenet has them: kernels [x, y, in, out], for images whose x and y are exchanged; dense layers [in, out]. */
function facenet(weights: Weights, net: string): Map<string, Map<string, PlainTensor>> {
  const layers = new Map<string, Map<string, PlainTensor>>();
  for (const [name, { shape, data }] of weights) {
    const [own, layer = '', part] = name.split('.');
    if (own !== net) continue;
    const [o, i = 1, y = 1, x = 1] = shape as [number, number?, number?, number?];
    const turned = new Float32Array(data.length);
    for (let n = 0; n < data.length; n++) {
      const [out, input, row, column] = [
        Math.floor(n / (i * y * x)),
        Math.floor(n / (y * x)) % i,
        Math.floor(n / x) % y,
        n % x,
      ];
      turned[((column * y + row) * i + input) * o + out] = data[n] as number;
    }
    const key = layer.startsWith('prelu') ? 'alpha' : part === 'bias' ? 'biases' : 'weights';
    const sizes = shape.length === 4 ? [x, y, i, o] : shape.length === 2 ? [i, o] : [o];
    const to = facenetLayer(net, layer);
    layers.set(to, (layers.get(to) ?? new Map()).set(key, { shape: sizes, data: turned }));
  }
  return layers;
}

/** Writes the weights in every form; the paths by form. */
function write(weights: Weights, name: string): Record<'safetensors' | 'pt' | 'npy', string> {
  for (const form of ['pt', 'npy']) mkdirSync(at(name, form), { recursive: true });
  nets.forEach((net, index) => {
    const own = new Map([...weights].filter(([key]) => key.startsWith(net)).map(([key, t]) => [key.slice(5), t]));
    writeFileSync(at(name, 'pt', `${net}.pt`), writePyTorch(own));
    writeFileSync(at(name, 'npy', `det${index + 1}.npy`), writeNpyDictionary(facenet(weights, net)));
  });
  const tensors = [...weights].map(
    ([key, { shape, data }]) =>
      [key, { dtype: 'F32' as const, shape: [...shape], data: data as Float32Array }] as const,
  );
  writeFileSync(at(name, 'foreign.safetensors'), writeSafetensors(new Map(tensors), new Map()));
  return { safetensors: at(name, 'foreign.safetensors'), pt: at(name, 'pt'), npy: at(name, 'npy') };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength);

function convert(from: string): Map<string, Float32Array> {
  const to = `${from}.converted.safetensors`;
  const { status, stderr } = spawnSync(process.execPath, [cli, 'convert', from, to], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  const { metadata, tensors } = readDetectorFile(new Uint8Array(readFileSync(to)));
  expect(metadata.network).toBe('mtcnn');
  return new Map([...tensors].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, tensor]) => [name, toFloat32(tensor)]));
}

test('three forms, one detector', { timeout: 120_000 }, () => {
  const forms = write(seeded(), 'seeded');
  const expected = convert(forms.safetensors);
  expect(expected.size).toBe(mtcnnParameters().size);
  for (const form of ['pt', 'npy'] as const) {
    const found = convert(forms[form]);
    expect([...found.keys()], form).toEqual([...expected.keys()]);
    for (const [name, values] of expected)
      expect(bytesOf(found.get(name)!).equals(bytesOf(values)), `${form}: ${name}`).toBe(true);
  }
  rmSync(join(forms.npy, 'det2.npy'));
  const missing = spawnSync(process.execPath, [cli, 'convert', forms.npy, at('less.safetensors')], {
    encoding: 'utf8',
  });
  expect([missing.status, missing.stderr, existsSync(at('less.safetensors'))]).toEqual([
    4,
    expect.stringContaining('rnet'),
    false,
  ]);
});

describe.runIf(existsSync(real))(`with the real weights (skipped loudly without ${real})`, () => {
  test('the same faces from every form, as it is and converted', { timeout: 120_000 }, async () => {
    const { tensors } = readSafetensors(new Uint8Array(readFileSync(real)), { source: real });
    const weights = new Map(
      [...tensors].map(([name, tensor]) => [name, { shape: tensor.shape, data: toFloat32(tensor) }]),
    );
    const forms = write(weights, 'real');
    for (const form of Object.values(forms)) convert(form);
    let expected: readonly DetectedFace[] | undefined;
    for (const model of [
      forms.safetensors,
      nets.map((net) => join(forms.pt, `${net}.pt`)),
      [3, 1, 2].map((number) => join(forms.npy, `det${number}.npy`)),
      ...Object.values(forms).map((form) => `${form}.converted.safetensors`),
    ]) {
      const detector = await FaceDetector.create({ model, backend: 'wasm', threads: 1 });
      const found = await detector.detect(photoPath('sample1.jpg'), { minFace: 60 });
      await detector.dispose();
      expect(found.length).toBeGreaterThan(1);
      expected ??= found;
      expect(found, String(model)).toEqual(expected);
    }
  });
});
