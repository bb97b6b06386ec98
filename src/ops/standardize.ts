import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, requireRank, rows, type Shape } from '../graph/shape.ts';

const forward: Entry<Attributes> = {
  inputs: ['x'],
  output: 'y',
  strided: ['x', 'y'],
  shape({ x }) {
    requireRank('standardize', 'x', x as Shape, 4);
    return x as Shape;
  },
  params: ({ x }) => {
    const batch = x?.[0] as number;
    return { batch, pixels: rows(x as Shape) / batch, channels: columns(x as Shape) };
  },
  launch: ({ x }) => ({ workgroups: [x?.[0] as number] }),
};

export const standardizeOperator = defineOperator({
  name: 'standardize',
  params: { batch: 'u32', pixels: 'u32', channels: 'u32' },
  entries: { forward },
});

/**
 * Gives each picture mean 0 and standard deviation 1 over all its pixels and channels: y = (x - mean) / max(deviation, 1 / sqrt(n)), where
 * n = height * width * channels and the deviation is that of the population. A picture of one colour becomes zeros.
 *
 * x f32 [N, height, width, channels] -> y of the same shape. Not differentiable: pixels are data; `gradients` says so. Source:
 * davidsandberg/facenet, src/facenet.py `prewhiten`; tf.image.per_image_standardization is the same. @throws 'input' for another rank.
 */
export function standardize(x: Value): Value {
  return x.graph.apply(standardizeOperator, 'forward', { x });
}
