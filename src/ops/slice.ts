import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, rows, type Shape, size } from '../graph/shape.ts';

/** Channels [start, start + channels) of x. */
interface Slice extends Attributes {
  readonly start: number;
  readonly channels: number;
}

/** Where the gradient lies in x, and how many channels x has. */
interface SliceInputGradient extends Slice {
  readonly inputChannels: number;
}

const forward: Entry<Slice> = {
  inputs: ['x'],
  output: 'y',
  strided: ['x', 'y'],
  shape({ x }, { start, channels }) {
    const available = columns(x as Shape);
    if (
      !(
        Number.isInteger(start) &&
        start >= 0 &&
        Number.isInteger(channels) &&
        channels >= 1 &&
        start + channels <= available
      )
    ) {
      throw new FaceNetError(
        'input',
        `slice: the range must lie in the ${available} channels of x, got ${channels} from ${start}.`,
      );
    }
    return [...(x as Shape).slice(0, -1), channels];
  },
  params: ({ y }, { start }) => ({
    rows: rows(y as Shape),
    columns: columns(y as Shape),
    start,
    width: columns(y as Shape),
  }),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(
      sliceOperator,
      'inputGradient',
      { dy },
      { ...attributes, inputChannels: columns((x as Value).shape) },
    ),
  }),
};

/** dx is dy in its range and 0 outside. */
const inputGradient: Entry<SliceInputGradient> = {
  inputs: ['dy'],
  output: 'dx',
  strided: ['dy', 'dx'],
  shape({ dy }, { start, channels, inputChannels }) {
    if (columns(dy as Shape) !== channels || start + channels > inputChannels) {
      throw new FaceNetError(
        'input',
        `slice.inputGradient: dy must have ${channels} channels of ${inputChannels} from ${start}, got ${columns(dy as Shape)}.`,
      );
    }
    return [...(dy as Shape).slice(0, -1), inputChannels];
  },
  params: ({ dy, dx }, { start }) => ({
    rows: rows(dx as Shape),
    columns: columns(dy as Shape),
    start,
    width: columns(dx as Shape),
  }),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const sliceOperator = defineOperator({
  name: 'slice',
  params: { rows: 'u32', columns: 'u32', start: 'u32', width: 'u32' },
  entries: { forward, inputGradient },
});

/**
 * Channels [start, start + channels) of x [..., c] -> y [..., channels]; by default all from `start` on.
 *
 * Plans make it a view where they can: then no kernel runs. @throws 'input' when the range leaves x.
 */
export function slice(
  x: Value,
  { start, channels = columns(x.shape) - start }: { start: number; channels?: number },
): Value {
  return x.graph.apply(sliceOperator, 'forward', { x }, { start, channels });
}
