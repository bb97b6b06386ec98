// batchNorm: CPU twin of shaders/batchNorm.wgsl. Four columns are the lanes of a vector. Sums run over chunks of CHUNK rows in order,
// then over the chunks in order; threads split chunks and columns, never a chunk.
import { first, last, loadLanes, madd, storeLanes } from './vector';

/** Rows of a chunk, as in src/ops/batchNorm.ts. */
const CHUNK: u32 = 256;

/** 1 / sqrt(variance + epsilon); 0 for a constant channel without epsilon, so that nothing becomes infinite. */
// @ts-ignore: decorator
@inline
function inverseDeviation(variance: v128, epsilon: f32): v128 {
  const square = f32x4.add(variance, f32x4.splat(epsilon));
  return v128.and(f32x4.div(f32x4.splat(1), f32x4.sqrt(square)), f32x4.gt(square, f32x4.splat(0)));
}

export function batchNormForward(
  x: usize, xStride: u32, mean: usize, variance: usize, gamma: usize, beta: usize, y: usize, yStride: u32,
  rows: u32, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const begin = first(rows, thread, threads), end = last(rows, thread, threads);
  for (let c: u32 = 0; c < columns; c += 4) {
    const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
    const average = loadLanes(mean + at, lanes);
    let scale = inverseDeviation(loadLanes(variance + at, lanes), epsilon);
    if (gamma) scale = f32x4.mul(scale, loadLanes(gamma + at, lanes));
    const shift = beta ? loadLanes(beta + at, lanes) : f32x4.splat(0);
    for (let r = begin; r < end; r++) {
      const value = loadLanes(x + ((<usize>r * xStride) << 2) + at, lanes);
      storeLanes(y + ((<usize>r * yStride) << 2) + at, f32x4.add(f32x4.mul(f32x4.sub(value, average), scale), shift), lanes);
    }
  }
}

export function batchNormStack(mean: usize, variance: usize, result: usize, columns: u32, thread: u32, threads: u32): void {
  if (thread > 0) return;
  memory.copy(result, mean, <usize>columns << 2);
  memory.copy(result + (<usize>columns << 2), variance, <usize>columns << 2);
}

export function batchNormFrozenInputGradient(
  dy: usize, dyStride: u32, statistics: usize, gamma: usize, dx: usize, dxStride: u32, rows: u32, columns: u32, groups: u32, epsilon: f32,
  thread: u32, threads: u32,
): void {
  const begin = first(groups * rows, thread, threads), end = last(groups * rows, thread, threads);
  for (let r = begin; r < end; r++) {
    const variance = statistics + ((<usize>(2 * (r / rows) + 1) * columns) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      let scale = inverseDeviation(loadLanes(variance + at, lanes), epsilon);
      if (gamma) scale = f32x4.mul(scale, loadLanes(gamma + at, lanes));
      storeLanes(dx + ((<usize>r * dxStride) << 2) + at, f32x4.mul(loadLanes(dy + ((<usize>r * dyStride) << 2) + at, lanes), scale), lanes);
    }
  }
}

/** Mean and sum of squared deviations of each column over each chunk: partial[(group, chunk), 0 or 1, column]. */
export function batchNormChunkStatistics(
  x: usize, xStride: u32, partial: usize, rows: u32, columns: u32, groups: u32, chunks: u32, thread: u32, threads: u32,
): void {
  const quads = (columns + 3) / 4, items = groups * chunks * quads;
  const end = last(items, thread, threads);
  const step = <usize>xStride << 2;
  for (let item = first(items, thread, threads); item < end; item++) {
    const chunk = item / quads, c = (item % quads) * 4, lanes = min<u32>(4, columns - c);
    const from = (chunk / chunks) * rows + (chunk % chunks) * CHUNK;
    const count = min<u32>(CHUNK, rows - (chunk % chunks) * CHUNK);
    const start = x + <usize>from * step + (<usize>c << 2);
    let sum = f32x4.splat(0);
    for (let r: u32 = 0; r < count; r++) sum = f32x4.add(sum, loadLanes(start + <usize>r * step, lanes));
    const average = f32x4.div(sum, f32x4.splat(<f32>count));
    let square = f32x4.splat(0);
    for (let r: u32 = 0; r < count; r++) {
      const deviation = f32x4.sub(loadLanes(start + <usize>r * step, lanes), average);
      square = madd(deviation, deviation, square);
    }
    const at = partial + ((<usize>chunk * 2 * columns + c) << 2);
    storeLanes(at, average, lanes);
    storeLanes(at + (<usize>columns << 2), square, lanes);
  }
}

/** Combines the chunks of each group and column: mean = sum of n_k mean_k / n, then the squared deviations about it. */
export function batchNormStatisticsOfChunks(
  partial: usize, result: usize, rows: u32, columns: u32, groups: u32, chunks: u32, thread: u32, threads: u32,
): void {
  const quads = (columns + 3) / 4, end = last(groups * quads, thread, threads);
  const row = <usize>columns << 2;
  for (let item = first(groups * quads, thread, threads); item < end; item++) {
    const g = item / quads, c = (item % quads) * 4, lanes = min<u32>(4, columns - c);
    const start = partial + <usize>(g * chunks * 2) * row + (<usize>c << 2);
    let sum = f32x4.splat(0);
    for (let k: u32 = 0; k < chunks; k++) {
      const count = f32x4.splat(<f32>min<u32>(CHUNK, rows - k * CHUNK));
      sum = madd(count, loadLanes(start + <usize>(2 * k) * row, lanes), sum);
    }
    const average = f32x4.div(sum, f32x4.splat(<f32>rows));
    let square = f32x4.splat(0);
    for (let k: u32 = 0; k < chunks; k++) {
      const count = f32x4.splat(<f32>min<u32>(CHUNK, rows - k * CHUNK));
      const deviation = f32x4.sub(loadLanes(start + <usize>(2 * k) * row, lanes), average);
      square = f32x4.add(square, madd(f32x4.mul(count, deviation), deviation, loadLanes(start + <usize>(2 * k + 1) * row, lanes)));
    }
    const at = result + <usize>(2 * g) * row + (<usize>c << 2);
    storeLanes(at, average, lanes);
    storeLanes(at + row, f32x4.div(square, f32x4.splat(<f32>rows)), lanes);
  }
}

export function batchNormNormalise(
  x: usize, xStride: u32, statistics: usize, gamma: usize, beta: usize, y: usize, yStride: u32,
  rows: u32, columns: u32, groups: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const begin = first(groups * rows, thread, threads), end = last(groups * rows, thread, threads);
  for (let r = begin; r < end; r++) {
    const mean = statistics + ((<usize>(2 * (r / rows)) * columns) << 2), variance = mean + (<usize>columns << 2);
    const xr = x + ((<usize>r * xStride) << 2), yr = y + ((<usize>r * yStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      const scale = f32x4.mul(inverseDeviation(loadLanes(variance + at, lanes), epsilon), loadLanes(gamma + at, lanes));
      const centred = f32x4.sub(loadLanes(xr + at, lanes), loadLanes(mean + at, lanes));
      storeLanes(yr + at, f32x4.add(f32x4.mul(centred, scale), loadLanes(beta + at, lanes)), lanes);
    }
  }
}

/** Sum of dy and of dy * (x normalised) of each column over each chunk. */
export function batchNormChunkSums(
  x: usize, xStride: u32, statistics: usize, dy: usize, dyStride: u32, partial: usize,
  rows: u32, columns: u32, groups: u32, chunks: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const quads = (columns + 3) / 4, items = groups * chunks * quads;
  const end = last(items, thread, threads);
  for (let item = first(items, thread, threads); item < end; item++) {
    const chunk = item / quads, c = (item % quads) * 4, lanes = min<u32>(4, columns - c);
    const g = chunk / chunks, from = g * rows + (chunk % chunks) * CHUNK;
    const count = min<u32>(CHUNK, rows - (chunk % chunks) * CHUNK);
    const moments = statistics + ((<usize>(2 * g) * columns + c) << 2);
    const average = loadLanes(moments, lanes), inverse = inverseDeviation(loadLanes(moments + (<usize>columns << 2), lanes), epsilon);
    let sum = f32x4.splat(0), product = sum;
    for (let r: u32 = from; r < from + count; r++) {
      const slope = loadLanes(dy + ((<usize>r * dyStride + c) << 2), lanes);
      const normalised = f32x4.mul(f32x4.sub(loadLanes(x + ((<usize>r * xStride + c) << 2), lanes), average), inverse);
      sum = f32x4.add(sum, slope);
      product = madd(slope, normalised, product);
    }
    const at = partial + ((<usize>chunk * 2 * columns + c) << 2);
    storeLanes(at, sum, lanes);
    storeLanes(at + (<usize>columns << 2), product, lanes);
  }
}

export function batchNormSumsOfChunks(
  partial: usize, result: usize, columns: u32, groups: u32, chunks: u32, thread: u32, threads: u32,
): void {
  const end = last(2 * groups, thread, threads);
  for (let item = first(2 * groups, thread, threads); item < end; item++) {
    const start = partial + ((<usize>((item >> 1) * chunks * 2 + (item & 1)) * columns) << 2);
    const to = result + ((<usize>item * columns) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      let sum = f32x4.splat(0);
      for (let k: u32 = 0; k < chunks; k++) sum = f32x4.add(sum, loadLanes(start + ((<usize>(2 * k) * columns) << 2) + at, lanes));
      storeLanes(to + at, sum, lanes);
    }
  }
}

export function batchNormInputGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, statistics: usize, gamma: usize, sums: usize, dx: usize, dxStride: u32,
  rows: u32, columns: u32, groups: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const begin = first(groups * rows, thread, threads), end = last(groups * rows, thread, threads);
  const share = f32x4.splat(<f32>1.0 / <f32>rows);
  const below = <usize>columns << 2;
  for (let r = begin; r < end; r++) {
    const group = (<usize>(2 * (r / rows)) * columns) << 2;
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      const moments = statistics + group + at, total = sums + group + at;
      const inverse = inverseDeviation(loadLanes(moments + below, lanes), epsilon);
      const normalised = f32x4.mul(f32x4.sub(loadLanes(x + ((<usize>r * xStride) << 2) + at, lanes), loadLanes(moments, lanes)), inverse);
      const pull = f32x4.mul(normalised, f32x4.mul(loadLanes(total + below, lanes), share));
      const slope = f32x4.sub(loadLanes(dy + ((<usize>r * dyStride) << 2) + at, lanes), f32x4.mul(loadLanes(total, lanes), share));
      storeLanes(dx + ((<usize>r * dxStride) << 2) + at,
        f32x4.mul(f32x4.mul(loadLanes(gamma + at, lanes), inverse), f32x4.sub(slope, pull)), lanes);
    }
  }
}

export function batchNormParameterGradient(
  sums: usize, result: usize, columns: u32, groups: u32, row: u32, thread: u32, threads: u32,
): void {
  const end = last(columns, thread, threads);
  for (let c = first(columns, thread, threads); c < end; c++) {
    let sum: f32 = 0;
    for (let g: u32 = 0; g < groups; g++) sum += load<f32>(sums + ((<usize>(2 * g + row) * columns + c) << 2));
    store<f32>(result + (<usize>c << 2), sum);
  }
}

export function batchNormRunningAverage(
  statistics: usize, updated: usize, columns: u32, groups: u32, row: u32, momentum: f32, factor: f32, thread: u32, threads: u32,
): void {
  const end = last(columns, thread, threads);
  for (let c = first(columns, thread, threads); c < end; c++) {
    let sum: f32 = 0;
    for (let g: u32 = 0; g < groups; g++) sum += load<f32>(statistics + ((<usize>(2 * g + row) * columns + c) << 2));
    const batch: f32 = factor * sum / <f32>groups, at = updated + (<usize>c << 2);
    const before: f32 = load<f32>(at);
    store<f32>(at, before + momentum * (batch - before));
  }
}
