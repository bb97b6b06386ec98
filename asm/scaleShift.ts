// scaleShift: CPU twin of shaders/scaleShift.wgsl. Threads split the rows.
import { first, last, loadLanes, madd, storeLanes } from './vector';

export function scaleShiftForward(
  x: usize, xStride: u32, scale: usize, shift: usize, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      storeLanes(yr + at, madd(loadLanes(xr + at, lanes), loadLanes(scale + at, lanes), loadLanes(shift + at, lanes)), lanes);
    }
  }
}

export function scaleShiftInputGradient(
  dy: usize, dyStride: u32, scale: usize, dx: usize, dxStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      storeLanes(dxr + at, f32x4.mul(loadLanes(dyr + at, lanes), loadLanes(scale + at, lanes)), lanes);
    }
  }
}
