import type { Value } from '../graph/graph.ts';
import { defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireEqual, type Shape, size } from '../graph/shape.ts';
import { type Window, type WindowOptions, window, windowOutput, windowParams, windowValues } from '../graph/window.ts';

interface AvgPool extends Window {
  readonly countPadding: boolean;
}
interface AvgPoolInputGradient extends AvgPool {
  readonly height: number;
  readonly width: number;
}

const values = (x: Shape, y: Shape, a: AvgPool) => ({
  ...windowValues(x, y, a),
  padBottom: a.padBottom,
  padRight: a.padRight,
  countPadding: a.countPadding ? 1 : 0,
});

const strided = ['x', 'y', 'dy', 'dx'];

const forward: Entry<AvgPool> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape: ({ x }, a) => windowOutput('avgPool', x as Shape, a),
  params: ({ x, y }, a) => values(x as Shape, y as Shape, a),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient({ y, dy, inputs: { x }, attributes }) {
    const [, height, width] = (x as Value).shape as [number, number, number];
    return { x: y.graph.apply(avgPoolOperator, 'inputGradient', { dy }, { ...attributes, height, width }) };
  },
};

/** dx[p] = sum of dy / divisor over the windows that hold p. */
const inputGradient: Entry<AvgPoolInputGradient> = {
  inputs: ['dy'],
  output: 'dx',
  strided,
  shape({ dy }, a) {
    const dx = [(dy as Shape)[0] as number, a.height, a.width, columns(dy as Shape)];
    requireEqual('avgPool.inputGradient', 'dy', dy as Shape, windowOutput('avgPool.inputGradient', dx, a));
    return dx;
  },
  params: ({ dy, dx }, a) => values(dx as Shape, dy as Shape, a),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const avgPoolOperator = defineOperator({
  name: 'avgPool',
  params: { ...windowParams, padBottom: 'u32', padRight: 'u32', countPadding: 'u32' },
  entries: { forward, inputGradient },
});

export interface AvgPoolOptions extends WindowOptions {
  /** Divides by the pixels of the window that lie in the padded image, instead of those in the image; default false. */
  readonly countPadding?: boolean;
}

/**
 * Mean of each window over the pixels that exist: padding is not averaged in unless `countPadding` asks for it.
 *
 * x [N, height, width, channels] -> y [N, outHeight, outWidth, channels], sizes as in `windowOutput`.
 * @throws 'input' when the padding is more than half the window or no window fits.
 */
export function avgPool(x: Value, options: AvgPoolOptions): Value {
  return x.graph.apply(
    avgPoolOperator,
    'forward',
    { x },
    { ...window(options), countPadding: options.countPadding ?? false },
  );
}
