import { type ChannelPadOptions, channelPad, channelPadOperator } from '../../src/ops/channelPad.ts';
import type { OperatorSpec } from './operator-spec.ts';

/** For every element of x in order, the element of y that it becomes. */
function targets(
  x: readonly number[],
  y: readonly number[],
  { top = 0, left = 0 }: Partial<ChannelPadOptions>,
): number[] {
  const [batch, height, width, channels] = x as [number, number, number, number];
  const found: number[] = [];
  for (let n = 0; n < batch; n++) {
    for (let iy = 0; iy < height; iy++) {
      for (let ix = 0; ix < width; ix++) {
        for (let c = 0; c < channels; c++) found.push(((n * y[1]! + iy + top) * y[2]! + ix + left) * y[3]! + c);
      }
    }
  }
  return found;
}

export const spec: OperatorSpec = {
  operator: channelPadOperator,
  inputs: ['x'],
  build: ({ x }, options) => channelPad(x!, options as ChannelPadOptions),
  forward({ x }, shapes, options, outputShape) {
    const y = new Float64Array(outputShape.reduce((a, b) => a * b));
    targets(shapes.x!, outputShape, options).forEach((at, i) => {
      y[at] = x![i]!;
    });
    return y;
  },
  gradient: (_, dy, shapes, options, outputShape) => ({
    x: Float64Array.from(targets(shapes.x!, outputShape, options), (at) => dy[at]!),
  }),
  // Values are moved, none is computed.
  bound: () => 0,
  cases: [
    { why: 'nothing to add', shapes: { x: [1, 1, 1, 1] }, options: {} },
    { why: 'channels alone', shapes: { x: [2, 3, 2, 5] }, options: { channels: 8 } },
    {
      why: 'a down block of dlib: channels doubled, a row and a column',
      shapes: { x: [2, 3, 5, 4] },
      options: { channels: 8, bottom: 1, right: 1 },
    },
    { why: 'rows alone', shapes: { x: [2, 2, 3, 3] }, options: { bottom: 2 } },
    {
      why: 'four different sides (DepthConcat)',
      shapes: { x: [1, 2, 3, 5] },
      options: { top: 3, left: 1, bottom: 4, right: 2, channels: 7 },
    },
    { why: 'a channel range', shapes: { x: [2, 2, 3, 6] }, options: { channels: 9, top: 1, right: 1 }, slices: ['x'] },
  ],
};
