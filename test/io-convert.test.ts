import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { convertWeights, openFaceName } from '../src/io/convert.ts';
import { matchTensors, readModelFile } from '../src/io/model-file.ts';
import { readSafetensors, type Tensor, toFloat32, writeSafetensors } from '../src/io/safetensors.ts';
import { sha256 } from '../src/io/sha256.ts';
import { openFaceTorch, openFaceUnits } from './oracles/openface-torch.ts';
import { writeT7 } from './oracles/plain-t7.ts';

const library = 'facenet-gpu test';

const units = openFaceUnits('nn4.small2');
const expected = [
  ...units.flatMap(([, ours, out, input, kernel]) => [
    { name: `${ours}/weight`, shape: [kernel, kernel, input, out] },
    ...['bias', 'gamma', 'beta', 'mean', 'variance'].map((leaf) => ({ name: `${ours}/${leaf}`, shape: [out] })),
  ]),
  { name: 'embedding/weight', shape: [736, 128] },
  { name: 'embedding/bias', shape: [128] },
];

async function refusal(action: () => Promise<unknown>): Promise<FaceNetError> {
  return action().then(
    () => expect.fail('was accepted'),
    (error: unknown) => {
      if (error instanceof FaceNetError) return error;
      throw error;
    },
  );
}

describe('OpenFace', () => {
  it('has 37 convolutions and 3,733,968 parameters in this table', () => {
    expect(units.length).toBe(37);
    const parameters = expected
      .filter(({ name }) => !/mean|variance/.test(name))
      .map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(parameters.reduce((a, b) => a + b, 0)).toBe(3_733_968);
  });

  it('names every tensor of Keras-OpenFace, and no others', () => {
    for (const [keras, ours] of units) {
      const [conv = '', bn = ''] = keras.split('/');
      expect([`${conv}_w`, `${conv}_b`, `${bn}_w`, `${bn}_b`, `${bn}_m`, `${bn}_v`].map(openFaceName)).toEqual(
        ['weight', 'bias', 'gamma', 'beta', 'mean', 'variance'].map((leaf) => `${ours}/${leaf}`),
      );
    }
    for (const other of [
      'conv4_w',
      'conv1_m',
      'dense_m',
      'conv1',
      'inception_3a_3x3_conv_w',
      'inception_3a_1x1_conv1_w',
      'inception_6a_1x1_conv_w',
      '__proto__',
      'constructor',
      '',
      'x_w',
    ]) {
      expect(openFaceName(other), other).toBeUndefined();
    }
  });

  it('a .t7 becomes a model file that is the network to the last tensor', async () => {
    const file = openFaceTorch('nn4.small2');
    const { metadata, tensors } = readModelFile(await convertWeights(file, { library, source: 'nn4.small2.v1.t7' }));
    expect(matchTensors(expected, tensors)).toEqual([]);
    expect(metadata).toMatchObject({
      network: 'nn4.small2',
      variant: { pools: 'released' },
      dimensions: 128,
      input: { width: 96, height: 96, colour: 'rgb' },
      source: 'nn4.small2.v1.t7',
      sourceSha256: await sha256(file),
    });
    // conv1 is the first tensor that was made, kept as a matrix: element [o, i, y, x] is (index * 31 + 1) mod 199 + 1.
    const kernel = tensors.get('conv1/weight') as Tensor;
    for (const [o, i, y, x] of [
      [0, 0, 0, 0],
      [63, 2, 6, 6],
      [5, 1, 2, 3],
    ] as const) {
      const index = ((o * 3 + i) * 7 + y) * 7 + x;
      expect(kernel.data[((y * 7 + x) * 3 + i) * 64 + o]).toBe(((index * 31 + 1) % 199) + 1);
    }
  });

  it('an older .t7 keeps 1 / sqrt(variance + epsilon)', async () => {
    const { tensors } = readModelFile(
      await convertWeights(openFaceTorch('nn4.small2', { oldNorm: true }), { library }),
    );
    // running_std of conv1 is the sixth tensor: first element (0 * 31 + 6) mod 199 + 1 = 7.
    expect(tensors.get('conv1/variance')?.data[0]).toBe(Math.fround(1 / 49 - 1e-5));
  });

  it.each<[string, [string, number][], string]>([
    ['nn4.small1', [], 'released'],
    ['nn4', [['dW', 1]], 'definition'],
    ['nn4.small2', [['dW', 2]], 'released'],
  ])('%s is recognised, its pools by the modules (%j: %s)', async (network, pool, pools) => {
    const { metadata, tensors } = readModelFile(await convertWeights(openFaceTorch(network, { pool }), { library }));
    expect(metadata).toMatchObject({ network, variant: { pools } });
    expect(tensors.size).toBe(6 * openFaceUnits(network).length + 2);
    for (const [, ours, out, input, kernel] of openFaceUnits(network))
      expect(tensors.get(`${ours}/weight`)?.shape, ours).toEqual([kernel, kernel, input, out]);
  });

  it('refuses another network, by the number of its layers', async () => {
    const error = await refusal(() =>
      convertWeights(writeT7({ object: 'nn.Sequential', fields: [] }), { library, source: 'x.t7' }),
    );
    expect(error.message).toMatch(
      /^x\.t7: 37, 43, 55 convolutions, as many batch norms and one linear layer, got 0, 0 and 0/,
    );
  });

  it('reads a folder of CSV with shapes', async () => {
    const csv = (count: number): Uint8Array => Buffer.from(Array.from({ length: count }, (_, i) => i).join(','));
    const files = new Map([
      ['conv1_w.csv', csv(64 * 3 * 49)],
      ['conv1_b.csv', csv(64)],
      ['dense_w.csv', csv(128 * 736)],
    ]);
    const shapes = new Map([
      ['conv1_w', [64, 3, 7, 7]],
      ['dense_w', [128, 736]],
    ]);
    const { tensors } = readModelFile(await convertWeights(files, { library, shapes }));
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([
      ['conv1/weight', [7, 7, 3, 64]],
      ['conv1/bias', [64]],
      ['embedding/weight', [736, 128]],
    ]);
    expect(tensors.get('embedding/weight')?.data[1]).toBe(736);
  });

  const partial = `${process.env.FACENET_SHARED ?? '../shared'}/data/weights/openface-nn4.small2.v1-partial.safetensors`;
  if (!existsSync(partial))
    console.warn(`SKIPPED: OpenFace's real weights, because ${partial} is not there (set FACENET_SHARED).`);
  it.skipIf(!existsSync(partial))(
    'the real, incomplete weights: five missing kernels in one error, everything else fits',
    async () => {
      const { tensors } = readModelFile(await convertWeights(readFileSync(partial), { library }));
      const missing = [
        'inception3c/3x3',
        'inception4e/3x3',
        'inception5a/3x3',
        'inception5a/1x1',
        'inception5b/3x3',
      ].map((unit) => `${unit}/weight`);
      expect(matchTensors(expected, tensors, { allowMissing: true }).sort()).toEqual(missing.sort());
      const error = await refusal(async () => matchTensors(expected, tensors, { source: 'openface' }));
      expect(error.message).toMatch(/got 5 missing: /);
      for (const name of missing) expect(error.message).toContain(`"${name}"`);
    },
  );
});

describe('facenet-pytorch', () => {
  const state = readFileSync(new URL('./cases/foreign/state.pt', import.meta.url));
  const stated: Record<string, { values: number[] }> = JSON.parse(
    readFileSync(new URL('./cases/foreign/state.json', import.meta.url), 'utf8'),
  );

  it('keeps names, turns kernels, drops counters and the classifier', async () => {
    const { metadata, tensors } = readModelFile(await convertWeights(state, { library, source: 'vggface2.pt' }));
    expect(metadata).toMatchObject({
      network: 'inception-resnet-v1',
      dimensions: 512,
      input: { width: 160, height: 160, colour: 'rgb' },
      pixels: { scale: 1 / 128, mean: [127.5, 127.5, 127.5] },
      template: { name: 'mtcnn-box', margin: 0 },
    });
    expect(tensors.has('conv2d_1a.bn.num_batches_tracked')).toBe(false);
    const kernel = tensors.get('conv2d_1a.conv.weight') as Tensor;
    expect(kernel.shape).toEqual([3, 2, 3, 4]);
    const original = stated['conv2d_1a.conv.weight']?.values as number[];
    // PyTorch's [4, 3, 3, 2] at [o, i, y, x] is ours at [y, x, i, o].
    for (const [o, i, y, x] of [
      [0, 0, 0, 0],
      [3, 2, 2, 1],
      [1, 2, 0, 1],
    ] as const) {
      expect(toFloat32(kernel)[((y * 2 + x) * 3 + i) * 4 + o]).toBe(original[((o * 3 + i) * 3 + y) * 2 + x]);
    }
  });

  it('takes the size of the embedding from the file, and leaves the classifier out', async () => {
    const zeros = (shape: number[]): Tensor => ({
      dtype: 'F32',
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
    });
    const file = writeSafetensors(
      new Map([
        ['conv2d_1a.conv.weight', zeros([1, 1, 1, 1])],
        ['last_linear.weight', zeros([128, 4])],
        ['logits.weight', zeros([9, 128])],
      ]),
    );
    const { metadata, tensors } = readModelFile(await convertWeights(file, { library }));
    expect(metadata.dimensions).toBe(128);
    expect([...tensors.keys()].sort()).toEqual(['conv2d_1a.conv.weight', 'last_linear.weight']);
  });

  it('refuses what is no known network or no known format', async () => {
    const other = writeSafetensors(new Map([['w', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]]));
    expect((await refusal(() => convertWeights(other, { library, source: 'w' }))).message).toMatch(
      /^w: weights of OpenFace .* got 1 tensors, the first "w"/,
    );
    expect((await refusal(() => convertWeights(readFileSync('package.json'), { library }))).message).toMatch(
      /another format/,
    );
    expect((await refusal(() => convertWeights(new Uint8Array(0), { library }))).message).toMatch(/another format/);
    expect(readSafetensors(other).tensors.size).toBe(1);
  });
});
