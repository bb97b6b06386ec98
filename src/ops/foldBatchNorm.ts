import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

interface Fold extends Attributes {
  readonly epsilon: number;
}

/** y[r, c] = weight[r, c] * gamma[c] / sqrt(variance[c] + epsilon) */
const foldedWeight: Entry<Fold> = {
  inputs: ['weight', 'variance', 'gamma?'],
  output: 'y',
  shape({ weight, variance, gamma }) {
    const channels = [columns(weight as Shape)];
    requireEqual('foldBatchNorm', 'variance', variance as Shape, channels);
    if (gamma) requireEqual('foldBatchNorm', 'gamma', gamma, channels);
    return weight as Shape;
  },
  params: ({ weight }, { epsilon }) => ({ rows: rows(weight as Shape), columns: columns(weight as Shape), epsilon }),
  launch: ({ weight }) => ({ invocations: size(weight as Shape) }),
};

/** y[c] = (bias[c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c] */
const foldedBias: Entry<Fold> = {
  inputs: ['mean', 'variance', 'bias?', 'gamma?', 'beta?'],
  output: 'y',
  shape({ mean, ...others }) {
    for (const [name, shape] of Object.entries(others))
      if (shape) requireEqual('foldBatchNorm', name, shape, mean as Shape);
    return mean as Shape;
  },
  params: ({ mean }, { epsilon }) => ({ rows: 1, columns: columns(mean as Shape), epsilon }),
  launch: ({ mean }) => ({ invocations: columns(mean as Shape) }),
};

export const foldBatchNormOperator = defineOperator({
  name: 'foldBatchNorm',
  params: { rows: 'u32', columns: 'u32', epsilon: 'f32' },
  entries: { foldedWeight, foldedBias },
});

/** Statistics and affine parameters of a batch normalisation in inference form; each [channels]. */
export interface Normalisation {
  readonly mean: Value;
  readonly variance: Value;
  readonly gamma?: Value | undefined;
  readonly beta?: Value | undefined;
  readonly epsilon: number;
}

/**
 * Weight and bias of the convolution (or linear layer) that computes what the one given and a batch normalisation behind it compute.
 *
 * weight [..., channels], bias [channels] or absent. Used by plans, on parameters, once.
 */
export function foldBatchNorm(
  weight: Value,
  bias: Value | undefined,
  { mean, variance, gamma, beta, epsilon }: Normalisation,
): { weight: Value; bias: Value } {
  const { graph } = weight;
  return {
    weight: graph.apply(foldBatchNormOperator, 'foldedWeight', { weight, variance, gamma }, { epsilon }),
    bias: graph.apply(foldBatchNormOperator, 'foldedBias', { mean, variance, bias, gamma, beta }, { epsilon }),
  };
}
