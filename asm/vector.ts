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
