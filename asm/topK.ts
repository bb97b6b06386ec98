// topK: CPU twin of shaders/topK.wgsl. Threads split the parts. A thread keeps the k nearest of all its parts in the list of its first one, so
// that few rows get into a list at all; its other lists stay empty, and what is merged is the same. Each block of rows is searched for all queries,
// four rows and two queries at a time. Products are four interleaved partial sums and their pairwise sum, wherever row and query lie.
import { first, last, loadLanes, madd } from './vector';

/** Rows that are searched for all queries before the next ones: they stay in the first cache. */
const BLOCK: u32 = 32;
const FAR: f32 = 3e38;
const NOBODY: f32 = 3e7;

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

/** Makes the lists of a thread's parts empty. Of all but the first, merging reads no more than the head. */
function emptyLists(y: usize, queries: u32, k: u32, outLists: u32, from: u32, to: u32): void {
  for (let q: u32 = 0; q < queries; q++) {
    const list = y + ((<usize>(q * outLists) * k) << 3);
    empty(list + ((<usize>from * k) << 3), k);
    for (let p = from + 1; p < to; p++) store<f32>(list + ((<usize>p * k) << 3), FAR);
  }
}

export function topKScan(
  query: usize, querySquares: usize, templates: usize, squares: usize, count: usize, y: usize, queries: u32, columns: u32, k: u32,
  part: u32, outLists: u32, thread: u32, threads: u32,
): void {
  const from = first(outLists, thread, threads), to = last(outLists, thread, threads);
  if (from == to) return;
  emptyLists(y, queries, k, outLists, from, to);
  const known = min<u32>(<u32>max<i32>(load<i32>(count), 0), to * part);
  const listStep = (<usize>outLists * k) << 3;
  for (let row = from * part; row < known; row += BLOCK) {
    const until = min<u32>(known, row + BLOCK);
    let list = y + ((<usize>from * k) << 3), asked = query, square = querySquares;
    let q: u32 = 0;
    for (; q + 2 <= queries; q += 2) {
      scanTwo(asked, square, templates, squares, row, until, list, listStep, k, columns);
      list += listStep << 1;
      asked += <usize>columns << 3;
      square += 8;
    }
    if (q < queries) scanOne(asked, square, templates, squares, row, until, list, k, columns);
  }
  for (let q: u32 = 0; q < queries; q++) finish(y + ((<usize>(q * outLists + from) * k) << 3), k, outLists);
}

/** Offers rows [row, until) to the lists of two queries. */
function scanTwo(
  a: usize, square: usize, templates: usize, squares: usize, row: u32, until: u32, list: usize, listStep: usize, k: u32, columns: u32,
): void {
  const step = <usize>columns << 2, whole = <usize>(columns & ~3) << 2, rest = columns & 3;
  const a1 = a + step;
  for (; row + 4 <= until; row += 4) {
    const b = templates + <usize>row * step, b1 = b + step, b2 = b1 + step, b3 = b2 + step;
    let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    for (let at: usize = 0; at < whole; at += 16) {
      const x = v128.load(a + at), z = v128.load(a1 + at);
      const r0 = v128.load(b + at), r1 = v128.load(b1 + at), r2 = v128.load(b2 + at), r3 = v128.load(b3 + at);
      s0 = madd(x, r0, s0);
      s1 = madd(x, r1, s1);
      s2 = madd(x, r2, s2);
      s3 = madd(x, r3, s3);
      t0 = madd(z, r0, t0);
      t1 = madd(z, r1, t1);
      t2 = madd(z, r2, t2);
      t3 = madd(z, r3, t3);
    }
    if (rest) {
      const x = loadLanes(a + whole, rest), z = loadLanes(a1 + whole, rest);
      const r0 = loadLanes(b + whole, rest), r1 = loadLanes(b1 + whole, rest);
      const r2 = loadLanes(b2 + whole, rest), r3 = loadLanes(b3 + whole, rest);
      s0 = madd(x, r0, s0);
      s1 = madd(x, r1, s1);
      s2 = madd(x, r2, s2);
      s3 = madd(x, r3, s3);
      t0 = madd(z, r0, t0);
      t1 = madd(z, r1, t1);
      t2 = madd(z, r2, t2);
      t3 = madd(z, r3, t3);
    }
    const known = v128.load(squares + (<usize>row << 2));
    offerFour(list, k, distances(known, square, fourSums(s0, s1, s2, s3)), row);
    offerFour(list + listStep, k, distances(known, square + 4, fourSums(t0, t1, t2, t3)), row);
  }
  if (row == until) return;
  scanOne(a, square, templates, squares, row, until, list, k, columns);
  scanOne(a1, square + 4, templates, squares, row, until, list + listStep, k, columns);
}

/** Offers rows [row, until) to the list of one query. */
function scanOne(a: usize, square: usize, templates: usize, squares: usize, row: u32, until: u32, list: usize, k: u32, columns: u32): void {
  const step = <usize>columns << 2, whole = <usize>(columns & ~3) << 2, rest = columns & 3;
  for (; row < until; row += 4) {
    // Beyond the last row the last one again, which is then not offered.
    const over = until - row;
    const b = templates + <usize>row * step;
    const b1 = over > 1 ? b + step : b, b2 = over > 2 ? b1 + step : b1, b3 = over > 3 ? b2 + step : b2;
    let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (let at: usize = 0; at < whole; at += 16) {
      const x = v128.load(a + at);
      s0 = madd(x, v128.load(b + at), s0);
      s1 = madd(x, v128.load(b1 + at), s1);
      s2 = madd(x, v128.load(b2 + at), s2);
      s3 = madd(x, v128.load(b3 + at), s3);
    }
    if (rest) {
      const x = loadLanes(a + whole, rest);
      s0 = madd(x, loadLanes(b + whole, rest), s0);
      s1 = madd(x, loadLanes(b1 + whole, rest), s1);
      s2 = madd(x, loadLanes(b2 + whole, rest), s2);
      s3 = madd(x, loadLanes(b3 + whole, rest), s3);
    }
    const found = distances(loadLanes(squares + (<usize>row << 2), over), square, fourSums(s0, s1, s2, s3));
    offerFour(list, k, over < 4 ? firstLanes(found, over) : found, row);
  }
}

/** The first `count` (1 to 3) lanes, then what is offered in vain. */
function firstLanes(found: v128, count: u32): v128 {
  const far = f32x4.replace_lane(found, 3, FAR);
  if (count == 3) return far;
  return count == 2 ? f32x4.replace_lane(far, 2, FAR) : f32x4.replace_lane(f32x4.replace_lane(far, 2, FAR), 1, FAR);
}

// @ts-ignore: decorator
@inline
function distances(known: v128, square: usize, products: v128): v128 {
  return f32x4.sub(f32x4.add(known, v128.load32_splat(square)), f32x4.add(products, products));
}

/** The sum of each vector's lanes, (0 + 1) + (2 + 3). */
// @ts-ignore: decorator
@inline
function fourSums(s0: v128, s1: v128, s2: v128, s3: v128): v128 {
  const low = f32x4.add(v128.shuffle<f32>(s0, s1, 0, 2, 4, 6), v128.shuffle<f32>(s0, s1, 1, 3, 5, 7));
  const high = f32x4.add(v128.shuffle<f32>(s2, s3, 0, 2, 4, 6), v128.shuffle<f32>(s2, s3, 1, 3, 5, 7));
  return f32x4.add(v128.shuffle<f32>(low, high, 0, 2, 4, 6), v128.shuffle<f32>(low, high, 1, 3, 5, 7));
}

/** `columns` words of four bytes a row, an even number; the query has two words for each. */
export function topKScanBytes(
  words: usize, queryScale: usize, codes: usize, scales: usize, count: usize, y: usize, queries: u32, columns: u32, k: u32, part: u32,
  outLists: u32, thread: u32, threads: u32,
): void {
  const from = first(outLists, thread, threads), to = last(outLists, thread, threads);
  if (from == to) return;
  emptyLists(y, queries, k, outLists, from, to);
  const known = min<u32>(<u32>max<i32>(load<i32>(count), 0), to * part);
  const listStep = (<usize>outLists * k) << 3;
  for (let row = from * part; row < known; row += BLOCK) {
    const until = min<u32>(known, row + BLOCK);
    let list = y + ((<usize>from * k) << 3), asked = words, scale = queryScale;
    let q: u32 = 0;
    for (; q + 2 <= queries; q += 2) {
      scanBytesTwo(asked, scale, codes, scales, row, until, list, listStep, k, columns);
      list += listStep << 1;
      asked += <usize>columns << 4;
      scale += 16;
    }
    if (q < queries) scanBytesOne(asked, scale, codes, scales, row, until, list, k, columns);
  }
  for (let q: u32 = 0; q < queries; q++) finish(y + ((<usize>(q * outLists + from) * k) << 3), k, outLists);
}

function scanBytesTwo(
  a: usize, scale: usize, codes: usize, scales: usize, row: u32, until: u32, list: usize, listStep: usize, k: u32, columns: u32,
): void {
  const step = <usize>columns << 2;
  const a1 = a + (step << 1);
  for (; row + 4 <= until; row += 4) {
    const b = codes + <usize>row * step, b1 = b + step, b2 = b1 + step, b3 = b2 + step;
    let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    for (let at: usize = 0; at < step; at += 8) {
      const x = v128.load(a + (at << 1)), z = v128.load(a1 + (at << 1));
      const r0 = v128.load8x8_s(b + at), r1 = v128.load8x8_s(b1 + at), r2 = v128.load8x8_s(b2 + at), r3 = v128.load8x8_s(b3 + at);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(x, r0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(x, r1));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(x, r2));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(x, r3));
      t0 = i32x4.add(t0, i32x4.dot_i16x8_s(z, r0));
      t1 = i32x4.add(t1, i32x4.dot_i16x8_s(z, r1));
      t2 = i32x4.add(t2, i32x4.dot_i16x8_s(z, r2));
      t3 = i32x4.add(t3, i32x4.dot_i16x8_s(z, r3));
    }
    const known = v128.load(scales + (<usize>row << 2));
    offerFour(list, k, byteDistances(known, scale, s0, s1, s2, s3), row);
    offerFour(list + listStep, k, byteDistances(known, scale + 8, t0, t1, t2, t3), row);
  }
  if (row == until) return;
  scanBytesOne(a, scale, codes, scales, row, until, list, k, columns);
  scanBytesOne(a1, scale + 8, codes, scales, row, until, list + listStep, k, columns);
}

function scanBytesOne(a: usize, scale: usize, codes: usize, scales: usize, row: u32, until: u32, list: usize, k: u32, columns: u32): void {
  const step = <usize>columns << 2;
  for (; row < until; row += 4) {
    const over = until - row;
    const b = codes + <usize>row * step;
    const b1 = over > 1 ? b + step : b, b2 = over > 2 ? b1 + step : b1, b3 = over > 3 ? b2 + step : b2;
    let s0 = i32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (let at: usize = 0; at < step; at += 8) {
      const x = v128.load(a + (at << 1));
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(x, v128.load8x8_s(b + at)));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(x, v128.load8x8_s(b1 + at)));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(x, v128.load8x8_s(b2 + at)));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(x, v128.load8x8_s(b3 + at)));
    }
    const found = byteDistances(loadLanes(scales + (<usize>row << 2), over), scale, s0, s1, s2, s3);
    offerFour(list, k, over < 4 ? firstLanes(found, over) : found, row);
  }
}

// @ts-ignore: decorator
@inline
function byteDistances(known: v128, scale: usize, s0: v128, s1: v128, s2: v128, s3: v128): v128 {
  const low = i32x4.add(v128.shuffle<i32>(s0, s1, 0, 2, 4, 6), v128.shuffle<i32>(s0, s1, 1, 3, 5, 7));
  const high = i32x4.add(v128.shuffle<i32>(s2, s3, 0, 2, 4, 6), v128.shuffle<i32>(s2, s3, 1, 3, 5, 7));
  const sums = i32x4.add(v128.shuffle<i32>(low, high, 0, 2, 4, 6), v128.shuffle<i32>(low, high, 1, 3, 5, 7));
  const scaled = f32x4.mul(known, f32x4.convert_i32x4_s(sums));
  return f32x4.sub(v128.load32_splat(scale, 4), f32x4.mul(v128.load32_splat(scale), scaled));
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
