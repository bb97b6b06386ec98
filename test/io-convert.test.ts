import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { convertWeights, openFaceName } from '../src/io/convert.ts';
import { matchTensors, readModelFile } from '../src/io/model-file.ts';
import { readSafetensors, type Tensor, toFloat32, writeSafetensors } from '../src/io/safetensors.ts';
import { sha256 } from '../src/io/sha256.ts';
import { type T7, writeT7 } from './oracles/plain-t7.ts';

const library = 'facenet-gpu test';

/** The row of OpenFace's nn4.small2 in Torch's layout: Keras-OpenFace's name of each unit, ours, and [out, in, kernel]. From facenet.md D9. */
const blocks: [
  name: string,
  input: number,
  three: [number, number],
  five: [number, number] | null,
  pool: number,
  one: number,
][] = [
  ['3a', 192, [96, 128], [16, 32], 32, 64],
  ['3b', 256, [96, 128], [32, 64], 64, 64],
  ['3c', 320, [128, 256], [32, 64], 0, 0],
  ['4a', 640, [96, 192], [32, 64], 128, 256],
  ['4e', 640, [160, 256], [64, 128], 0, 0],
  ['5a', 1024, [96, 384], null, 96, 256],
  ['5b', 736, [96, 384], null, 96, 256],
];
const units: [keras: string, ours: string, out: number, input: number, kernel: number][] = [
  ['conv1/bn1', 'conv1', 64, 3, 7],
  ['conv2/bn2', 'inception2/3x3reduce', 64, 64, 1],
  ['conv3/bn3', 'inception2/3x3', 192, 64, 3],
  ...blocks.flatMap(([name, input, [reduce3, three], five, pool, one]) => {
    const unit = (
      branch: string,
      number: string,
      ours: string,
      out: number,
      into: number,
      kernel: number,
    ): (typeof units)[number] => [
      `inception_${name}_${branch}_conv${number}/inception_${name}_${branch}_bn${number}`,
      `inception${name}/${ours}`,
      out,
      into,
      kernel,
    ];
    return [
      unit('3x3', '1', '3x3reduce', reduce3, input, 1),
      unit('3x3', '2', '3x3', three, reduce3, 3),
      ...(five ? [unit('5x5', '1', '5x5reduce', five[0], input, 1), unit('5x5', '2', '5x5', five[1], five[0], 5)] : []),
      ...(pool ? [unit('pool', '', 'projection', pool, input, 1)] : []),
      ...(one ? [unit('1x1', '', '1x1', one, input, 1)] : []),
    ];
  }),
];
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

  /** A whole network in Torch's form; weights are small integers, different in every tensor. Kernels are kept as matrices in every other unit. */
  const torch = (oldNorm = false): T7 => {
    let seed = 0;
    const tensor = (shape: number[]): T7 => {
      seed++;
      const count = shape.reduce((a, b) => a * b, 1);
      return {
        tensor: 'Float',
        shape,
        strides: shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)),
        first: 0,
        storage: Array.from({ length: count }, (_, i) => ((i * 31 + seed) % 199) + 1),
      };
    };
    const pair = (out: number, input: number, kernel: number, matrix: boolean): T7[] => [
      {
        object: matrix ? 'nn.SpatialConvolutionMM' : 'nn.SpatialConvolution',
        fields: [
          ['weight', tensor(matrix ? [out, input * kernel * kernel] : [out, input, kernel, kernel])],
          ['bias', tensor([out])],
          ['nInputPlane', input],
          ['nOutputPlane', out],
          ['kW', kernel],
          ['kH', kernel],
        ],
      },
      {
        object: 'nn.SpatialBatchNormalization',
        fields: [
          ['weight', tensor([out])],
          ['bias', tensor([out])],
          ['running_mean', tensor([out])],
          [oldNorm ? 'running_std' : 'running_var', tensor([out])],
        ],
      },
      { object: 'nn.ReLU', fields: [['inplace', true]] },
    ];
    const list = (items: T7[]): T7 => ({ table: items.map((item, i) => [i + 1, item]) });
    const sequential = (items: T7[]): T7 => ({ object: 'nn.Sequential', fields: [['modules', list(items)]] });
    const unitNamed = (ours: string): T7[] => {
      const index = units.findIndex(([, name]) => name === ours);
      const [, , out, input, kernel] = units[index] as (typeof units)[number];
      return pair(out, input, kernel, index % 2 === 0);
    };
    const block = ([name, , , five, pool, one]: (typeof blocks)[number]): T7 => {
      const branches = [
        sequential([...unitNamed(`inception${name}/3x3reduce`), ...unitNamed(`inception${name}/3x3`)]),
        ...(five
          ? [sequential([...unitNamed(`inception${name}/5x5reduce`), ...unitNamed(`inception${name}/5x5`)])]
          : []),
        ...(pool
          ? [sequential([{ object: 'nn.SpatialMaxPooling', fields: [] }, ...unitNamed(`inception${name}/projection`)])]
          : []),
        ...(one ? [sequential(unitNamed(`inception${name}/1x1`))] : []),
      ];
      const inner: T7 = { object: 'nn.DepthConcat', fields: [['modules', list(branches)]] };
      return {
        object: 'nn.Inception',
        fields: [['module', { object: 'nn.Sequential', fields: [['modules', list([inner])]] }]],
      };
    };
    return sequential([
      ...unitNamed('conv1'),
      ...unitNamed('inception2/3x3reduce'),
      ...unitNamed('inception2/3x3'),
      ...blocks.map(block),
      {
        object: 'nn.Linear',
        fields: [
          ['weight', tensor([128, 736])],
          ['bias', tensor([128])],
        ],
      },
    ]);
  };

  it('a .t7 becomes a model file that is the network to the last tensor', async () => {
    const file = writeT7(torch());
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
    const { tensors } = readModelFile(await convertWeights(writeT7(torch(true)), { library }));
    // running_std of conv1 is the sixth tensor: first element (0 * 31 + 6) mod 199 + 1 = 7.
    expect(tensors.get('conv1/variance')?.data[0]).toBe(Math.fround(1 / 49 - 1e-5));
  });

  it('refuses another network, by the number of its layers', async () => {
    const error = await refusal(() =>
      convertWeights(writeT7({ object: 'nn.Sequential', fields: [] }), { library, source: 'x.t7' }),
    );
    expect(error.message).toMatch(/^x\.t7: 37 convolutions, 37 batch norms and one linear layer, got 0, 0 and 0/);
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
