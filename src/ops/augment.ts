import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { requireRank, type Shape, size, text } from '../graph/shape.ts';

/** Numbers in one row of `controls`, and where each group begins. */
export const augmentControls = { matrix: 0, offset: 9, blur: 12, rectangle: 13, fill: 17, columns: 20 } as const;

const forward: Entry<Attributes> = {
  inputs: ['x', 'controls'],
  output: 'y',
  strided: ['x', 'y'],
  shape({ x, controls }) {
    requireRank('augment', 'x', x as Shape, 4);
    if (x?.[3] !== 3) throw new FaceNetError('input', `augment: x must have 3 channels, got ${text(x as Shape)}.`);
    if (controls?.length !== 2 || controls[0] !== x[0] || controls[1] !== augmentControls.columns) {
      throw new FaceNetError(
        'input',
        `augment: controls must be [${text([x[0] as number]).slice(1, -1)}, ${augmentControls.columns}], got ${text(controls as Shape)}.`,
      );
    }
    return x;
  },
  params: ({ x }) => ({ batch: x?.[0] as number, height: x?.[1] as number, width: x?.[2] as number }),
  launch: ({ x }) => ({ invocations: size(x as Shape) / 3 }),
};

export const augmentOperator = defineOperator({
  name: 'augment',
  params: { batch: 'u32', height: 'u32', width: 'u32' },
  entries: { forward },
});

/**
 * Changes pictures by numbers of their own: blur, then colour, then a rectangle painted over.
 *
 * x f32 [N, height, width, 3], controls f32 [N, 20], one row a picture:
 *
 *     0..8   matrix, row-major: out = matrix * in, then offset 9..11
 *     12     blur: (1 - blur) x + blur * mean of the 3x3 pixels around (edge pixels repeated)
 *     13..16 left, top, right, bottom of the rectangle in pixels, right and bottom excluded; empty if right <= left
 *     17..19 its colour
 *
 * Geometry (mirror, rotation, shift, scale) belongs into the placements of warpAffine. Not differentiable: pixels are data.
 * @throws 'input' when shapes do not fit.
 */
export function augment(x: Value, controls: Value): Value {
  return x.graph.apply(augmentOperator, 'forward', { x, controls });
}
