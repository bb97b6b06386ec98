import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, size as elements, requireEqual, rows, type Shape } from '../graph/shape.ts';

/** Complete: the builder fills in what its caller left out. */
interface Lrn extends Attributes {
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  readonly k: number;
}

const strided = ['x', 'y', 'dy', 'dx'];

function check({ size, alpha, beta, k }: Lrn): void {
  if (!(Number.isInteger(size) && size >= 1 && size % 2 === 1)) {
    throw new FaceNetError(
      'input',
      `lrn: size must be an odd whole number of channels, since an even window has no middle, got ${size}.`,
    );
  }
  if (!(Number.isFinite(alpha) && alpha >= 0))
    throw new FaceNetError('input', `lrn: alpha must be a number from 0, got ${alpha}.`);
  if (!Number.isFinite(beta)) throw new FaceNetError('input', `lrn: beta must be a finite number, got ${beta}.`);
  if (!(Number.isFinite(k) && k > 0))
    throw new FaceNetError('input', `lrn: k must be a number above 0, since a zero pixel divides by k^beta, got ${k}.`);
}

const forward: Entry<Lrn> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape({ x }, attributes) {
    check(attributes);
    return x as Shape;
  },
  params: ({ x }, { size, alpha, beta, k }) => ({
    rows: rows(x as Shape),
    columns: columns(x as Shape),
    radius: (size - 1) / 2,
    alphaOverSize: alpha / size,
    beta,
    k,
  }),
  launch: ({ x }) => ({ invocations: elements(x as Shape) }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(lrnOperator, 'inputGradient', { x, dy }, attributes),
  }),
};

/** dx[c] = dy[c] * s[c]^-beta - 2 * alpha / size * beta * x[c] * sum over the window of dy[j] * x[j] * s[j]^(-beta - 1). */
const inputGradient: Entry<Lrn> = {
  inputs: ['x', 'dy'],
  output: 'dx',
  strided,
  shape({ x, dy }) {
    requireEqual('lrn.inputGradient', 'dy', dy as Shape, x as Shape);
    return x as Shape;
  },
  params: forward.params,
  launch: forward.launch,
};

export const lrnOperator = defineOperator({
  name: 'lrn',
  params: { rows: 'u32', columns: 'u32', radius: 'u32', alphaOverSize: 'f32', beta: 'f32', k: 'f32' },
  entries: { forward, inputGradient },
});

export interface LrnOptions {
  /** Neighbouring channels in a window, an odd number, the channel itself in the middle; default 5. Missing neighbours count 0. */
  readonly size?: number;
  /** Divided by `size`, as Caffe, Torch, ONNX and MXNet do and `tf.nn.lrn` does not; default 1e-4. */
  readonly alpha?: number;
  /** Default 0.75. */
  readonly beta?: number;
  /** Default 1. */
  readonly k?: number;
}

/**
 * Local response normalisation across channels: y = x / s^beta, s = k + alpha / size * (sum of squares of `size` neighbouring channels).
 *
 * x [..., channels] -> y of the same shape. Source: Krizhevsky et al. 2012, section 3.3 (where alpha is not divided); "rnorm" in
 * Schroff et al. 2015, tables 1 and 2, whose constants are not given: defaults as in OpenFace's nn4.
 * @throws 'input' for an even size and for k <= 0.
 */
export function lrn(x: Value, { size = 5, alpha = 1e-4, beta = 0.75, k = 1 }: LrnOptions = {}): Value {
  return x.graph.apply(lrnOperator, 'forward', { x }, { size, alpha, beta, k });
}
