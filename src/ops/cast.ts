import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { columns, rows, type Shape, size } from '../graph/shape.ts';

interface Cast extends Attributes {
  readonly scale: number;
  readonly min: number;
}

/** From bytes; four of them lie in one 32-bit word, the first in its lowest bits. */
const fromU8: Entry<Cast> = {
  inputs: ['x'],
  output: 'y',
  strided: ['y'],
  shape: ({ x }) => x as Shape,
  params: ({ x }, { scale, min }) => ({ rows: rows(x as Shape), columns: columns(x as Shape), scale, min }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
};

/** From 32-bit integers; rounded to the nearest float where the magnitude exceeds 2^24. */
const fromI32: Entry<Cast> = { ...fromU8 };

/** From float16, two to a word, the first in its low half; the words lie in a tensor that is f32 by name alone. Exact. */
const fromF16: Entry<Cast> = {
  inputs: ['x'],
  output: 'y',
  shape: ({ x }) => [...(x as Shape).slice(0, -1), 2 * columns(x as Shape)],
  params: ({ x }) => ({ rows: rows(x as Shape), columns: columns(x as Shape), scale: 1, min: 0 }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
};

export const castOperator = defineOperator({
  name: 'cast',
  params: { rows: 'u32', columns: 'u32', scale: 'f32', min: 'f32' },
  entries: { fromU8, fromI32, fromF16 },
});

/** Words of two finite float16 [..., n] as floats [..., 2 n], a word's low half first. Not differentiable. */
export const fromHalves = (words: Value): Value =>
  words.graph.apply(castOperator, 'fromF16', { x: words }, { scale: 1, min: 0 });

/**
 * Integers as floats: y = x * scale + min, any shape; x is u8 (pixels, weights quantised to bytes) or i32.
 *
 * Not differentiable. @throws 'input' when x holds floats already, or scale or min are not finite.
 */
export function cast(x: Value, { scale = 1, min = 0 }: { scale?: number; min?: number } = {}): Value {
  if (x.dtype === 'f32') throw new FaceNetError('input', `cast: x must hold u8 or i32, got f32 (${x.name}).`);
  if (!(Number.isFinite(scale) && Number.isFinite(min))) {
    throw new FaceNetError('input', `cast: scale and min must be finite numbers, got ${scale} and ${min}.`);
  }
  return x.graph.apply(castOperator, x.dtype === 'u8' ? 'fromU8' : 'fromI32', { x }, { scale, min });
}
