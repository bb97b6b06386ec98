import { batchNorm, batchNormOperator, batchNormTraining } from '../../src/ops/batchNorm.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

interface Options {
  readonly epsilon?: number;
  readonly groups?: number;
}

/** Training form if no mean is given. */
function reference(inputs: Tensors, columns: number, { epsilon = 1e-5, groups = 1 }: Options) {
  const { x, mean, variance, gamma, beta } = inputs;
  const rows = x!.length / columns;
  const n = mean ? rows : rows / groups;
  const average = new Float64Array((rows / n) * columns);
  const inverse = new Float64Array((rows / n) * columns);
  for (let at = 0; at < average.length; at++) {
    const [g, c] = [Math.floor(at / columns), at % columns];
    const column = Array.from({ length: n }, (_, r) => x![(g * n + r) * columns + c]!);
    average[at] = mean ? mean[c]! : column.reduce((a, b) => a + b, 0) / n;
    const square = (variance ? variance[c]! : column.reduce((a, b) => a + (b - average[at]!) ** 2, 0) / n) + epsilon;
    inverse[at] = square > 0 ? 1 / Math.sqrt(square) : 0;
  }
  /** Index into average and inverse for element i. */
  const moment = (i: number) => Math.floor(i / (n * columns)) * columns + (i % columns);
  const normalised = x!.map((value, i) => (value - average[moment(i)]!) * inverse[moment(i)]!);
  const scale = (i: number) => (gamma ? gamma[i % columns]! : 1);
  const y = normalised.map((value, i) => value * scale(i) + (beta ? beta[i % columns]! : 0));
  return { y, normalised, inverse, moment, scale, n };
}

export const spec: OperatorSpec = {
  operator: batchNormOperator,
  inputs: ['x', 'mean', 'variance', 'gamma', 'beta'],
  differentiable: ['x', 'gamma', 'beta'],
  build: ({ x, mean, variance, gamma, beta }, options) =>
    mean
      ? batchNorm(x!, { mean, variance: variance!, gamma, beta, ...options })
      : batchNormTraining(x!, { gamma: gamma!, beta: beta!, ...options }).y,
  forward: (inputs, shapes, options) => reference(inputs, shapes.x!.at(-1)!, options as Options).y,
  gradient(inputs, dy, shapes, options) {
    const columns = shapes.x!.at(-1)!;
    const { normalised, inverse, moment, scale, n } = reference(inputs, columns, options as Options);
    const slope = dy.map((value, i) => value * scale(i));
    const sum = new Float64Array(inverse.length);
    const product = new Float64Array(inverse.length);
    const gamma = new Float64Array(columns);
    const beta = new Float64Array(columns);
    slope.forEach((value, i) => {
      sum[moment(i)]! += value;
      product[moment(i)]! += value * normalised[i]!;
      gamma[i % columns]! += dy[i]! * normalised[i]!;
      beta[i % columns]! += dy[i]!;
    });
    const x = slope.map((value, i) => {
      const at = moment(i);
      return inverse[at]! * (inputs.mean ? value : value - sum[at]! / n - (normalised[i]! * product[at]!) / n);
    });
    return { x, gamma, beta };
  },
  // Sums: up to 256 terms in a chunk, then the chunks (256 a branch of the tree, 8 levels); the mean's error counts twice, in the
  // value and in the deviation, relative to a deviation of at least half of the largest |x| here. Root, division and five products: 12.
  bound(_, shapes) {
    const rows = shapes.x!.reduce((a, b) => a * b, 1) / shapes.x!.at(-1)!;
    return (4 * (Math.min(rows, 256) + rows / 256) + 8 + 12) * UNIT;
  },
  magnitude(what, inputs, dy, shapes, options) {
    const columns = shapes.x!.at(-1)!;
    const { normalised, inverse, moment, scale } = reference(inputs, columns, options as Options);
    if (what === 'y') return 0;
    if (what === 'dx') return Math.max(...dy.map((value, i) => Math.abs(value * scale(i) * inverse[moment(i)]!)));
    const sums = new Float64Array(columns);
    dy.forEach((value, i) => {
      sums[i % columns]! += Math.abs(value) * (what === 'dgamma' ? Math.abs(normalised[i]!) : 1);
    });
    return Math.max(...sums);
  },
  cases: [
    { why: 'one value, training: beta, and no gradient', shapes: { x: [1, 1], gamma: [1], beta: [1] } },
    { why: 'two rows, training', shapes: { x: [2, 3], gamma: [3], beta: [3] } },
    { why: 'a picture, primes, training', shapes: { x: [3, 5, 7, 11], gamma: [11], beta: [11] } },
    { why: 'more than one chunk, the last one short, training', shapes: { x: [3, 11, 13, 5], gamma: [5], beta: [5] } },
    { why: 'more chunks than the tree is wide, training', shapes: { x: [1, 257, 257, 1], gamma: [1], beta: [1] } },
    {
      why: 'three groups of more than one chunk',
      shapes: { x: [3, 17, 19, 3], gamma: [3], beta: [3] },
      options: { groups: 3, epsilon: 1e-3 },
    },
    { why: 'groups of two images', shapes: { x: [4, 2, 3, 4], gamma: [4], beta: [4] }, options: { groups: 2 } },
    { why: 'a channel range, training', shapes: { x: [2, 3, 3, 8], gamma: [8], beta: [8] }, slices: ['x'] },
    {
      why: 'constant channels, training: beta, finite gradient',
      shapes: { x: [6, 3], gamma: [3], beta: [3] },
      fill: { x: (i) => (i % 3) / 2 },
    },
    {
      why: 'constant channels without epsilon: gradient 0, not NaN',
      shapes: { x: [6, 3], gamma: [3], beta: [3] },
      fill: { x: (i) => (i % 3) / 2 },
      options: { epsilon: 0 },
    },
    {
      why: 'given statistics',
      shapes: { x: [2, 3, 5, 7], mean: [7], variance: [7], gamma: [7], beta: [7] },
      fill: { variance: (_, uniform) => 0.6 + 0.5 * uniform() },
    },
    {
      why: 'given statistics, epsilon of other programs',
      shapes: { x: [5, 4], mean: [4], variance: [4], gamma: [4], beta: [4] },
      fill: { variance: () => 0.04 },
      options: { epsilon: 1e-3 },
    },
    {
      why: 'given statistics, no gamma and beta',
      shapes: { x: [5, 6], mean: [6], variance: [6] },
      fill: { variance: (_, uniform) => 0.6 + 0.5 * uniform() },
    },
    {
      why: 'given statistics, variance 0 and epsilon 0',
      shapes: { x: [5, 2], mean: [2], variance: [2], gamma: [2], beta: [2] },
      fill: { variance: (i) => i },
      options: { epsilon: 0 },
    },
    {
      why: 'given statistics, a channel range',
      shapes: { x: [3, 8], mean: [8], variance: [8], gamma: [8], beta: [8] },
      fill: { variance: (_, uniform) => 0.6 + 0.5 * uniform() },
      slices: ['x'],
    },
  ],
};
