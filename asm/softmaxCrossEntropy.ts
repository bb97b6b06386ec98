// softmaxCrossEntropy: CPU twin of shaders/softmaxCrossEntropy.wgsl. Threads split the rows.
import { exp4 } from './exponential';
import { first, last, loadLanes, storeLanes } from './vector';

function largestLogit(row: usize, columns: u32): f32 {
  let largest: f32 = load<f32>(row);
  for (let c: u32 = 1; c < columns; c++) largest = max<f32>(largest, load<f32>(row + (<usize>c << 2)));
  return largest;
}

/** Sum of exp(logit - largest): four interleaved partial sums, then their pairwise sum. */
function sumOfExponentials(row: usize, columns: u32, largest: f32): f32 {
  const shift = f32x4.splat(largest);
  let sums = f32x4.splat(0);
  for (let c: u32 = 0; c < columns; c += 4) {
    const lanes = min<u32>(4, columns - c);
    const e = exp4(f32x4.sub(loadLanes(row + (<usize>c << 2), lanes), shift));
    // Lanes behind the row hold no value and add 0.
    sums = f32x4.add(sums, v128.and(e, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(lanes))));
  }
  return (f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)) + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3));
}

/** ln(x) for x >= 1, in f64: x = m 2^e with m in [1, 2), ln m = 2 atanh((m - 1) / (m + 1)) to 1e-9 after a step to the middle. */
function logarithm(x: f32): f32 {
  const bits = reinterpret<i64>(<f64>x);
  const e = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const m = reinterpret<f64>(bits - (e << 52));
  const t = (m - 1.0) / (m + 1.0), q = t * t;
  const series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0)))));
  return <f32>(<f64>e * 0.6931471805599453 + 2.0 * t * series);
}

/** perRow[r] = loss, 1, correct, 0; all 0 for a row without a class. */
export function softmaxCrossEntropyRowLosses(
  logits: usize, logitsStride: u32, labels: usize, perRow: usize, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const row = logits + ((<usize>r * logitsStride) << 2), to = perRow + (<usize>r << 4);
    const label = load<i32>(labels + (<usize>r << 2));
    if (label < 0 || label >= <i32>columns) {
      v128.store(to, f32x4.splat(0));
      continue;
    }
    const largest: f32 = largestLogit(row, columns), own: f32 = load<f32>(row + (<usize>label << 2));
    const loss: f32 = logarithm(sumOfExponentials(row, columns, largest)) + (largest - own);
    v128.store(to, f32x4(loss, 1, own >= largest ? <f32>1.0 : <f32>0.0, 0));
  }
}

export function softmaxCrossEntropyCombine(perRow: usize, result: usize, rows: u32, thread: u32, threads: u32): void {
  if (thread > 0) return;
  let sums = f32x4.splat(0);
  for (let r: u32 = 0; r < rows; r++) sums = f32x4.add(sums, v128.load(perRow + (<usize>r << 4)));
  const counted: f32 = f32x4.extract_lane(sums, 1);
  const factor: f32 = counted > 0 ? <f32>1.0 / counted : <f32>0.0;
  v128.store(result, f32x4(f32x4.extract_lane(sums, 0) * factor, counted, f32x4.extract_lane(sums, 2), factor));
}

export function softmaxCrossEntropyForward(summary: usize, result: usize, thread: u32, threads: u32): void {
  if (thread == 0) store<f32>(result, load<f32>(summary));
}

export function softmaxCrossEntropyInputGradient(
  logits: usize, logitsStride: u32, labels: usize, summary: usize, dy: usize, dlogits: usize, dlogitsStride: u32,
  rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  const factor: f32 = load<f32>(dy) * load<f32>(summary, 12);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const row = logits + ((<usize>r * logitsStride) << 2), to = dlogits + ((<usize>r * dlogitsStride) << 2);
    const label = load<i32>(labels + (<usize>r << 2));
    const hasClass = label >= 0 && label < <i32>columns;
    const largest: f32 = largestLogit(row, columns);
    const scale = f32x4.splat(hasClass ? factor / sumOfExponentials(row, columns, largest) : 0);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      storeLanes(to + at, f32x4.mul(exp4(f32x4.sub(loadLanes(row + at, lanes), f32x4.splat(largest))), scale), lanes);
    }
    if (!hasClass) continue;
    // The own class alone: factor * (probability - 1), without cancelling the product above.
    const at = <usize>label << 2;
    const others: f32 = load<f32>(to + at);
    store<f32>(to + at, others - factor);
  }
}
