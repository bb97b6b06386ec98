import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { requireEqual, requireRank, type Shape, size, text } from '../graph/shape.ts';

/** Geometry, complete: the builder fills in what its caller left out. */
interface DepthwiseConv2d extends Attributes {
  readonly strideY: number;
  readonly strideX: number;
  readonly padTop: number;
  readonly padLeft: number;
  readonly padBottom: number;
  readonly padRight: number;
}

/** Geometry of a gradient: the convolution's, and the size that the other shapes alone do not tell. */
interface InputGradient extends DepthwiseConv2d {
  readonly height: number;
  readonly width: number;
}
interface WeightGradient extends DepthwiseConv2d {
  readonly kernelHeight: number;
  readonly kernelWidth: number;
}

const strided = ['x', 'y', 'dy', 'dx'];

function outputShape(x: Shape, weight: Shape, a: DepthwiseConv2d): Shape {
  requireRank('depthwiseConv2d', 'x', x, 4);
  requireRank('depthwiseConv2d', 'weight', weight, 3);
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [kernelHeight, kernelWidth, filters] = weight as [number, number, number];
  if (filters !== channels) {
    throw new FaceNetError(
      'input',
      `depthwiseConv2d: weight must be [kernelHeight, kernelWidth, ${channels}] for x ${text(x)}, got ${text(weight)}.`,
    );
  }
  const { strideY, strideX, padTop, padLeft, padBottom, padRight } = a;
  for (const [name, value] of Object.entries({ strideY, strideX, padTop, padLeft, padBottom, padRight })) {
    const least = name.startsWith('stride') ? 1 : 0;
    if (!(Number.isInteger(value) && value >= least)) {
      throw new FaceNetError('input', `depthwiseConv2d: ${name} must be a whole number from ${least}, got ${value}.`);
    }
  }
  const outHeight = Math.floor((height + padTop + padBottom - kernelHeight) / strideY) + 1;
  const outWidth = Math.floor((width + padLeft + padRight - kernelWidth) / strideX) + 1;
  if (outHeight < 1 || outWidth < 1) {
    throw new FaceNetError(
      'input',
      `depthwiseConv2d: the kernel ${kernelHeight}x${kernelWidth} must fit into the padded input, got x ${text(x)}.`,
    );
  }
  return [batch, outHeight, outWidth, channels];
}

/** Params of every entry: `x` and `y` are the convolution's input and output, whichever of them the entry reads or writes. */
function geometry(x: Shape, weight: Shape, y: Shape, { strideY, strideX, padTop, padLeft }: DepthwiseConv2d) {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [kernelHeight, kernelWidth] = weight as [number, number];
  const [, outHeight, outWidth] = y as [number, number, number];
  return {
    batch,
    height,
    width,
    channels,
    outHeight,
    outWidth,
    kernelHeight,
    kernelWidth,
    strideY,
    strideX,
    padTop,
    padLeft,
  };
}

const forward: Entry<DepthwiseConv2d> = {
  inputs: ['x', 'weight'],
  output: 'y',
  strided,
  shape: ({ x, weight }, a) => outputShape(x as Shape, weight as Shape, a),
  params: ({ x, weight, y }, a) => geometry(x as Shape, weight as Shape, y as Shape, a),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  multiplyAdds: ({ weight, y }) => size(y as Shape) * (weight?.[0] as number) * (weight?.[1] as number),
  gradient({ y, dy, inputs: { x, weight }, attributes: a, needs }) {
    const [, height, width] = (x as Value).shape as [number, number, number];
    const [kernelHeight, kernelWidth] = (weight as Value).shape as [number, number];
    return {
      x: needs('x')
        ? y.graph.apply(depthwiseConv2dOperator, 'inputGradient', { dy, weight }, { ...a, height, width })
        : undefined,
      weight: needs('weight')
        ? y.graph.apply(depthwiseConv2dOperator, 'weightGradient', { x, dy }, { ...a, kernelHeight, kernelWidth })
        : undefined,
    };
  },
};

/** dx[n, iy, ix, c] = sum over the windows that hold the pixel, in row-major order, of dy[n, oy, ox, c] * weight[ky, kx, c]. */
const inputGradient: Entry<InputGradient> = {
  inputs: ['dy', 'weight'],
  output: 'dx',
  strided,
  shape({ dy, weight }, a) {
    const dx = [(dy as Shape)[0], a.height, a.width, (weight as Shape)[2]] as Shape;
    requireEqual('depthwiseConv2d.inputGradient', 'dy', dy as Shape, outputShape(dx, weight as Shape, a));
    return dx;
  },
  params: ({ dy, weight, dx }, a) => geometry(dx as Shape, weight as Shape, dy as Shape, a),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
  multiplyAdds: ({ dy, weight }) => size(dy as Shape) * (weight?.[0] as number) * (weight?.[1] as number),
};

/** dweight[ky, kx, c] = sum over n, oy, ox of x[n, oy * strideY + ky - padTop, ...] * dy[n, oy, ox, c]: lines, then their sums. */
const weightGradient: Entry<WeightGradient> = {
  inputs: ['x', 'dy'],
  output: 'dweight',
  strided,
  shape({ x, dy }, a) {
    const weight = [a.kernelHeight, a.kernelWidth, (x as Shape)[3] as number];
    requireEqual('depthwiseConv2d.weightGradient', 'dy', dy as Shape, outputShape(x as Shape, weight, a));
    return weight;
  },
  params: ({ x, dy, dweight }, a) => geometry(x as Shape, dweight as Shape, dy as Shape, a),
  launch: ({ dweight }) => ({ invocations: size(dweight as Shape) }),
  multiplyAdds: ({ dy, dweight }) => size(dy as Shape) * (dweight?.[0] as number) * (dweight?.[1] as number),
};

export const depthwiseConv2dOperator = defineOperator({
  name: 'depthwiseConv2d',
  params: {
    batch: 'u32',
    height: 'u32',
    width: 'u32',
    channels: 'u32',
    outHeight: 'u32',
    outWidth: 'u32',
    kernelHeight: 'u32',
    kernelWidth: 'u32',
    strideY: 'u32',
    strideX: 'u32',
    padTop: 'u32',
    padLeft: 'u32',
  },
  entries: { forward, inputGradient, weightGradient },
});

/** A number for all sides or both directions, or each by name. Pixels. */
export interface DepthwiseConv2dOptions {
  /** Default 1. */
  readonly stride?: number | readonly [y: number, x: number];
  /** Zeros around the image. Default 0. */
  readonly padding?: number | readonly [top: number, left: number, bottom: number, right: number];
}

/**
 * Convolution (cross-correlation) of every channel with a filter of its own: the first half of a separable convolution, whose second
 * is a 1x1 `conv2d` with the bias.
 *
 * x [N, height, width, channels], weight [kernelHeight, kernelWidth, channels] -> y [N, outHeight, outWidth, channels],
 * outHeight = floor((height + top + bottom - kernelHeight) / strideY) + 1. Taps outside the image are zero.
 * Source: Howard et al. 2017, "MobileNets", section 3.1. @throws 'input' when shapes do not fit.
 */
export function depthwiseConv2d(x: Value, weight: Value, options: DepthwiseConv2dOptions = {}): Value {
  const { stride = 1, padding = 0 } = options;
  const [strideY, strideX] = typeof stride === 'number' ? [stride, stride] : stride;
  const [padTop, padLeft, padBottom, padRight] =
    typeof padding === 'number' ? [padding, padding, padding, padding] : padding;
  const attributes: DepthwiseConv2d = { strideY, strideX, padTop, padLeft, padBottom, padRight };
  return x.graph.apply(depthwiseConv2dOperator, 'forward', { x, weight }, attributes);
}
