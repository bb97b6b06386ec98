// foldBatchNorm: CPU twin of shaders/foldBatchNorm.wgsl. Runs once a model.
import { first, last, loadLanes, storeLanes } from './vector';

/** gamma / sqrt(variance + epsilon) of `count` (1 to 4) channels, whose first lies at byte `at`. */
// @ts-ignore: decorator
@inline
function factors(variance: usize, gamma: usize, at: usize, epsilon: f32, count: u32): v128 {
  const deviation = f32x4.sqrt(f32x4.add(loadLanes(variance + at, count), f32x4.splat(epsilon)));
  return f32x4.div(gamma ? loadLanes(gamma + at, count) : f32x4.splat(1), deviation);
}

/** Threads split the rows; a cache line of columns at a time. */
export function foldBatchNormFoldedWeight(
  weight: usize, variance: usize, gamma: usize, y: usize, rows: u32, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const from = first(rows, thread, threads), count = last(rows, thread, threads) - from;
  const step = <usize>columns << 2;
  weight += <usize>from * step;
  y += <usize>from * step;
  let c: u32 = 0;
  for (; c + 16 <= columns; c += 16) {
    const at = <usize>c << 2;
    const f0 = factors(variance, gamma, at, epsilon, 4), f1 = factors(variance, gamma, at + 16, epsilon, 4);
    const f2 = factors(variance, gamma, at + 32, epsilon, 4), f3 = factors(variance, gamma, at + 48, epsilon, 4);
    let source = weight + at, to = y + at;
    for (let r = count; r; r--) {
      v128.store(to, f32x4.mul(v128.load(source), f0));
      v128.store(to, f32x4.mul(v128.load(source, 16), f1), 16);
      v128.store(to, f32x4.mul(v128.load(source, 32), f2), 32);
      v128.store(to, f32x4.mul(v128.load(source, 48), f3), 48);
      source += step;
      to += step;
    }
  }
  for (; c < columns; c += 4) {
    const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
    const f = factors(variance, gamma, at, epsilon, lanes);
    let source = weight + at, to = y + at;
    for (let r = count; r; r--) {
      storeLanes(to, f32x4.mul(loadLanes(source, lanes), f), lanes);
      source += step;
      to += step;
    }
  }
}

export function foldBatchNormFoldedBias(
  mean: usize, variance: usize, bias: usize, gamma: usize, beta: usize, y: usize, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  if (thread != 0) return;
  for (let c: u32 = 0; c < columns; c += 4) {
    const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
    const before = bias ? loadLanes(bias + at, lanes) : f32x4.splat(0);
    const centred = f32x4.sub(before, loadLanes(mean + at, lanes));
    const scaled = f32x4.mul(centred, factors(variance, gamma, at, epsilon, lanes));
    storeLanes(y + at, f32x4.add(scaled, beta ? loadLanes(beta + at, lanes) : f32x4.splat(0)), lanes);
  }
}
