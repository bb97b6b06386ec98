import type { Value } from '../graph/graph.ts';
import { batchNorm, batchNormTraining } from '../ops/batchNorm.ts';
import { channelPad } from '../ops/channelPad.ts';
import { concat } from '../ops/concat.ts';
import { conv2d } from '../ops/conv2d.ts';
import { l2Pool } from '../ops/l2Pool.ts';
import { linear } from '../ops/linear.ts';
import { lrn } from '../ops/lrn.ts';
import { maxPool } from '../ops/maxPool.ts';
import { relu } from '../ops/relu.ts';
import { type BuildOptions, widened } from './network.ts';

/** Names of a layer's parameters in the store. */
export interface ParameterNames {
  readonly weight: string;
  readonly bias: string;
  readonly gamma: string;
  readonly beta: string;
  /** Running statistics; absent in networks whose scale has none. */
  readonly mean?: string;
  readonly variance?: string;
}

/** How a network writes its convolution units: what follows a convolution, and what parameters are called. */
export interface Style {
  readonly names: (layer: string) => ParameterNames;
  /** Whether convolutions have a bias. Without `norm` they always do. */
  readonly bias: boolean;
  /** 'batch': batch normalisation. 'affine': a factor and an offset per channel. */
  readonly norm: 'batch' | 'affine' | 'none';
  /** Of batch normalisation. */
  readonly epsilon?: number;
  readonly options: BuildOptions;
}

export interface ConvUnit {
  /** Number, or [height, width]. */
  readonly kernel: number | readonly [y: number, x: number];
  readonly stride?: number;
  readonly padding?: number | readonly [top: number, left: number, bottom: number, right: number];
  /** Default 'relu'. */
  readonly activation?: 'relu' | 'none';
}

/** Our own names: `conv1/weight`, `conv1/bias`, `conv1/gamma`, `conv1/beta`, `conv1/mean`, `conv1/variance`. */
export const plainNames = (layer: string): Required<ParameterNames> => ({
  weight: `${layer}/weight`,
  bias: `${layer}/bias`,
  gamma: `${layer}/gamma`,
  beta: `${layer}/beta`,
  mean: `${layer}/mean`,
  variance: `${layer}/variance`,
});

/** Convolution, normalisation of the network's style, ReLU. x [N, H, W, C] -> [N, H', W', channels]. */
export function convUnit(x: Value, name: string, channels: number, unit: ConvUnit, style: Style): Value {
  const { graph } = x;
  const { kernel, stride = 1, padding = 0, activation = 'relu' } = unit;
  const [height, width] = typeof kernel === 'number' ? [kernel, kernel] : kernel;
  const names = style.names(name);
  return graph.scope(name, () => {
    const weight = graph.parameter(names.weight, [height, width, x.shape[3] as number, channels]);
    const bias = style.bias || style.norm === 'none' ? graph.parameter(names.bias, [channels]) : undefined;
    if (style.norm === 'none') return conv2d(x, weight, { bias, stride, padding, activation });
    const y = normalise(conv2d(x, weight, { bias, stride, padding }), names, style);
    return activation === 'relu' ? relu(y) : y;
  });
}

/** Normalisation per channel of the network's style. x [N, H, W, C] or [N, C]. */
export function normalise(x: Value, names: ParameterNames, style: Style): Value {
  const { graph } = x;
  const channels = x.shape[x.shape.length - 1] as number;
  const gamma = graph.parameter(names.gamma, [channels]);
  const beta = graph.parameter(names.beta, [channels]);
  if (style.norm === 'affine' || names.mean === undefined || names.variance === undefined) {
    return batchNorm(x, { ...standard(x, channels), gamma, beta, epsilon: 0 });
  }
  const { epsilon = 1e-5, options } = style;
  const mean = graph.parameter(names.mean, [channels]);
  const variance = graph.parameter(names.variance, [channels]);
  if (options.mode !== 'training' || options.frozenBatchNorm)
    return batchNorm(x, { mean, variance, gamma, beta, epsilon });
  const { y, statistics } = batchNormTraining(x, { gamma, beta, epsilon, groups: options.groups ?? 1 });
  options.onStatistics?.({
    mean,
    variance,
    batch: statistics,
    perImage: x.shape.slice(1, -1).reduce((a, b) => a * b, 1),
  });
  return y;
}

/** Statistics of a standard normal: batch norm with them, and epsilon 0, is gamma * x + beta exactly, and folds into a convolution. */
export function standard({ graph }: Value, channels: number): { mean: Value; variance: Value } {
  return {
    mean: graph.constant(new Float32Array(channels), [channels]),
    variance: graph.constant(new Float32Array(channels).fill(1), [channels]),
  };
}

/**
 * One row of the paper's Table 2: output channels of each branch, 0 where the branch is absent. `projection` is the
 * 1x1 convolution behind the pool, 0 for none; `stride` is that of the 3x3 and 5x5 convolutions and of the pool.
 */
export interface InceptionRow {
  readonly name: string;
  readonly '1x1': number;
  readonly '3x3reduce': number;
  readonly '3x3': number;
  readonly '5x5reduce': number;
  readonly '5x5': number;
  readonly pool: 'max' | 'l2';
  readonly projection: number;
  readonly stride?: number;
}

/** Order of the branches in the result: GoogLeNet's and the paper's, or that of OpenFace's Torch layer. */
export type ConcatOrder = 'paper' | 'openface';

/** One inception block of the row's shape. x [N, H, W, C] -> [N, H / stride, W / stride, sum of branches]. */
export function inception(x: Value, row: InceptionRow, order: ConcatOrder, style: Style): Value {
  const { name, stride = 1 } = row;
  const unit = (input: Value, branch: string, channels: number, kernel: number, step = 1) =>
    convUnit(
      input,
      `${name}/${branch}`,
      widened(channels, style.options),
      { kernel, stride: step, padding: (kernel - 1) / 2 },
      style,
    );

  const one = row['1x1'] > 0 ? unit(x, '1x1', row['1x1'], 1) : undefined;
  const three = unit(unit(x, '3x3reduce', row['3x3reduce'], 1), '3x3', row['3x3'], 3, stride);
  const five =
    row['5x5'] > 0 ? unit(unit(x, '5x5reduce', row['5x5reduce'], 1), '5x5', row['5x5'], 5, stride) : undefined;
  const pooled = blockPool(x, row, style.options);
  const projected = row.projection > 0 ? unit(pooled, 'projection', row.projection, 1) : pooled;
  const pool = centred(projected, three, `${name}/pool`);

  const branches = order === 'paper' ? [one, three, five, pool] : [three, five, pool, one];
  return x.graph.scope(`${name}/concat`, () => concat(branches.filter((branch) => branch !== undefined)));
}

function blockPool(
  x: Value,
  { name, pool, stride = 1 }: InceptionRow,
  { pools = 'definition', poolEpsilon = 0 }: BuildOptions,
): Value {
  return x.graph.scope(`${name}/pool`, () => {
    const padding = pools === 'released' || (pools === 'unpadded' && pool === 'l2') ? 0 : 1;
    if (pool === 'max') return maxPool(x, { size: 3, stride: pools === 'released' ? 2 : stride, padding });
    return l2Pool(x, { size: 3, stride: pools === 'released' ? 3 : stride, padding, epsilon: poolEpsilon });
  });
}

/** x in the middle of zeros, as large as `like` (the odd row and column at the bottom and right): Torch's DepthConcat. */
function centred(x: Value, like: Value, name: string): Value {
  const [down, across] = [1, 2].map((axis) => (like.shape[axis] as number) - (x.shape[axis] as number)) as [
    number,
    number,
  ];
  if (down === 0 && across === 0) return x;
  const top = Math.floor(down / 2);
  const left = Math.floor(across / 2);
  return x.graph.scope(name, () => channelPad(x, { top, left, bottom: down - top, right: across - left }));
}

/** Linear layer with bias. x [N, ...] -> [N, outputs]. */
export function linearUnit(x: Value, name: string, outputs: number, activation: 'relu' | 'none' = 'none'): Value {
  const { graph } = x;
  const inputs = x.shape.slice(1).reduce((a, b) => a * b, 1);
  return graph.scope(name, () =>
    linear(x, graph.parameter(`${name}/weight`, [inputs, outputs]), {
      bias: graph.parameter(`${name}/bias`, [outputs]),
      activation,
    }),
  );
}

/** Local response normalisation as in GoogLeNet and Torch; the paper does not give its constants. */
export const norm = (x: Value, name: string, { lrn: wanted = true }: BuildOptions): Value =>
  wanted ? x.graph.scope(name, () => lrn(x, { size: 5, alpha: 1e-4, beta: 0.75, k: 1 })) : x;

/** 3x3 max pool, stride 2, padding 1. */
export const halve = (x: Value, name: string): Value =>
  x.graph.scope(name, () => maxPool(x, { size: 3, stride: 2, padding: 1 }));
