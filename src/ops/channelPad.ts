import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, type Shape, size } from '../graph/shape.ts';

interface ChannelPad extends Attributes {
  readonly channels: number;
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

/** Geometry of the gradient: the padding's, and the size of its input. */
interface ChannelPadInputGradient extends ChannelPad {
  readonly height: number;
  readonly width: number;
  readonly inputChannels: number;
}

function padded(x: Shape, a: ChannelPad): Shape {
  requireRank('channelPad', 'x', x, 4);
  const [batch, height, width, channels] = x as [number, number, number, number];
  for (const name of ['top', 'left', 'bottom', 'right'] as const) {
    if (!(Number.isInteger(a[name]) && a[name] >= 0)) {
      throw new FaceNetError('input', `channelPad: ${name} must be a whole number from 0, got ${a[name]}.`);
    }
  }
  if (!(Number.isInteger(a.channels) && a.channels >= channels)) {
    throw new FaceNetError(
      'input',
      `channelPad: channels must be a whole number from ${channels}, the channels of x, got ${a.channels}.`,
    );
  }
  return [batch, height + a.top + a.bottom, width + a.left + a.right, a.channels];
}

/** Params of both entries: x is the small image, y the padded one, whichever is read or written. */
function geometry(x: Shape, y: Shape, a: ChannelPad): Record<string, number> {
  const [batch, height, width, channels] = x as [number, number, number, number];
  return {
    batch,
    height,
    width,
    channels,
    outHeight: y[1] as number,
    outWidth: y[2] as number,
    outChannels: columns(y),
    padTop: a.top,
    padLeft: a.left,
  };
}

const strided = ['x', 'y', 'dy', 'dx'];

const forward: Entry<ChannelPad> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }, a) => padded(x as Shape, a),
  params: ({ x, y }, a) => geometry(x as Shape, y as Shape, a),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient({ y, dy, inputs: { x }, attributes }) {
    const [, height, width, inputChannels] = (x as Value).shape as [number, number, number, number];
    return {
      x: y.graph.apply(channelPadOperator, 'inputGradient', { dy }, { ...attributes, height, width, inputChannels }),
    };
  },
};

/** dx is the part of dy that lies over the image. */
const inputGradient: Entry<ChannelPadInputGradient> = {
  inputs: ['dy'],
  output: 'dx',
  strided,
  shape({ dy }, a) {
    const dx = [(dy as Shape)[0] as number, a.height, a.width, a.inputChannels];
    requireEqual('channelPad.inputGradient', 'dy', dy as Shape, padded(dx, a));
    return dx;
  },
  params: ({ dy, dx }, a) => geometry(dx as Shape, dy as Shape, a),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const channelPadOperator = defineOperator({
  name: 'channelPad',
  params: {
    batch: 'u32',
    height: 'u32',
    width: 'u32',
    channels: 'u32',
    outHeight: 'u32',
    outWidth: 'u32',
    outChannels: 'u32',
    padTop: 'u32',
    padLeft: 'u32',
  },
  entries: { forward, inputGradient },
});

/** What to add around an image; nothing where left out. */
export interface ChannelPadOptions {
  /** Channels of the result, the new ones last; default: as many as x has. */
  readonly channels?: number;
  /** Rows of zeros above and below, columns of zeros to the left and right, in pixels. */
  readonly top?: number;
  readonly left?: number;
  readonly bottom?: number;
  readonly right?: number;
}

/**
 * Appends zeros: channels behind the last, rows and columns around the image.
 *
 * x [N, height, width, c] -> y [N, top + height + bottom, left + width + right, channels].
 * Sources: the down blocks of dlib's ResNet (channels, bottom, right); Torch's DepthConcat (all four sides).
 * @throws 'input' when x has more channels than asked for.
 */
export function channelPad(x: Value, options: ChannelPadOptions): Value {
  const { channels = columns(x.shape), top = 0, left = 0, bottom = 0, right = 0 } = options;
  return x.graph.apply(channelPadOperator, 'forward', { x }, { channels, top, left, bottom, right });
}
