// distillation: CPU twin of shaders/distillation.wgsl. Threads split the rows.
import { first, last, loadLanes, madd, storeLanes } from './vector';

export function distillationRowDistances(
  x: usize, xStride: u32, teacher: usize, teacherStride: u32, perRow: usize, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2), tr = teacher + ((<usize>r * teacherStride) << 2);
    let sums = f32x4.splat(0);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      const d = f32x4.sub(loadLanes(xr + at, lanes), loadLanes(tr + at, lanes));
      sums = madd(d, d, sums);
    }
    const sum: f32 = (f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)) + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3));
    store<f32>(perRow + (<usize>r << 2), sum);
  }
}

export function distillationMean(perRow: usize, y: usize, rows: u32, thread: u32, threads: u32): void {
  if (thread > 0) return;
  let sum: f32 = 0;
  for (let r: u32 = 0; r < rows; r++) sum += load<f32>(perRow + (<usize>r << 2));
  store<f32>(y, sum / <f32>rows);
}

export function distillationInputGradient(
  x: usize, xStride: u32, teacher: usize, teacherStride: u32, dy: usize, dx: usize, dxStride: u32, rows: u32, columns: u32,
  thread: u32, threads: u32,
): void {
  const factor = f32x4.splat(<f32>2.0 * load<f32>(dy) / <f32>rows);
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2), tr = teacher + ((<usize>r * teacherStride) << 2), to = dx + ((<usize>r * dxStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const at = <usize>c << 2, lanes = min<u32>(4, columns - c);
      storeLanes(to + at, f32x4.mul(factor, f32x4.sub(loadLanes(xr + at, lanes), loadLanes(tr + at, lanes))), lanes);
    }
  }
}
