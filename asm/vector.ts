// What the twins share: how threads split work, and inner loops over contiguous floats.
// The order of every sum here is fixed by the length alone, so results do not depend on the number of threads.

/** First of `count` items of this thread; thread t works on [first, last). */
// @ts-ignore: decorator
@inline
export function first(count: u32, thread: u32, threads: u32): u32 {
  return <u32>((<u64>count * thread) / threads);
}

/** One past the last of `count` items of this thread. */
// @ts-ignore: decorator
@inline
export function last(count: u32, thread: u32, threads: u32): u32 {
  return <u32>((<u64>count * (thread + 1)) / threads);
}

/** Sum of a[i] * b[i]: four interleaved partial sums, then their pairwise sum, then the tail. */
export function dot(a: usize, b: usize, count: u32): f32 {
  let sum = f32x4.splat(0);
  let i: u32 = 0;
  for (; i + 4 <= count; i += 4) {
    sum = f32x4.add(sum, f32x4.mul(v128.load(a + (<usize>i << 2)), v128.load(b + (<usize>i << 2))));
  }
  let total: f32 = (f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
  for (; i < count; i++) total += load<f32>(a + (<usize>i << 2)) * load<f32>(b + (<usize>i << 2));
  return total;
}

/** a * b + c per lane: one rounding in the relaxed build, two in the plain one. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  else return f32x4.add(c, f32x4.mul(a, b));
}

/** The `count` (1 to 4) floats at `address`, then zeros. Reads nothing behind them. */
// @ts-ignore: decorator
@inline
export function loadLanes(address: usize, count: u32): v128 {
  if (count >= 4) return v128.load(address);
  if (count == 3) return v128.load_lane<f32>(address + 8, v128.load64_zero(address), 2);
  if (count == 2) return v128.load64_zero(address);
  return v128.load32_zero(address);
}

/** Stores the first `count` (1 to 4) lanes and touches nothing behind them. */
// @ts-ignore: decorator
@inline
export function storeLanes(address: usize, value: v128, count: u32): void {
  if (count >= 4) {
    v128.store(address, value);
    return;
  }
  if (count >= 2) {
    v128.store64_lane(address, value, 0);
    if (count == 3) v128.store32_lane(address + 8, value, 2);
    return;
  }
  v128.store32_lane(address, value, 0);
}

/** Rows that `sumRows` adds up before it adds to the total: keeps the error of long sums near that of a tree. */
const SUM_BLOCK: u32 = 128;

/**
 * sums[c] = sum over rows of values[r, c]: blocks of 128 rows in order, their sums in order. Threads split the columns, in groups of
 * sixteen: a cache line.
 */
export function sumRows(thread: u32, threads: u32, values: usize, stride: u32, rows: u32, columns: u32, sums: usize): void {
  const groups = (columns + 15) >> 4;
  const end = last(groups, thread, threads);
  const step = <usize>stride << 2;
  for (let group = first(groups, thread, threads); group < end; group++) {
    const column = group << 4;
    const from = values + (<usize>column << 2), to = sums + (<usize>column << 2);
    if (columns - column >= 16) {
      let t0 = f32x4.splat(0), t1 = t0, t2 = t0, t3 = t0;
      for (let start: u32 = 0; start < rows; start += SUM_BLOCK) {
        let a = from + <usize>start * step;
        let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
        for (let r = min<u32>(SUM_BLOCK, rows - start); r; r--) {
          s0 = f32x4.add(s0, v128.load(a));
          s1 = f32x4.add(s1, v128.load(a, 16));
          s2 = f32x4.add(s2, v128.load(a, 32));
          s3 = f32x4.add(s3, v128.load(a, 48));
          a += step;
        }
        t0 = f32x4.add(t0, s0);
        t1 = f32x4.add(t1, s1);
        t2 = f32x4.add(t2, s2);
        t3 = f32x4.add(t3, s3);
      }
      v128.store(to, t0);
      v128.store(to, t1, 16);
      v128.store(to, t2, 32);
      v128.store(to, t3, 48);
      continue;
    }
    for (let c = column; c < columns; c += 4) {
      const count = min<u32>(4, columns - c);
      const at = <usize>(c - column) << 2;
      let total = f32x4.splat(0);
      for (let start: u32 = 0; start < rows; start += SUM_BLOCK) {
        let a = from + at + <usize>start * step;
        let sum = f32x4.splat(0);
        for (let r = min<u32>(SUM_BLOCK, rows - start); r; r--) {
          sum = f32x4.add(sum, loadLanes(a, count));
          a += step;
        }
        total = f32x4.add(total, sum);
      }
      storeLanes(to + at, total, count);
    }
  }
}
