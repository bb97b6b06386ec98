/**
 * OpenFace's networks as its Torch files hold them, plainly: the tables of facenet.md D9 (nn4.small2) and D3 (the rows that the larger ones
 * add), and a file with small whole numbers for weights. Shares nothing with src.
 */
import { type T7, writeT7 } from './plain-t7.ts';

type Block = [
  name: string,
  input: number,
  three: [number, number],
  five: [number, number] | null,
  pool: number,
  one: number,
];
/** A convolution: Keras-OpenFace's names of it and of its batch norm, ours, and [out, in, kernel]. */
export type Unit = [keras: string, ours: string, out: number, input: number, kernel: number];

const early: Block[] = [
  ['3a', 192, [96, 128], [16, 32], 32, 64],
  ['3b', 256, [96, 128], [32, 64], 64, 64],
  ['3c', 320, [128, 256], [32, 64], 0, 0],
  ['4a', 640, [96, 192], [32, 64], 128, 256],
];
const last4: Block = ['4e', 640, [160, 256], [64, 128], 0, 0];
const wide5: Block[] = [
  ['5a', 1024, [192, 384], null, 128, 384],
  ['5b', 896, [192, 384], null, 128, 384],
];
const blocksOf: Record<string, Block[]> = {
  'nn4.small2': [...early, last4, ['5a', 1024, [96, 384], null, 96, 256], ['5b', 736, [96, 384], null, 96, 256]],
  'nn4.small1': [...early, ['4b', 640, [112, 224], [32, 64], 128, 224], last4, ...wide5],
  nn4: [
    ...early,
    ['4b', 640, [112, 224], [32, 64], 128, 224],
    ['4c', 640, [128, 256], [32, 64], 128, 192],
    ['4d', 640, [144, 288], [32, 64], 128, 160],
    last4,
    ...wide5,
  ],
};

/** All convolutions of a network in the order of its modules. */
export function openFaceUnits(network: string): Unit[] {
  return [
    ['conv1/bn1', 'conv1', 64, 3, 7],
    ['conv2/bn2', 'inception2/3x3reduce', 64, 64, 1],
    ['conv3/bn3', 'inception2/3x3', 192, 64, 3],
    ...(blocksOf[network] as Block[]).flatMap(([name, input, [reduce3, three], five, pool, one]) => {
      const unit = (branch: string, number: string, ours: string, out: number, into: number, kernel: number): Unit => [
        `inception_${name}_${branch}_conv${number}/inception_${name}_${branch}_bn${number}`,
        `inception${name}/${ours}`,
        out,
        into,
        kernel,
      ];
      return [
        unit('3x3', '1', '3x3reduce', reduce3, input, 1),
        unit('3x3', '2', '3x3', three, reduce3, 3),
        ...(five
          ? [unit('5x5', '1', '5x5reduce', five[0], input, 1), unit('5x5', '2', '5x5', five[1], five[0], 5)]
          : []),
        ...(pool ? [unit('pool', '', 'projection', pool, input, 1)] : []),
        ...(one ? [unit('1x1', '', '1x1', one, input, 1)] : []),
      ];
    }),
  ];
}

/** Inputs of the linear layer. */
const features: Record<string, number> = { 'nn4.small2': 736, 'nn4.small1': 896, nn4: 896 };

export interface TorchOptions {
  /** Files before 2016 keep 1 / sqrt(variance + epsilon). */
  readonly oldNorm?: boolean;
  /** Fields of the max pools. */
  readonly pool?: [string, number][];
}

/** Element `index` (row-major in Torch's layout) of the tensor that is made as the `number`th, from 1. */
export const torchValue = (number: number, index: number): number => ((index * 31 + number) % 199) + 1;

/**
 * A whole network: conv1, conv2, conv3, the blocks, the linear layer. Kernels are kept as matrices in every other unit. Each unit makes six
 * tensors: weight, bias; gamma, beta, mean, variance.
 */
export function openFaceTorch(network: string, { oldNorm = false, pool = [] }: TorchOptions = {}): Uint8Array {
  const units = openFaceUnits(network);
  let seed = 0;
  const tensor = (shape: number[]): T7 => {
    seed++;
    const count = shape.reduce((a, b) => a * b, 1);
    return {
      tensor: 'Float',
      shape,
      strides: shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)),
      first: 0,
      storage: Array.from({ length: count }, (_, i) => torchValue(seed, i)),
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
    const [, , out, input, kernel] = units[index] as Unit;
    return pair(out, input, kernel, index % 2 === 0);
  };
  const block = ([name, , , five, projected, one]: Block): T7 => {
    const branches = [
      sequential([...unitNamed(`inception${name}/3x3reduce`), ...unitNamed(`inception${name}/3x3`)]),
      ...(five ? [sequential([...unitNamed(`inception${name}/5x5reduce`), ...unitNamed(`inception${name}/5x5`)])] : []),
      ...(projected
        ? [sequential([{ object: 'nn.SpatialMaxPooling', fields: pool }, ...unitNamed(`inception${name}/projection`)])]
        : []),
      ...(one ? [sequential(unitNamed(`inception${name}/1x1`))] : []),
    ];
    const inner: T7 = { object: 'nn.DepthConcat', fields: [['modules', list(branches)]] };
    return {
      object: 'nn.Inception',
      fields: [['module', { object: 'nn.Sequential', fields: [['modules', list([inner])]] }]],
    };
  };
  return writeT7(
    sequential([
      ...unitNamed('conv1'),
      ...unitNamed('inception2/3x3reduce'),
      ...unitNamed('inception2/3x3'),
      ...(blocksOf[network] as Block[]).map(block),
      {
        object: 'nn.Linear',
        fields: [
          ['weight', tensor([128, features[network] as number])],
          ['bias', tensor([128])],
        ],
      },
    ]),
  );
}
