import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Kernel, type KernelOptions, kernel, kernelOutput, kernelParams, kernelValues } from '../graph/kernel.ts';
import { defineOperator, type Entry, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape, text } from '../graph/shape.ts';
import { reluOperator } from './relu.ts';

/** Geometry and epilogue of a convolution, complete: the builder fills in what its caller left out. */
export interface Conv2d extends Kernel {
  /** Applied after bias and residual. */
  readonly activation: 'none' | 'relu';
}

/** Geometry of a gradient: the convolution's, and the size of its input, which the output's alone does not tell. */
interface Conv2dInputGradient extends Conv2d {
  readonly height: number;
  readonly width: number;
}
interface Conv2dWeightGradient extends Conv2d {
  readonly kernelHeight: number;
  readonly kernelWidth: number;
}

function outputShape(x: Shape, weight: Shape, a: Conv2d): Shape {
  requireRank('conv2d', 'x', x, 4);
  requireRank('conv2d', 'weight', weight, 4);
  const [batch, , , channels] = x as [number, number, number, number];
  const [, , inputChannels, outputChannels] = weight as [number, number, number, number];
  if (channels !== inputChannels) {
    throw new FaceNetError(
      'input',
      `conv2d: weight must be [kernelHeight, kernelWidth, ${channels}, outputChannels] for x ${text(x)}, got ${text(weight)}.`,
    );
  }
  return [batch, ...kernelOutput('conv2d', x, weight, a), outputChannels];
}

/** Params of every entry: `x` and `y` are the convolution's input and output, whichever of them the entry reads or writes. */
function geometry(x: Shape, weight: Shape, y: Shape, a: Conv2d): Record<string, number> {
  return {
    ...kernelValues(x, weight, y, a),
    outChannels: y[3] as number,
    relu: a.activation === 'relu' ? 1 : 0,
  };
}

const strided = ['x', 'y', 'residual', 'dy', 'dx'];
const product = (shape: Shape) => shape.reduce((a, b) => a * b, 1);

const forward: Entry<Conv2d> = {
  inputs: ['x', 'weight', 'bias?', 'residual?'],
  output: 'y',
  strided,
  checked: true,
  shape({ x, weight, bias, residual }, a) {
    const y = outputShape(x as Shape, weight as Shape, a);
    if (bias) requireEqual('conv2d', 'bias', bias, [columns(y)]);
    if (residual) requireEqual('conv2d', 'residual', residual, y);
    return y;
  },
  params: ({ x, weight, y }, a) => geometry(x as Shape, weight as Shape, y as Shape, a),
  launch: ({ y }) => ({ invocations: product(y as Shape) }),
  multiplyAdds: ({ x, weight, y }: Shapes) =>
    rows(y as Shape) * product(weight as Shape) * ((x as Shape).length === 4 ? 1 : 0),
  gradient({ y, dy, inputs: { x, weight, bias, residual }, attributes: a, needs }) {
    const plain: Conv2d = { ...a, activation: 'none' };
    const before = a.activation === 'relu' ? y.graph.apply(reluOperator, 'inputGradient', { output: y, dy }) : dy;
    const [, height, width] = (x as Value).shape as [number, number, number];
    const [kernelHeight, kernelWidth] = (weight as Value).shape as [number, number];
    return {
      x: needs('x')
        ? y.graph.apply(conv2dOperator, 'inputGradient', { dy: before, weight }, { ...plain, height, width })
        : undefined,
      weight: needs('weight')
        ? y.graph.apply(conv2dOperator, 'weightGradient', { x, dy: before }, { ...plain, kernelHeight, kernelWidth })
        : undefined,
      bias: bias && needs('bias') ? y.graph.apply(conv2dOperator, 'biasGradient', { dy: before }, plain) : undefined,
      residual: residual && needs('residual') ? before : undefined,
    };
  },
};

/** dx[n, iy, ix, ci] = sum over taps and co of dy[n, oy, ox, co] * weight[ky, kx, ci, co], where iy = oy * strideY + ky - padTop. */
const inputGradient: Entry<Conv2dInputGradient> = {
  inputs: ['dy', 'weight'],
  output: 'dx',
  strided,
  shape({ dy, weight }, a) {
    const dx = [(dy as Shape)[0], a.height, a.width, (weight as Shape)[2]] as Shape;
    requireEqual('conv2d.inputGradient', 'dy', dy as Shape, outputShape(dx, weight as Shape, a));
    return dx;
  },
  params: ({ dy, weight, dx }, a) => geometry(dx as Shape, weight as Shape, dy as Shape, a),
  launch: ({ dx }) => ({ invocations: product(dx as Shape) }),
  multiplyAdds: ({ dy, weight }) => rows(dy as Shape) * product(weight as Shape),
};

/** dweight[ky, kx, ci, co] = sum over n, oy, ox of x[n, oy * strideY + ky - padTop, ...] * dy[n, oy, ox, co], in a fixed order. */
const weightGradient: Entry<Conv2dWeightGradient> = {
  inputs: ['x', 'dy'],
  output: 'dweight',
  strided,
  shape({ x, dy }, a) {
    const weight = [a.kernelHeight, a.kernelWidth, columns(x as Shape), columns(dy as Shape)];
    requireEqual('conv2d.weightGradient', 'dy', dy as Shape, outputShape(x as Shape, weight, a));
    return weight;
  },
  params: ({ x, dy, dweight }, a) => geometry(x as Shape, dweight as Shape, dy as Shape, a),
  launch: ({ dweight }) => ({ invocations: product(dweight as Shape) }),
  multiplyAdds: ({ dy, dweight }) => rows(dy as Shape) * product(dweight as Shape),
};

/** dbias[co] = sum of dy over all pixels, in a fixed order. */
const biasGradient: Entry<Conv2d> = {
  inputs: ['dy'],
  output: 'dbias',
  strided,
  shape: ({ dy }) => [columns(dy as Shape)],
  params: ({ dy }, a) => geometry(dy as Shape, [1, 1], dy as Shape, a),
  launch: ({ dy }) => ({ workgroups: [columns(dy as Shape)] }),
};

export const conv2dOperator = defineOperator({
  name: 'conv2d',
  params: { ...kernelParams, outChannels: 'u32', relu: 'u32' },
  entries: { forward, inputGradient, weightGradient, biasGradient },
});

/** A number for all sides or both directions, or each by name. */
export interface Conv2dOptions extends KernelOptions {
  readonly bias?: Value | undefined;
  /** Added after the bias, before the activation; of y's shape. */
  readonly residual?: Value | undefined;
  readonly activation?: 'none' | 'relu';
}

/**
 * Two-dimensional convolution (cross-correlation) with bias, residual and ReLU in its epilogue.
 *
 * x [N, height, width, channels], weight [kernelHeight, kernelWidth, channels, outChannels], bias [outChannels]
 * -> y [N, outHeight, outWidth, outChannels], outHeight = floor((height + top + bottom - kernelHeight) / strideY) + 1.
 * Taps outside the image are zero. @throws 'input' when shapes do not fit.
 */
export function conv2d(x: Value, weight: Value, options: Conv2dOptions = {}): Value {
  const { bias, residual, activation = 'none' } = options;
  const attributes: Conv2d = { ...kernel(options), activation };
  return x.graph.apply(conv2dOperator, 'forward', { x, weight, bias, residual }, attributes);
}
