import { foldBatchNorm, foldBatchNormOperator } from '../../src/ops/foldBatchNorm.ts';
import type { OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
const positive = (_: number, random: () => number) => Math.fround(Math.abs(random()) + 0.1);

/** Folded weights, or with `result: "bias"` the folded bias. */
export const spec: OperatorSpec = {
  operator: foldBatchNormOperator,
  inputs: ['weight', 'bias', 'mean', 'variance', 'gamma', 'beta'],
  differentiable: [],
  build({ weight, bias, mean, variance, gamma, beta }, options) {
    const folded = foldBatchNorm(weight!, bias, {
      mean: mean!,
      variance: variance!,
      gamma,
      beta,
      epsilon: (options.epsilon as number | undefined) ?? 1e-5,
    });
    return options.result === 'bias' ? folded.bias : folded.weight;
  },
  forward({ weight, bias, mean, variance, gamma, beta }, shapes, { epsilon = 1e-5, result }) {
    const columns = shapes.mean![0] as number;
    const factor = (c: number) => (gamma ? gamma[c]! : 1) / Math.sqrt(variance![c]! + (epsilon as number));
    if (result === 'bias') return mean!.map((m, c) => ((bias ? bias[c]! : 0) - m) * factor(c) + (beta ? beta[c]! : 0));
    return weight!.map((w, i) => w * factor(i % columns));
  },
  // A sum, a root, a quotient, a product and a sum: five roundings of at most 2^-24 of terms no larger than the largest result's.
  bound: () => 8 * UNIT,
  magnitude: (_, { mean, variance }) => Math.max(...mean!.map((m, c) => Math.abs(m) / Math.sqrt(variance![c]! + 0.1))),
  cases: [
    { why: 'one weight', shapes: { weight: [1, 1, 1, 1], mean: [1], variance: [1] }, fill: { variance: positive } },
    {
      why: 'all present',
      shapes: { weight: [3, 3, 2, 7], bias: [7], mean: [7], variance: [7], gamma: [7], beta: [7] },
      fill: { variance: positive },
    },
    {
      why: 'bias, all present',
      shapes: { weight: [1, 1, 2, 7], bias: [7], mean: [7], variance: [7], gamma: [7], beta: [7] },
      options: { result: 'bias' },
      fill: { variance: positive },
    },
    {
      why: 'bias from nothing but statistics',
      shapes: { weight: [1, 1, 2, 5], mean: [5], variance: [5] },
      options: { result: 'bias' },
      fill: { variance: positive },
    },
    {
      why: 'an epsilon that shows',
      shapes: { weight: [1, 1, 2, 5], mean: [5], variance: [5], gamma: [5] },
      options: { epsilon: 0.5 },
      fill: { variance: () => 0 },
    },
  ],
};
