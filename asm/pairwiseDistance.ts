// pairwiseDistance: CPU twin of shaders/pairwiseDistance.wgsl. Threads split the rows. Each distance is four interleaved partial
// sums over the columns and their pairwise sum, wherever the pair lies: y[i, j] = y[j, i] bit for bit.
import { first, last, loadLanes, madd, storeLanes } from './vector';

// @ts-ignore: decorator
@inline
function sumLanes(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** Distance of two rows of `columns` floats. */
function distance(a: usize, b: usize, columns: u32): f32 {
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
function fourDistances(a: usize, b: usize, step: usize, columns: u32): v128 {
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

export function pairwiseDistanceForward(
  a: usize, aStride: u32, b: usize, bStride: u32, y: usize, aRows: u32, bRows: u32, columns: u32, thread: u32, threads: u32,
): void {
  if (a == b && aRows == bRows && aStride == bStride) {
    withItself(a, aStride, y, aRows, columns, thread, threads);
    return;
  }
  const end = last(aRows, thread, threads);
  const step = <usize>bStride << 2;
  for (let i = first(aRows, thread, threads); i < end; i++) {
    const ai = a + ((<usize>i * aStride) << 2);
    const yi = y + ((<usize>i * bRows) << 2);
    let j: u32 = 0;
    for (; j + 4 <= bRows; j += 4) v128.store(yi + (<usize>j << 2), fourDistances(ai, b + <usize>j * step, step, columns));
    for (; j < bRows; j++) store<f32>(yi + (<usize>j << 2), distance(ai, b + <usize>j * step, columns));
  }
}

/** One half of the symmetric matrix is computed, the other copied. Threads take every threads-th row, since rows get shorter. */
function withItself(a: usize, stride: u32, y: usize, count: u32, columns: u32, thread: u32, threads: u32): void {
  const step = <usize>stride << 2, row = <usize>count << 2;
  for (let i = thread; i < count; i += threads) {
    const ai = a + <usize>i * step, yi = y + <usize>i * row;
    let j = i;
    for (; j + 4 <= count; j += 4) {
      v128.store(yi + (<usize>j << 2), fourDistances(ai, a + <usize>j * step, step, columns));
      for (let k = j; k < j + 4; k++) store<f32>(y + <usize>k * row + (<usize>i << 2), load<f32>(yi + (<usize>k << 2)));
    }
    for (; j < count; j++) {
      const d: f32 = distance(ai, a + <usize>j * step, columns);
      store<f32>(yi + (<usize>j << 2), d);
      store<f32>(y + <usize>j * row + (<usize>i << 2), d);
    }
  }
}

/** Lists for each row the pairs with w_ij != 0 in ascending j, as j, 2 w_ij; a 0 in place of a weight ends a list that is not full. */
export function pairwiseDistanceGather(
  dy: usize, list: usize, pointRows: u32, otherRows: u32, rowStep: u32, columnStep: u32, symmetric: u32, thread: u32, threads: u32,
): void {
  const end = last(pointRows, thread, threads);
  for (let i = first(pointRows, thread, threads); i < end; i++) {
    let at = list + ((<usize>i * otherRows) << 3);
    for (let j: u32 = 0; j < otherRows; j++) {
      let w: f32 = load<f32>(dy + ((<usize>i * rowStep + <usize>j * columnStep) << 2));
      if (symmetric) w += load<f32>(dy + ((<usize>j * rowStep + <usize>i * columnStep) << 2));
      if (w == 0) continue;
      store<f32>(at, <f32>j);
      store<f32>(at, <f32>2.0 * w, 4);
      at += 8;
    }
    if (at < list + ((<usize>(i + 1) * otherRows) << 3)) store<f32>(at, 0, 4);
  }
}

/** dpoints[i] = 2 sum over j of w_ij (points[i] - others[j]), over the listed pairs. */
export function pairwiseDistanceGradient(
  points: usize, pointsStride: u32, others: usize, othersStride: u32, pairs: usize, dpoints: usize, pointRows: u32, otherRows: u32,
  columns: u32, thread: u32, threads: u32,
): void {
  const end = last(pointRows, thread, threads);
  for (let i = first(pointRows, thread, threads); i < end; i++) {
    const point = points + ((<usize>i * pointsStride) << 2);
    const result = dpoints + ((<usize>i * columns) << 2);
    memory.fill(result, 0, <usize>columns << 2);
    for (let k: u32 = 0; k < otherRows; k++) {
      const pair = pairs + ((<usize>i * otherRows + k) << 3);
      const w: f32 = load<f32>(pair, 4);
      if (w == 0) break;
      const other = others + ((<usize>load<f32>(pair) * othersStride) << 2);
      const weight = f32x4.splat(w);
      let c: u32 = 0;
      for (; c + 4 <= columns; c += 4) {
        const at = <usize>c << 2;
        v128.store(result + at, madd(weight, f32x4.sub(v128.load(point + at), v128.load(other + at)), v128.load(result + at)));
      }
      if (c < columns) {
        const at = <usize>c << 2, rest = columns - c;
        const d = f32x4.sub(loadLanes(point + at, rest), loadLanes(other + at, rest));
        storeLanes(result + at, madd(weight, d, loadLanes(result + at, rest)), rest);
      }
    }
  }
}

export function pairwiseDistanceSquareRoot(x: usize, y: usize, elements: u32, thread: u32, threads: u32): void {
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i++) store<f32>(y + (<usize>i << 2), sqrt<f32>(load<f32>(x + (<usize>i << 2))));
}

/** 0 at distance 0, where the derivative of a root does not exist. */
export function pairwiseDistanceSquareRootGradient(output: usize, dy: usize, dx: usize, elements: u32, thread: u32, threads: u32): void {
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i++) {
    const at = <usize>i << 2;
    const distance: f32 = load<f32>(output + at);
    store<f32>(dx + at, distance > 0 ? <f32>0.5 * load<f32>(dy + at) / distance : <f32>0.0);
  }
}
