// topK: CPU twin of shaders/topK.wgsl. Threads split the parts; each part keeps its k nearest in a sorted list, into which few of the
// rows get. Distances as in pairwiseDistance: four interleaved partial sums and their pairwise sum.
import { distance, fourDistances } from './distance';
import { first, last } from './vector';

const FAR: f32 = 3e38;
const NOBODY: f32 = 3e7;

// @ts-ignore: decorator
@inline
function sumIntegers(v: v128): i32 {
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3);
}

function empty(list: usize, k: u32): void {
  for (let i: u32 = 0; i < k; i++) {
    store<f32>(list + (<usize>i << 2), FAR);
    store<f32>(list + (<usize>(k + i) << 2), NOBODY);
  }
}

/** Puts a row behind all that are as near or nearer; the last one falls out. Rows must come in ascending order. */
function insert(list: usize, k: u32, distance: f32, row: f32): void {
  const rows = list + (<usize>k << 2);
  let at: u32 = k - 1;
  for (; at > 0; at--) {
    const before: f32 = load<f32>(list + (<usize>(at - 1) << 2));
    if (before <= distance) break;
    store<f32>(list + (<usize>at << 2), before);
    store<f32>(rows + (<usize>at << 2), load<f32>(rows + (<usize>(at - 1) << 2)));
  }
  store<f32>(list + (<usize>at << 2), distance);
  store<f32>(rows + (<usize>at << 2), row);
}

/** A last list has -1 in places that are not filled. */
function finish(list: usize, k: u32, outLists: u32): void {
  if (outLists != 1) return;
  for (let i: u32 = 0; i < k; i++) {
    if (load<f32>(list + (<usize>(k + i) << 2)) < NOBODY) continue;
    store<f32>(list + (<usize>i << 2), -1);
    store<f32>(list + (<usize>(k + i) << 2), -1);
  }
}

// @ts-ignore: decorator
@inline
function offerFour(list: usize, k: u32, distances: v128, row: u32): void {
  const limit = list + (<usize>(k - 1) << 2);
  if (!v128.any_true(f32x4.lt(distances, v128.load32_splat(limit)))) return;
  if (f32x4.extract_lane(distances, 0) < load<f32>(limit)) insert(list, k, f32x4.extract_lane(distances, 0), <f32>row);
  if (f32x4.extract_lane(distances, 1) < load<f32>(limit)) insert(list, k, f32x4.extract_lane(distances, 1), <f32>(row + 1));
  if (f32x4.extract_lane(distances, 2) < load<f32>(limit)) insert(list, k, f32x4.extract_lane(distances, 2), <f32>(row + 2));
  if (f32x4.extract_lane(distances, 3) < load<f32>(limit)) insert(list, k, f32x4.extract_lane(distances, 3), <f32>(row + 3));
}

export function topKScan(
  query: usize, templates: usize, count: usize, y: usize, queries: u32, columns: u32, k: u32, part: u32, outLists: u32,
  thread: u32, threads: u32,
): void {
  const known = <u32>max<i32>(load<i32>(count), 0);
  const step = <usize>columns << 2;
  const end = last(outLists, thread, threads);
  for (let p = first(outLists, thread, threads); p < end; p++) {
    const until = min<u32>(known, (p + 1) * part);
    for (let q: u32 = 0; q < queries; q++) {
      const list = y + ((<usize>(q * outLists + p) * k) << 3);
      const asked = query + <usize>q * step;
      empty(list, k);
      let row = p * part;
      for (; row + 4 <= until; row += 4) offerFour(list, k, fourDistances(asked, templates + <usize>row * step, step, columns), row);
      for (; row < until; row++) {
        const d = distance(asked, templates + <usize>row * step, columns);
        if (d < load<f32>(list + (<usize>(k - 1) << 2))) insert(list, k, d, <f32>row);
      }
      finish(list, k, outLists);
    }
  }
}

/** `columns` words of four bytes a row, an even number; the query has two words for each. */
export function topKScanBytes(
  words: usize, queryScale: usize, codes: usize, scales: usize, count: usize, y: usize, queries: u32, columns: u32, k: u32, part: u32,
  outLists: u32, thread: u32, threads: u32,
): void {
  const known = <u32>max<i32>(load<i32>(count), 0);
  const step = <usize>columns << 2;
  const end = last(outLists, thread, threads);
  for (let p = first(outLists, thread, threads); p < end; p++) {
    const until = min<u32>(known, (p + 1) * part);
    for (let q: u32 = 0; q < queries; q++) {
      const list = y + ((<usize>(q * outLists + p) * k) << 3);
      const asked = words + <usize>q * (step << 1);
      const factor: f32 = load<f32>(queryScale + (<usize>q << 3)), shift: f32 = load<f32>(queryScale + (<usize>q << 3), 4);
      empty(list, k);
      let row = p * part;
      for (; row + 4 <= until; row += 4) {
        const a = codes + <usize>row * step, b = a + step, c = b + step, d = c + step;
        let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
        for (let at: usize = 0; at < step; at += 8) {
          const x = v128.load(asked + (at << 1));
          s0 = i32x4.add(s0, i32x4.dot_i16x8_s(x, v128.load8x8_s(a + at)));
          s1 = i32x4.add(s1, i32x4.dot_i16x8_s(x, v128.load8x8_s(b + at)));
          s2 = i32x4.add(s2, i32x4.dot_i16x8_s(x, v128.load8x8_s(c + at)));
          s3 = i32x4.add(s3, i32x4.dot_i16x8_s(x, v128.load8x8_s(d + at)));
        }
        const products = f32x4.convert_i32x4_s(i32x4(sumIntegers(s0), sumIntegers(s1), sumIntegers(s2), sumIntegers(s3)));
        const scaled = f32x4.mul(v128.load(scales + (<usize>row << 2)), products);
        offerFour(list, k, f32x4.sub(f32x4.splat(shift), f32x4.mul(f32x4.splat(factor), scaled)), row);
      }
      for (; row < until; row++) {
        let sum = i32x4.splat(0);
        for (let at: usize = 0; at < step; at += 8)
          sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load(asked + (at << 1)), v128.load8x8_s(codes + <usize>row * step + at)));
        const distance: f32 = shift - factor * (load<f32>(scales + (<usize>row << 2)) * <f32>sumIntegers(sum));
        if (distance < load<f32>(list + (<usize>(k - 1) << 2))) insert(list, k, distance, <f32>row);
      }
      finish(list, k, outLists);
    }
  }
}

/** One list of as many as the shader's memory holds; they come in the order of their rows. */
export function topKMerge(
  lists: usize, y: usize, queries: u32, k: u32, part: u32, inLists: u32, outLists: u32, thread: u32, threads: u32,
): void {
  const together = part / k;
  const all = queries * outLists;
  const end = last(all, thread, threads);
  for (let at = first(all, thread, threads); at < end; at++) {
    const q = at / outLists, out = at % outLists;
    const list = y + ((<usize>at * k) << 3);
    empty(list, k);
    const until = min<u32>(inLists, (out + 1) * together);
    for (let from = out * together; from < until; from++) {
      const source = lists + ((<usize>(q * inLists + from) * k) << 3);
      for (let i: u32 = 0; i < k; i++) {
        const distance: f32 = load<f32>(source + (<usize>i << 2));
        if (!(distance < load<f32>(list + (<usize>(k - 1) << 2)))) break;
        insert(list, k, distance, load<f32>(source + (<usize>(k + i) << 2)));
      }
    }
    finish(list, k, outLists);
  }
}
