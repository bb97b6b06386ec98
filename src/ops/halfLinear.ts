import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, type Shape, size, text } from '../graph/shape.ts';

interface HalfLinear extends Attributes {
  readonly activation: 'none' | 'relu';
}

const forward: Entry<HalfLinear> = {
  inputs: ['x', 'weight', 'bias?'],
  output: 'y',
  strided: ['x', 'y'],
  checked: true,
  shape({ x, weight, bias }) {
    requireRank('halfLinear', 'weight', weight as Shape, 2);
    const features = size((x as Shape).slice(1));
    const [rows, words] = weight as readonly [number, number];
    if ((x as Shape).length < 2 || features !== rows || words % 4 !== 0) {
      throw new FaceNetError(
        'input',
        `halfLinear: weight must be [${features}, outputs / 2] with outputs a multiple of 8 for x ${text(x as Shape)}, got ${text(weight as Shape)}.`,
      );
    }
    if (bias) requireEqual('halfLinear', 'bias', bias, [2 * words]);
    return [(x as Shape)[0] as number, 2 * words];
  },
  params: ({ x, y }, { activation }) => ({
    batch: x?.[0] as number,
    positions: size((x as Shape).slice(1)) / columns(x as Shape),
    channels: columns(x as Shape),
    outputs: columns(y as Shape),
    relu: activation === 'relu' ? 1 : 0,
  }),
  launch: ({ y }) => ({ invocations: size(y as Shape) / 2 }),
  multiplyAdds: ({ x, weight }) => 2 * (x?.[0] as number) * size(weight as Shape),
};

export const halfLinearOperator = defineOperator({
  name: 'halfLinear',
  params: { batch: 'u32', positions: 'u32', channels: 'u32', outputs: 'u32', relu: 'u32' },
  entries: { forward },
});

export interface HalfLinearOptions {
  readonly bias?: Value | undefined;
  readonly activation?: 'none' | 'relu';
}

/**
 * `linear` with weights kept as float16: y[n, o] = activation(bias[o] + sum over i of x[n, i] * weight[i, o]), computed in float32.
 *
 * x [N, ...]; weight [in, outputs / 2]: words of 32 bits, each holding output 2 w in its low and 2 w + 1 in its high half, all finite; the words lie
 * in a tensor that is f32 by name alone. outputs is a multiple of 8; bias [outputs] f32. Not differentiable: training wants float32 weights.
 * @throws 'input' when shapes do not fit.
 */
export function halfLinear(x: Value, weight: Value, { bias, activation = 'none' }: HalfLinearOptions = {}): Value {
  return x.graph.apply(halfLinearOperator, 'forward', { x, weight, bias }, { activation });
}
