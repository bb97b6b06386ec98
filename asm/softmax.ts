// softmax: CPU twin of shaders/softmax.wgsl. Threads split the rows. Sums: four interleaved partial sums, then their pairwise sum.
import { exp4 } from './exponential';
import { dot, first, last, loadLanes, storeLanes } from './vector';

export function softmaxForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    let largest: f32 = load<f32>(xr);
    for (let c: u32 = 1; c < columns; c++) largest = max<f32>(largest, load<f32>(xr + (<usize>c << 2)));
    let sums = f32x4.splat(0);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      const e = exp4(f32x4.sub(loadLanes(xr + at, lanes), f32x4.splat(largest)));
      storeLanes(yr + at, e, lanes);
      // Lanes behind the row hold no value and add 0.
      sums = f32x4.add(sums, v128.and(e, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(lanes))));
    }
    const sum: f32 = (f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)) + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3));
    const scale = f32x4.splat(<f32>1.0 / sum);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = yr + (<usize>c << 2);
      storeLanes(at, f32x4.mul(loadLanes(at, lanes), scale), lanes);
    }
  }
}

export function softmaxInputGradient(
  output: usize, outputStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const or = output + ((<usize>r * outputStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    const inner = f32x4.splat(dot(or, dyr, columns));
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      storeLanes(dxr + at, f32x4.mul(loadLanes(or + at, lanes), f32x4.sub(loadLanes(dyr + at, lanes), inner)), lanes);
    }
  }
}
