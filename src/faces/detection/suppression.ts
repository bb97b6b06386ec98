import { FaceNetError } from '../../errors.ts';

/**
 * Boxes that overlap: `count` rows of left, top, right, bottom, and their scores. Plain arrays of numbers or typed arrays.
 */
export interface ScoredBoxes {
  /** 4 numbers a box: left, top, right, bottom. */
  readonly boxes: ArrayLike<number>;
  readonly scores: ArrayLike<number>;
}

export interface SuppressionOptions {
  /** A box is dropped when its overlap with a better one is GREATER than this. */
  readonly threshold: number;
  /** Overlap: intersection over union (default), or over the smaller of the two areas. */
  readonly by?: 'union' | 'minimum';
  /** 1 where corners are pixels that belong to the box (MATLAB's and MTCNN's width = right - left + 1); 0 (default) for edges. */
  readonly inclusive?: 0 | 1;
}

/** Overlap of boxes i and j, 0..1; 0 where one of them has no area. */
export function overlap(
  boxes: ArrayLike<number>,
  i: number,
  j: number,
  { by = 'union', inclusive = 0 }: Pick<SuppressionOptions, 'by' | 'inclusive'> = {},
): number {
  const at = (box: number, side: number) => boxes[box * 4 + side] as number;
  const width = Math.min(at(i, 2), at(j, 2)) - Math.max(at(i, 0), at(j, 0)) + inclusive;
  const height = Math.min(at(i, 3), at(j, 3)) - Math.max(at(i, 1), at(j, 1)) + inclusive;
  if (!(width > 0 && height > 0)) return 0;
  const area = (box: number) => (at(box, 2) - at(box, 0) + inclusive) * (at(box, 3) - at(box, 1) + inclusive);
  const [first, second] = [area(i), area(j)];
  const shared = width * height;
  const whole = by === 'minimum' ? Math.min(first, second) : first + second - shared;
  return whole > 0 ? shared / whole : 0;
}

/**
 * Greedy non-maximum suppression: takes the best box, drops all that overlap it too much, and so on. Exact and deterministic: float64,
 * equal scores in the order of their indices.
 *
 * @returns indices of the boxes kept, by falling score. @throws 'internal' for a score or corner that is not a number.
 */
export function suppress({ boxes, scores }: ScoredBoxes, options: SuppressionOptions): number[] {
  const count = scores.length;
  if (boxes.length !== count * 4)
    throw new FaceNetError(
      'internal',
      `suppress: boxes must hold 4 numbers for each of ${count} scores, got ${boxes.length}.`,
    );
  for (let i = 0; i < count * 4; i++)
    if (Number.isNaN(boxes[i]) || Number.isNaN(scores[i >> 2]))
      throw new FaceNetError('internal', `suppress: boxes and scores must be numbers, got NaN in box ${i >> 2}.`);
  const order = Array.from({ length: count }, (_, index) => index).sort(
    (a, b) => (scores[b] as number) - (scores[a] as number) || a - b,
  );
  const dropped = new Uint8Array(count);
  const kept: number[] = [];
  for (let rank = 0; rank < count; rank++) {
    const best = order[rank] as number;
    if (dropped[best]) continue;
    kept.push(best);
    for (let later = rank + 1; later < count; later++) {
      const other = order[later] as number;
      if (!dropped[other] && overlap(boxes, best, other, options) > options.threshold) dropped[other] = 1;
    }
  }
  return kept;
}
