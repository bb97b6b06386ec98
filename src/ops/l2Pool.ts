import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { defineOperator, type Entry } from '../graph/operator.ts';
import { requireEqual, type Shape, size } from '../graph/shape.ts';
import { type Window, type WindowOptions, window, windowOutput, windowParams, windowValues } from '../graph/window.ts';

interface L2Pool extends Window {
  readonly epsilon: number;
}

const strided = ['x', 'y', 'output', 'dy', 'dx'];

const forward: Entry<L2Pool> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape({ x }, a) {
    if (!(Number.isFinite(a.epsilon) && a.epsilon >= 0))
      throw new FaceNetError('input', `l2Pool: epsilon must be a number from 0, got ${a.epsilon}.`);
    return windowOutput('l2Pool', x as Shape, a);
  },
  params: ({ x, y }, a) => ({ ...windowValues(x as Shape, y as Shape, a), epsilon: a.epsilon }),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(l2PoolOperator, 'inputGradient', { x, output: y, dy }, attributes),
  }),
};

/** dx[p] = x[p] * (sum of dy / y over the windows that hold p and whose y is not 0). */
const inputGradient: Entry<L2Pool> = {
  inputs: ['x', 'output', 'dy'],
  output: 'dx',
  strided,
  shape({ x, output, dy }, a) {
    const y = windowOutput('l2Pool.inputGradient', x as Shape, a);
    requireEqual('l2Pool.inputGradient', 'output', output as Shape, y);
    requireEqual('l2Pool.inputGradient', 'dy', dy as Shape, y);
    return x as Shape;
  },
  params: ({ x, dy }, a) => ({ ...windowValues(x as Shape, dy as Shape, a), epsilon: a.epsilon }),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const l2PoolOperator = defineOperator({
  name: 'l2Pool',
  params: { ...windowParams, epsilon: 'f32' },
  entries: { forward, inputGradient },
});

export interface L2PoolOptions extends WindowOptions {
  /** Added to the sum of squares; default 0. */
  readonly epsilon?: number;
}

/**
 * Euclidean length of each window: y = sqrt(sum of x^2 + epsilon). Padding counts as zero.
 *
 * x [N, height, width, channels] -> y [N, outHeight, outWidth, channels], sizes as in `windowOutput`. The sum is not divided by the
 * window's area (Torch's SpatialLPPooling, as OpenFace's released networks use it). The gradient of an all-zero window is 0.
 * Source: Schroff et al. 2015, table 2 ("L2"). @throws 'input' as `maxPool`.
 */
export function l2Pool(x: Value, options: L2PoolOptions): Value {
  return x.graph.apply(l2PoolOperator, 'forward', { x }, { ...window(options), epsilon: options.epsilon ?? 0 });
}
