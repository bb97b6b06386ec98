import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, type Shape, size, text } from '../graph/shape.ts';
import { reluOperator } from './relu.ts';

/** Epilogue of a linear layer. */
interface Linear extends Attributes {
  readonly activation: 'none' | 'relu';
}

/** A gradient needs the shape of one image or row of x, [..., channels], which dy and weight do not tell. */
interface LinearInputGradient extends Linear {
  readonly rowShape: readonly number[];
}

const features = (x: Shape) => size(x.slice(1));

function outputShape(x: Shape, weight: Shape): Shape {
  if (x.length < 2) throw new FaceNetError('input', `linear: x must be [N, ..., channels], got ${text(x)}.`);
  requireRank('linear', 'weight', weight, 2);
  if (features(x) !== weight[0]) {
    throw new FaceNetError(
      'input',
      `linear: weight must be [${features(x)}, outputs] for x ${text(x)}, got ${text(weight)}.`,
    );
  }
  return [x[0] as number, weight[1] as number];
}

/** Params of every entry. An image of x is `positions` rows of `channels` numbers; feature p * channels + c is number c of row p. */
function params(x: Shape, outputs: number, { activation }: Linear) {
  return {
    batch: x[0] as number,
    positions: features(x) / columns(x),
    channels: columns(x),
    outputs,
    relu: activation === 'relu' ? 1 : 0,
  };
}

const strided = ['x', 'y', 'dy', 'dx'];

const forward: Entry<Linear> = {
  inputs: ['x', 'weight', 'bias?'],
  output: 'y',
  strided,
  checked: true,
  shape({ x, weight, bias }) {
    const y = outputShape(x as Shape, weight as Shape);
    if (bias) requireEqual('linear', 'bias', bias, [columns(y)]);
    return y;
  },
  params: ({ x, y }, a) => params(x as Shape, columns(y as Shape), a),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  multiplyAdds: ({ x, weight }: Shapes) => ((x as Shape)[0] as number) * size(weight as Shape),
  gradient({ y, dy, inputs: { x, weight, bias }, attributes: a, needs }) {
    const plain: Linear = { activation: 'none' };
    const before = a.activation === 'relu' ? y.graph.apply(reluOperator, 'inputGradient', { output: y, dy }) : dy;
    const rowShape = (x as Value).shape.slice(1);
    return {
      x: needs('x')
        ? y.graph.apply(linearOperator, 'inputGradient', { dy: before, weight }, { ...plain, rowShape })
        : undefined,
      weight: needs('weight') ? y.graph.apply(linearOperator, 'weightGradient', { x, dy: before }, plain) : undefined,
      bias: bias && needs('bias') ? y.graph.apply(linearOperator, 'biasGradient', { dy: before }, plain) : undefined,
    };
  },
};

/** dx[n, i] = sum over o of dy[n, o] * weight[i, o]. */
const inputGradient: Entry<LinearInputGradient> = {
  inputs: ['dy', 'weight'],
  output: 'dx',
  strided,
  shape({ dy, weight }, { rowShape }) {
    const dx = [(dy as Shape)[0] as number, ...rowShape];
    requireEqual('linear.inputGradient', 'dy', dy as Shape, outputShape(dx, weight as Shape));
    return dx;
  },
  params: ({ dy, dx }, a) => params(dx as Shape, columns(dy as Shape), a),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
  multiplyAdds: ({ dy, weight }) => ((dy as Shape)[0] as number) * size(weight as Shape),
};

/** dweight[i, o] = sum over n of x[n, i] * dy[n, o], n ascending. */
const weightGradient: Entry<Linear> = {
  inputs: ['x', 'dy'],
  output: 'dweight',
  strided,
  shape({ x, dy }) {
    requireRank('linear.weightGradient', 'dy', dy as Shape, 2);
    const dweight = [features(x as Shape), columns(dy as Shape)];
    requireEqual('linear.weightGradient', 'dy', dy as Shape, outputShape(x as Shape, dweight));
    return dweight;
  },
  params: ({ x, dy }, a) => params(x as Shape, columns(dy as Shape), a),
  launch: ({ dweight }) => ({ invocations: size(dweight as Shape) }),
  multiplyAdds: ({ x, dweight }) => ((x as Shape)[0] as number) * size(dweight as Shape),
};

/** dbias[o] = sum over n of dy[n, o], n ascending. */
const biasGradient: Entry<Linear> = {
  inputs: ['dy'],
  output: 'dbias',
  strided,
  shape: ({ dy }) => [columns(dy as Shape)],
  params: ({ dy }, a) => params(dy as Shape, columns(dy as Shape), a),
  launch: ({ dbias }) => ({ invocations: size(dbias as Shape) }),
};

export const linearOperator = defineOperator({
  name: 'linear',
  params: { batch: 'u32', positions: 'u32', channels: 'u32', outputs: 'u32', relu: 'u32' },
  entries: { forward, inputGradient, weightGradient, biasGradient },
});

export interface LinearOptions {
  readonly bias?: Value | undefined;
  readonly activation?: 'none' | 'relu';
}

/**
 * Fully connected layer: y[n, o] = activation(bias[o] + sum over i of x[n, i] * weight[i, o]).
 *
 * x [N, ...], flattened per image in its own (row-major, NHWC) order to `in` features; weight [in, outputs], bias [outputs]
 * -> y [N, outputs]. @throws 'input' when shapes do not fit.
 */
export function linear(x: Value, weight: Value, { bias, activation = 'none' }: LinearOptions = {}): Value {
  const attributes: Linear = { activation };
  return x.graph.apply(linearOperator, 'forward', { x, weight, bias }, attributes);
}
