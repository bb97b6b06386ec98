import type { Value } from '../graph/graph.ts';
import { defineOperator, type Entry } from '../graph/operator.ts';
import { requireEqual, type Shape, size } from '../graph/shape.ts';
import { type Window, type WindowOptions, window, windowOutput, windowParams, windowValues } from '../graph/window.ts';

const strided = ['x', 'y', 'output', 'dy', 'dx'];

const forward: Entry<Window> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }, w) => windowOutput('maxPool', x as Shape, w),
  params: ({ x, y }, w) => windowValues(x as Shape, y as Shape, w),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient: ({ y, dy, inputs: { x }, attributes }) => ({
    x: y.graph.apply(maxPoolOperator, 'inputGradient', { x, output: y, dy }, attributes),
  }),
};

/** dx[p] = sum of dy over the windows of which p is the first pixel, in row-major order, that holds the maximum. */
const inputGradient: Entry<Window> = {
  inputs: ['x', 'output', 'dy'],
  output: 'dx',
  strided,
  shape({ x, output, dy }, w) {
    const y = windowOutput('maxPool.inputGradient', x as Shape, w);
    requireEqual('maxPool.inputGradient', 'output', output as Shape, y);
    requireEqual('maxPool.inputGradient', 'dy', dy as Shape, y);
    return x as Shape;
  },
  params: ({ x, dy }, w) => windowValues(x as Shape, dy as Shape, w),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const maxPoolOperator = defineOperator({
  name: 'maxPool',
  params: windowParams,
  entries: { forward, inputGradient },
});

/**
 * Largest value of each window; padding never wins.
 *
 * x [N, height, width, channels] -> y [N, outHeight, outWidth, channels], sizes as in `windowOutput`. Where several pixels of a
 * window hold the maximum, the gradient goes to the first in row-major order.
 * @throws 'input' when the padding is more than half the window or no window fits.
 */
export function maxPool(x: Value, options: WindowOptions): Value {
  return x.graph.apply(maxPoolOperator, 'forward', { x }, window(options));
}
