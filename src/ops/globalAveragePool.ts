import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { requireRank, type Shape, size } from '../graph/shape.ts';

interface GlobalAveragePoolInputGradient extends Attributes {
  readonly height: number;
  readonly width: number;
}

const strided = ['x', 'y', 'dy', 'dx'];
const values = ([batch, height, width, channels]: Shape) => ({
  batch: batch as number,
  pixels: (height as number) * (width as number),
  channels: channels as number,
});

const forward: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  strided,
  shape({ x }) {
    requireRank('globalAveragePool', 'x', x as Shape, 4);
    return [(x as Shape)[0] as number, (x as Shape)[3] as number];
  },
  params: ({ x }) => values(x as Shape),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  gradient({ y, dy, inputs: { x } }) {
    const [, height, width] = (x as Value).shape as [number, number, number];
    return { x: y.graph.apply(globalAveragePoolOperator, 'inputGradient', { dy }, { height, width }) };
  },
};

/** dx[n, y, x, c] = dy[n, c] / (height * width). */
const inputGradient: Entry<GlobalAveragePoolInputGradient> = {
  inputs: ['dy'],
  output: 'dx',
  strided,
  shape({ dy }, { height, width }) {
    requireRank('globalAveragePool.inputGradient', 'dy', dy as Shape, 2);
    return [(dy as Shape)[0] as number, height, width, (dy as Shape)[1] as number];
  },
  params: ({ dx }) => values(dx as Shape),
  launch: ({ dx }) => ({ invocations: size(dx as Shape) }),
};

export const globalAveragePoolOperator = defineOperator({
  name: 'globalAveragePool',
  params: { batch: 'u32', pixels: 'u32', channels: 'u32' },
  entries: { forward, inputGradient },
});

/** Mean over all pixels: x [N, height, width, channels] -> y [N, channels]. */
export function globalAveragePool(x: Value): Value {
  return x.graph.apply(globalAveragePoolOperator, 'forward', { x });
}
