import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

const strided = ['x', 'y', 'dy', 'dx'];

const forward: Entry<Attributes> = {
  inputs: ['x', 'scale', 'shift'],
  output: 'y',
  strided,
  shape({ x, scale, shift }) {
    requireEqual('scaleShift', 'scale', scale as Shape, [columns(x as Shape)]);
    requireEqual('scaleShift', 'shift', shift as Shape, [columns(x as Shape)]);
    return x as Shape;
  },
  params: ({ x }) => ({ rows: rows(x as Shape), columns: columns(x as Shape) }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  gradient: ({ y, dy, inputs: { scale } }) => ({
    x: y.graph.apply(scaleShiftOperator, 'inputGradient', { dy, scale }),
  }),
};

/** dx = dy * scale. */
const inputGradient: Entry<Attributes> = {
  inputs: ['dy', 'scale'],
  output: 'dx',
  strided,
  shape({ dy, scale }) {
    requireEqual('scaleShift.inputGradient', 'scale', scale as Shape, [columns(dy as Shape)]);
    return dy as Shape;
  },
  params: ({ dy }) => ({ rows: rows(dy as Shape), columns: columns(dy as Shape) }),
  launch: ({ dy }) => ({ invocations: size(dy as Shape) }),
};

export const scaleShiftOperator = defineOperator({
  name: 'scaleShift',
  params: { rows: 'u32', columns: 'u32' },
  entries: { forward, inputGradient },
});

/** One number for all channels, or one for each. */
export interface ScaleShiftOptions {
  readonly scale?: number | readonly number[];
  readonly shift?: number | readonly number[];
}

/**
 * x * scale + shift, by channel: pixels to the range a network was trained with.
 *
 * x [..., channels] -> y of the same shape; scale defaults to 1, shift to 0. Both are constants, rounded to float32.
 * @throws 'input' when a list does not have one finite number for each channel.
 */
export function scaleShift(x: Value, { scale = 1, shift = 0 }: ScaleShiftOptions): Value {
  const channels = columns(x.shape);
  const constant = (name: string, value: number | readonly number[]) => {
    const list = typeof value === 'number' ? new Array<number>(channels).fill(value) : value;
    if (list.length !== channels || !list.every(Number.isFinite)) {
      throw new FaceNetError(
        'input',
        `scaleShift: ${name} must be a finite number or ${channels} of them, one for each channel, got [${list.join(', ')}].`,
      );
    }
    return x.graph.constant(Float32Array.from(list), [channels]);
  };
  return x.graph.apply(scaleShiftOperator, 'forward', {
    x,
    scale: constant('scale', scale),
    shift: constant('shift', shift),
  });
}
