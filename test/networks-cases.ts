// Every network at reduced width with what goes in: test/networks-oracle.test.ts and test/conformance-report.ts hold their embeddings to float64.
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import type { BuildOptions, NetworkName } from '../src/networks/network.ts';
import { networks } from '../src/networks/networks.ts';
import { uniform } from './numeric.ts';

/** Uneven pictures, as small as each network allows, so that rows and columns cannot be exchanged unseen. */
const pictures: Record<NetworkName, { width: number; height: number }> = {
  nn1: { width: 45, height: 52 },
  nn2: { width: 67, height: 59 },
  nn3: { width: 59, height: 70 },
  nn4: { width: 61, height: 66 },
  nns1: { width: 66, height: 43 },
  nns2: { width: 58, height: 70 },
  'nn4.small1': { width: 70, height: 53 },
  'nn4.small2': { width: 61, height: 67 },
  'dlib-resnet': { width: 103, height: 135 },
  'inception-resnet-v1': { width: 85, height: 76 },
};

export interface NetworkCase {
  readonly label: string;
  readonly name: NetworkName;
  readonly variant: BuildOptions;
  readonly picture: { width: number; height: number };
  /**
   * Seed of the pixels. A ReLU or a maximum within rounding of its switch takes its gradient elsewhere than float64 does, which no
   * bound can hold: where the first seed met one, another was taken.
   */
  readonly seed: number;
}

const plain = (name: NetworkName, options: BuildOptions = {}, more: Partial<NetworkCase> = {}): NetworkCase => ({
  label: name,
  name,
  variant: { width: 0.125, dimensions: 24, ...options },
  picture: pictures[name],
  seed: 5,
  ...more,
});

/** nn1, nns1, nns2 and dlib-resnet have no batch norm; inception-resnet-v1 ends in one over three embeddings, which magnifies every error. */
export const cases: readonly NetworkCase[] = [
  plain('nn1'),
  plain('nn2', {}, { seed: 7 }),
  plain('nn2', { batchNorm: false }, { label: 'nn2 without batch norm' }),
  plain('nn3', { frozenBatchNorm: true }),
  plain('nn4'),
  plain('nns1'),
  plain('nns2'),
  plain('nn4.small1', { frozenBatchNorm: true, bias: false, lrn: false }),
  plain('nn4.small2'),
  plain(
    'nn4.small2',
    { pools: 'released' },
    { label: 'nn4.small2 with the released pools', picture: { width: 96, height: 96 } },
  ),
  plain(
    'nn4.small2',
    { pools: 'unpadded', poolEpsilon: 1e-6 },
    { label: 'nn4.small2 with the pools of the .def file', picture: { width: 96, height: 96 } },
  ),
  plain('dlib-resnet'),
  plain('inception-resnet-v1', { frozenBatchNorm: true }),
];

export const BATCH_SIZE = 3;

/** Seeded weights, and everything that initialisation leaves at 0 or 1 moved away from it, so that mixing them up shows. */
export function weights({ name, variant, picture }: NetworkCase): Map<string, Float32Array> {
  const info = parametersOf(networks[name], variant, picture);
  const values = initialise(info, 11);
  info.forEach(({ name: parameter, role }, index) => {
    if (role === 'weight') return;
    const random = uniform(index);
    const width = role === 'gamma' || role === 'variance' ? 0.3 : 0.1;
    values.set(
      parameter,
      (values.get(parameter) as Float32Array).map((value) => value + width * random()),
    );
  });
  return values;
}

export function pixels({ picture: { width, height }, seed }: NetworkCase): Float32Array {
  const random = uniform(seed);
  const image = width * height * 3;
  // Of different brightness and contrast: batch norm over three nearly equal embeddings would divide rounding errors by next to nothing.
  return Float32Array.from({ length: BATCH_SIZE * image }, (_, i) => {
    const n = Math.floor(i / image);
    return [1, -0.5, 1.5][n]! * random() + [0, 0.4, -0.3][n]!;
  });
}
