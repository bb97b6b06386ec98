// tripletSelection: CPU twin of shaders/tripletSelection.wgsl. Threads split the anchors; four candidates are the lanes of a vector.
import { first, last, loadLanes } from './vector';

const NONE: i32 = -1;
const NO_PAIR: i32 = -2;
/** Beyond every distance. */
const FAR: f32 = 3e38;

/** Lanes of the quad at j that hold a negative: another label, and not behind the end. */
// @ts-ignore: decorator
@inline
function negatives(labels: usize, label: i32, j: u32, count: u32): v128 {
  if (j + 4 <= count) return i32x4.ne(v128.load(labels + (<usize>j << 2)), i32x4.splat(label));
  const inside = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count - j));
  return v128.and(inside, i32x4.ne(loadLanes(labels + (<usize>j << 2), count - j), i32x4.splat(label)));
}

// @ts-ignore: decorator
@inline
function quad(row: usize, j: u32, count: u32): v128 {
  return loadLanes(row + (<usize>j << 2), count - j);
}

// @ts-ignore: decorator
@inline
function isPair(labels: usize, a: u32, p: u32): bool {
  return p != a && load<i32>(labels + (<usize>p << 2)) == load<i32>(labels + (<usize>a << 2));
}

/** Index of the first negative at exactly this distance; one exists. */
function firstAt(row: usize, labels: usize, label: i32, count: u32, distance: f32): i32 {
  const wanted = f32x4.splat(distance), own = i32x4.splat(label);
  let j: u32 = 0;
  for (; j + 4 <= count; j += 4) {
    const at = <usize>j << 2;
    const hit = i32x4.bitmask(v128.andnot(f32x4.eq(v128.load(row + at), wanted), i32x4.eq(v128.load(labels + at), own)));
    if (hit) return <i32>j + ctz<i32>(hit);
  }
  for (; j < count; j += 4) {
    const hit = i32x4.bitmask(v128.and(negatives(labels, label, j, count), f32x4.eq(quad(row, j, count), wanted)));
    if (hit) return <i32>j + ctz<i32>(hit);
  }
  return NONE;
}

/** Closest negative beyond the positive; FAR if there is none. */
function closestBeyond(row: usize, labels: usize, label: i32, count: u32, positive: f32): f32 {
  const bound = f32x4.splat(positive), far = f32x4.splat(FAR), own = i32x4.splat(label);
  let best = far;
  let j: u32 = 0;
  for (; j + 4 <= count; j += 4) {
    const at = <usize>j << 2;
    const d = v128.load(row + at);
    const fits = v128.andnot(f32x4.gt(d, bound), i32x4.eq(v128.load(labels + at), own));
    best = f32x4.pmin(best, v128.bitselect(d, far, fits));
  }
  if (j < count) {
    const d = quad(row, j, count);
    best = f32x4.pmin(best, v128.bitselect(d, far, v128.and(negatives(labels, label, j, count), f32x4.gt(d, bound))));
  }
  return min<f32>(min<f32>(f32x4.extract_lane(best, 0), f32x4.extract_lane(best, 1)), min<f32>(f32x4.extract_lane(best, 2), f32x4.extract_lane(best, 3)));
}

/** Farthest of all negatives; -1 if there is none. */
function farthestOfAll(row: usize, labels: usize, label: i32, count: u32): f32 {
  const none = f32x4.splat(-1);
  let worst = none;
  for (let j: u32 = 0; j < count; j += 4) {
    worst = f32x4.pmax(worst, v128.bitselect(quad(row, j, count), none, negatives(labels, label, j, count)));
  }
  return max<f32>(max<f32>(f32x4.extract_lane(worst, 0), f32x4.extract_lane(worst, 1)), max<f32>(f32x4.extract_lane(worst, 2), f32x4.extract_lane(worst, 3)));
}

export function tripletSelectionClosest(
  distances: usize, labels: usize, choice: usize, count: u32, margin: f32, within: u32, easiest: u32, thread: u32, threads: u32,
): void {
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const row = distances + ((<usize>a * count) << 2), answer = choice + ((<usize>a * count) << 2);
    const label = load<i32>(labels + (<usize>a << 2));
    for (let p: u32 = 0; p < count; p++) {
      let chosen = NO_PAIR;
      if (isPair(labels, a, p)) {
        const positive: f32 = load<f32>(row + (<usize>p << 2));
        const best: f32 = closestBeyond(row, labels, label, count, positive);
        chosen = best < FAR && (!within || best < positive + margin) ? firstAt(row, labels, label, count, best) : NONE;
        if (easiest && chosen == NONE) {
          const worst: f32 = farthestOfAll(row, labels, label, count);
          if (worst >= 0) chosen = firstAt(row, labels, label, count, worst);
        }
      }
      store<i32>(answer + (<usize>p << 2), chosen);
    }
  }
}

/** Candidates in the quad at j, one bit a lane. */
// @ts-ignore: decorator
@inline
function fitting(row: usize, labels: usize, label: i32, j: u32, count: u32, positive: f32, limit: f32, beyond: u32, within: u32): i32 {
  const d = quad(row, j, count);
  let mask = negatives(labels, label, j, count);
  if (beyond) mask = v128.and(mask, f32x4.gt(d, f32x4.splat(positive)));
  if (within) mask = v128.and(mask, f32x4.lt(d, f32x4.splat(limit)));
  return i32x4.bitmask(mask);
}

export function tripletSelectionDrawn(
  distances: usize, labels: usize, key: usize, choice: usize, count: u32, margin: f32, beyond: u32, within: u32, unordered: u32,
  thread: u32, threads: u32,
): void {
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const row = distances + ((<usize>a * count) << 2), answer = choice + ((<usize>a * count) << 2);
    const label = load<i32>(labels + (<usize>a << 2));
    for (let p: u32 = 0; p < count; p++) {
      let chosen = NO_PAIR;
      if (isPair(labels, a, p) && (!unordered || a < p)) {
        const positive: f32 = load<f32>(row + (<usize>p << 2)), limit: f32 = positive + margin;
        let candidates: u32 = 0;
        for (let j: u32 = 0; j < count; j += 4) {
          candidates += popcnt<i32>(fitting(row, labels, label, j, count, positive, limit, beyond, within));
        }
        const word = philoxWord(load<u32>(key + 8), a, p, load<u32>(key + 12), load<u32>(key), load<u32>(key + 4));
        let left = <u32>((<u64>word * candidates) >> 32);
        chosen = NONE;
        for (let j: u32 = 0; candidates > 0 && j < count; j += 4) {
          let hits = fitting(row, labels, label, j, count, positive, limit, beyond, within);
          const here = <u32>popcnt<i32>(hits);
          if (left < here) {
            for (; left > 0; left--) hits &= hits - 1;
            chosen = <i32>j + ctz<i32>(hits);
            break;
          }
          left -= here;
        }
      }
      store<i32>(answer + (<usize>p << 2), chosen);
    }
  }
}

/** First word of Philox4x32-10 (Salmon et al., SC 2011). */
function philoxWord(c0: u32, c1: u32, c2: u32, c3: u32, k0: u32, k1: u32): u32 {
  for (let round = 0; round < 10; round++) {
    const product0 = <u64>0xd2511f53 * c0, product1 = <u64>0xcd9e8d57 * c2;
    c0 = <u32>(product1 >> 32) ^ c1 ^ k0;
    c1 = <u32>product1;
    c2 = <u32>(product0 >> 32) ^ c3 ^ k1;
    c3 = <u32>product0;
    k0 += 0x9e3779b9;
    k1 += 0xbb67ae85;
  }
  return c0;
}

export function tripletSelectionEvery(labels: usize, choice: usize, count: u32, code: i32, thread: u32, threads: u32): void {
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const answer = choice + ((<usize>a * count) << 2);
    for (let p: u32 = 0; p < count; p++) store<i32>(answer + (<usize>p << 2), isPair(labels, a, p) ? code : NO_PAIR);
  }
}

/** The farthest positive and the closest negative of each anchor; all its other pairs are left out. */
export function tripletSelectionHardest(distances: usize, labels: usize, choice: usize, count: u32, thread: u32, threads: u32): void {
  const end = last(count, thread, threads);
  for (let a = first(count, thread, threads); a < end; a++) {
    const row = distances + ((<usize>a * count) << 2), answer = choice + ((<usize>a * count) << 2);
    const label = load<i32>(labels + (<usize>a << 2));
    let farthest: f32 = -1, nearest: f32 = FAR, p = NONE, n = NONE;
    for (let j: u32 = 0; j < count; j++) {
      const d: f32 = load<f32>(row + (<usize>j << 2));
      store<i32>(answer + (<usize>j << 2), NO_PAIR);
      if (load<i32>(labels + (<usize>j << 2)) != label) {
        if (d < nearest) {
          nearest = d;
          n = <i32>j;
        }
      } else if (j != a && d > farthest) {
        farthest = d;
        p = <i32>j;
      }
    }
    if (p >= 0) store<i32>(answer + (<usize>p << 2), n);
  }
}
