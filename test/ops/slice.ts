import { relu } from '../../src/ops/relu.ts';
import { slice, sliceOperator } from '../../src/ops/slice.ts';
import type { OperatorSpec } from './operator-spec.ts';

const range = (x: readonly number[], options: Readonly<Record<string, unknown>>) => {
  const columns = x[x.length - 1]!;
  const start = options.start as number;
  return { columns, start, channels: (options.channels as number | undefined) ?? columns - start };
};

export const spec: OperatorSpec = {
  operator: sliceOperator,
  inputs: ['x'],
  // `inside`: the source is a result and the reader accepts a channel range, so that a plan reads in place.
  build: ({ x }, { inside, ...options }) =>
    inside ? relu(slice(relu(x!), options as { start: number })) : slice(x!, options as { start: number }),
  forward({ x }, shapes, options, outputShape) {
    const { columns, start, channels } = range(shapes.x!, options);
    return Float64Array.from({ length: outputShape.reduce((a, b) => a * b) }, (_, i) => {
      const v = x![Math.floor(i / channels) * columns + start + (i % channels)]!;
      return options.inside ? Math.max(v, 0) : v;
    });
  },
  gradient({ x }, dy, shapes, options) {
    const { columns, start, channels } = range(shapes.x!, options);
    const dx = new Float64Array(x!.length);
    dy.forEach((d, i) => {
      const at = Math.floor(i / channels) * columns + start + (i % channels);
      dx[at] = options.inside && x![at]! <= 0 ? 0 : d;
    });
    return { x: dx };
  },
  // Values are moved, none is computed.
  bound: () => 0,
  cases: [
    { why: 'the only channel', shapes: { x: [3, 1] }, options: { start: 0 } },
    { why: 'the first channels', shapes: { x: [3, 7] }, options: { start: 0, channels: 3 } },
    { why: 'the middle', shapes: { x: [2, 3, 2, 11] }, options: { start: 4, channels: 5 } },
    { why: 'to the end by default', shapes: { x: [5, 13] }, options: { start: 12 } },
    { why: 'read in place', shapes: { x: [2, 2, 3, 12] }, options: { start: 4, channels: 4, inside: true } },
    { why: 'a range of a range', shapes: { x: [3, 8] }, options: { start: 3, channels: 4 }, slices: ['x'] },
  ],
};
