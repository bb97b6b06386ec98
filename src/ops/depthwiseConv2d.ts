import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Kernel, type KernelOptions, kernel, kernelOutput, kernelParams, kernelValues } from '../graph/kernel.ts';
import { defineOperator, type Entry } from '../graph/operator.ts';
import { requireEqual, requireRank, type Shape, size, text } from '../graph/shape.ts';

/** Geometry of a gradient: the convolution's, and the size that the other shapes alone do not tell. */
interface InputGradient extends Kernel {
  readonly height: number;
  readonly width: number;
}
interface WeightGradient extends Kernel {
  readonly kernelHeight: number;
  readonly kernelWidth: number;
}

const strided = ['x', 'y', 'dy', 'dx'];

function outputShape(x: Shape, weight: Shape, a: Kernel): Shape {
  requireRank('depthwiseConv2d', 'x', x, 4);
  requireRank('depthwiseConv2d', 'weight', weight, 3);
  const [batch, , , channels] = x as [number, number, number, number];
  const [, , filters] = weight as [number, number, number];
  if (filters !== channels) {
    throw new FaceNetError(
      'input',
      `depthwiseConv2d: weight must be [kernelHeight, kernelWidth, ${channels}] for x ${text(x)}, got ${text(weight)}.`,
    );
  }
  return [batch, ...kernelOutput('depthwiseConv2d', x, weight, a), channels];
}

const forward: Entry<Kernel> = {
  inputs: ['x', 'weight'],
  output: 'y',
  strided,
  shape: ({ x, weight }, a) => outputShape(x as Shape, weight as Shape, a),
  params: ({ x, weight, y }, a) => kernelValues(x as Shape, weight as Shape, y as Shape, a),
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
  params: ({ dy, weight, dx }, a) => kernelValues(dx as Shape, weight as Shape, dy as Shape, a),
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
  params: ({ x, dy, dweight }, a) => kernelValues(x as Shape, dweight as Shape, dy as Shape, a),
  launch: ({ dweight }) => ({ invocations: size(dweight as Shape) }),
  multiplyAdds: ({ dy, dweight }) => size(dy as Shape) * (dweight?.[0] as number) * (dweight?.[1] as number),
};

export const depthwiseConv2dOperator = defineOperator({
  name: 'depthwiseConv2d',
  params: kernelParams,
  entries: { forward, inputGradient, weightGradient },
});

/**
 * Convolution (cross-correlation) of every channel with a filter of its own: the first half of a separable convolution, whose second
 * is a 1x1 `conv2d` with the bias.
 *
 * x [N, height, width, channels], weight [kernelHeight, kernelWidth, channels] -> y [N, outHeight, outWidth, channels],
 * outHeight = floor((height + top + bottom - kernelHeight) / strideY) + 1. Taps outside the image are zero.
 * Source: Howard et al. 2017, "MobileNets", section 3.1. @throws 'input' when shapes do not fit.
 */
export function depthwiseConv2d(x: Value, weight: Value, options: KernelOptions = {}): Value {
  return x.graph.apply(depthwiseConv2dOperator, 'forward', { x, weight }, kernel(options));
}
