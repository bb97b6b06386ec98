// Squared L2 distances of rows, as pairwiseDistance computes them: four interleaved partial sums over the columns, then their pairwise sum,
// so that a pair's bits are the same wherever it lies.
import { loadLanes, madd } from './vector';

// @ts-ignore: decorator
@inline
function sumLanes(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** Distance of two rows of `columns` floats. */
export function distance(a: usize, b: usize, columns: u32): f32 {
  let sum = f32x4.splat(0);
  let c: u32 = 0;
  for (; c + 4 <= columns; c += 4) {
    const at = <usize>c << 2;
    const d = f32x4.sub(v128.load(a + at), v128.load(b + at));
    sum = madd(d, d, sum);
  }
  if (c < columns) {
    const at = <usize>c << 2;
    const d = f32x4.sub(loadLanes(a + at, columns - c), loadLanes(b + at, columns - c));
    sum = madd(d, d, sum);
  }
  return sumLanes(sum);
}

/** Distances of a row to four, `step` bytes apart. */
// @ts-ignore: decorator
@inline
export function fourDistances(a: usize, b: usize, step: usize, columns: u32): v128 {
  const b1 = b + step, b2 = b1 + step, b3 = b2 + step;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  let c: u32 = 0;
  for (; c + 4 <= columns; c += 4) {
    const at = <usize>c << 2;
    const x = v128.load(a + at);
    const d0 = f32x4.sub(x, v128.load(b + at)), d1 = f32x4.sub(x, v128.load(b1 + at));
    const d2 = f32x4.sub(x, v128.load(b2 + at)), d3 = f32x4.sub(x, v128.load(b3 + at));
    s0 = madd(d0, d0, s0);
    s1 = madd(d1, d1, s1);
    s2 = madd(d2, d2, s2);
    s3 = madd(d3, d3, s3);
  }
  if (c < columns) {
    const at = <usize>c << 2, rest = columns - c;
    const x = loadLanes(a + at, rest);
    const d0 = f32x4.sub(x, loadLanes(b + at, rest)), d1 = f32x4.sub(x, loadLanes(b1 + at, rest));
    const d2 = f32x4.sub(x, loadLanes(b2 + at, rest)), d3 = f32x4.sub(x, loadLanes(b3 + at, rest));
    s0 = madd(d0, d0, s0);
    s1 = madd(d1, d1, s1);
    s2 = madd(d2, d2, s2);
    s3 = madd(d3, d3, s3);
  }
  return f32x4(sumLanes(s0), sumLanes(s1), sumLanes(s2), sumLanes(s3));
}
