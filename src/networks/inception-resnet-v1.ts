import type { Value } from '../graph/graph.ts';
import { add } from '../ops/add.ts';
import { batchNorm } from '../ops/batchNorm.ts';
import { concat } from '../ops/concat.ts';
import { conv2d } from '../ops/conv2d.ts';
import { globalAveragePool } from '../ops/globalAveragePool.ts';
import { linear } from '../ops/linear.ts';
import { maxPool } from '../ops/maxPool.ts';
import { relu } from '../ops/relu.ts';
import { type ConvUnit, convUnit, normalise, type Style, standard } from './blocks.ts';
import { type BuildOptions, defineNetwork, type Network, widened } from './network.ts';

/** Names of PyTorch's modules: a convolution without bias, batch norm with epsilon 1e-3. */
const style = (options: BuildOptions): Style => ({
  names: (layer) => ({
    weight: `${layer}.conv.weight`,
    bias: `${layer}.conv.bias`,
    gamma: `${layer}.bn.weight`,
    beta: `${layer}.bn.bias`,
    mean: `${layer}.bn.running_mean`,
    variance: `${layer}.bn.running_var`,
  }),
  bias: false,
  norm: 'batch',
  epsilon: 1e-3,
  options,
});

/** Output channels, kernel (number or [height, width]) and whether it halves the map (stride 2 without padding). */
type Layer = readonly [channels: number, kernel: ConvUnit['kernel'], halving?: 'halving'];

/** Convolution units one after the other; several are numbered as in a Sequential. Padding keeps the size unless halving. */
function branch(x: Value, name: string, layers: readonly Layer[], s: Style): Value {
  return layers.reduce((y, [channels, kernel, halving], index) => {
    const [height, width] = typeof kernel === 'number' ? [kernel, kernel] : kernel;
    const [down, across] = halving ? [0, 0] : [(height - 1) / 2, (width - 1) / 2];
    return convUnit(
      y,
      layers.length === 1 ? name : `${name}.${index}`,
      widened(channels, s.options),
      { kernel, stride: halving ? 2 : 1, padding: [down, across, down, across] },
      s,
    );
  }, x);
}

/** Branches side by side, in order of their number; a reduction block adds a 3x3/2 max pool as the last. */
function mixed(x: Value, name: string, branches: readonly (readonly Layer[])[], s: Style, pool = false): Value {
  const parts = branches.map((layers, index) => branch(x, `${name}.branch${index}`, layers, s));
  return x.graph.scope(name, () => concat(pool ? [...parts, maxPool(x, { size: 3, stride: 2 })] : parts));
}

/** x + scale * conv(branches), then ReLU unless it is the last block. */
function residual(
  x: Value,
  name: string,
  branches: readonly (readonly Layer[])[],
  scale: number,
  s: Style,
  activation = true,
): Value {
  const { graph } = x;
  const channels = x.shape[3] as number;
  const joined = mixed(x, name, branches, s);
  return graph.scope(`${name}.conv2d`, () => {
    const weight = graph.parameter(`${name}.conv2d.weight`, [1, 1, joined.shape[3] as number, channels]);
    let y = conv2d(joined, weight, { bias: graph.parameter(`${name}.conv2d.bias`, [channels]) });
    if (scale !== 1) {
      // In the form that plans fold into the convolution.
      const gamma = graph.constant(new Float32Array(channels).fill(scale), [channels]);
      const beta = graph.constant(new Float32Array(channels), [channels]);
      y = batchNorm(y, { ...standard(x, channels), gamma, beta, epsilon: 0 });
    }
    y = add(y, x);
    return activation ? relu(y) : y;
  });
}

type Branches = readonly (readonly Layer[])[];
// biome-ignore format: a branch is read in one line
const block35: Branches = [[[32, 1]], [[32, 1], [32, 3]], [[32, 1], [32, 3], [32, 3]]];
// biome-ignore format: a branch is read in one line
const block17: Branches = [[[128, 1]], [[128, 1], [128, [1, 7]], [128, [7, 1]]]];
// biome-ignore format: a branch is read in one line
const block8: Branches = [[[192, 1]], [[192, 1], [192, [1, 3]], [192, [3, 1]]]];
// biome-ignore format: a branch is read in one line
const mixed6a: Branches = [[[384, 3, 'halving']], [[192, 1], [192, 3], [256, 3, 'halving']]];
// biome-ignore format: a branch is read in one line
const mixed7a: Branches = [
  [[256, 1], [384, 3, 'halving']], [[256, 1], [256, 3, 'halving']], [[256, 1], [256, 3], [256, 3, 'halving']],
];

/**
 * Inception-ResNet-v1 (Szegedy et al. 2016) as davidsandberg/facenet trained it and facenet-pytorch carries it: 160x160, 512-d
 * (`dimensions: 128` for facenet's models of 2017). 23,482,624 parameters; 27.9 M with facenet-pytorch's `logits` for
 * VGGFace2, which the embedding does not need (`inceptionResnetV1Logits`).
 *
 * Parameter names are PyTorch's, dimensions ours: convolutions [kernelHeight, kernelWidth, in, out] (PyTorch: [out, in, kernelHeight,
 * kernelWidth]), linear layers [in, out] (PyTorch: [out, in]). Dropout before the last layer acts only in training there; it is
 * left out here.
 */
export const inceptionResnetV1: Network = /* @__PURE__ */ defineNetwork({
  name: 'inception-resnet-v1',
  source: 'facenet-pytorch models/inception_resnet_v1.py, davidsandberg/facenet src/models/inception_resnet_v1.py',
  input: { width: 160, height: 160 },
  sizes: 'any',
  dimensions: 512,
  pixels: { scale: 1 / 128, shift: [-127.5 / 128, -127.5 / 128, -127.5 / 128] },
  features(x, options = {}) {
    const { graph } = x;
    const s = style(options);
    const wide = (channels: number) => widened(channels, options);
    let y = convUnit(x, 'conv2d_1a', wide(32), { kernel: 3, stride: 2 }, s);
    y = convUnit(y, 'conv2d_2a', wide(32), { kernel: 3 }, s);
    y = convUnit(y, 'conv2d_2b', wide(64), { kernel: 3, padding: 1 }, s);
    y = graph.scope('maxpool_3a', () => maxPool(y, { size: 3, stride: 2 }));
    y = convUnit(y, 'conv2d_3b', wide(80), { kernel: 1 }, s);
    y = convUnit(y, 'conv2d_4a', wide(192), { kernel: 3 }, s);
    y = convUnit(y, 'conv2d_4b', wide(256), { kernel: 3, stride: 2 }, s);
    for (let i = 0; i < 5; i++) y = residual(y, `repeat_1.${i}`, block35, 0.17, s);
    y = mixed(y, 'mixed_6a', mixed6a, s, true);
    for (let i = 0; i < 10; i++) y = residual(y, `repeat_2.${i}`, block17, 0.1, s);
    y = mixed(y, 'mixed_7a', mixed7a, s, true);
    for (let i = 0; i < 5; i++) y = residual(y, `repeat_3.${i}`, block8, 0.2, s);
    y = residual(y, 'block8', block8, 1, s, false);
    const pooled = graph.scope('avgpool_1a', () => globalAveragePool(y));
    const inputs = pooled.shape[1] as number;
    const dimensions = options.dimensions ?? 512;
    const last = graph.scope('last_linear', () =>
      linear(pooled, graph.parameter('last_linear.weight', [inputs, dimensions])),
    );
    const names = {
      weight: '',
      bias: '',
      gamma: 'last_bn.weight',
      beta: 'last_bn.bias',
      mean: 'last_bn.running_mean',
      variance: 'last_bn.running_var',
    };
    return graph.scope('last_bn', () => normalise(last, names, s));
  },
});

/** facenet-pytorch's classifier on top of `features`: [N, dimensions] -> [N, classes] (VGGFace2 8,631, CASIA-WebFace 10,575). */
export function inceptionResnetV1Logits(features: Value, classes: number): Value {
  const { graph } = features;
  const weight = graph.parameter('logits.weight', [features.shape[1] as number, classes]);
  return graph.scope('logits', () => linear(features, weight, { bias: graph.parameter('logits.bias', [classes]) }));
}
