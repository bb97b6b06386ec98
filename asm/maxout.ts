// maxout: CPU twin of shaders/maxout.wgsl. Threads split the rows.
import { first, last, loadLanes, storeLanes } from './vector';

export function maxoutForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, pieces: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      let largest = loadLanes(xr + (<usize>c << 2), lanes);
      for (let p: u32 = 1; p < pieces; p++) largest = f32x4.pmax(largest, loadLanes(xr + (<usize>(p * columns + c) << 2), lanes));
      storeLanes(yr + (<usize>c << 2), largest, lanes);
    }
  }
}

export function maxoutInputGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32, pieces: u32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      let largest = loadLanes(xr + (<usize>c << 2), lanes);
      for (let p: u32 = 1; p < pieces; p++) largest = f32x4.pmax(largest, loadLanes(xr + (<usize>(p * columns + c) << 2), lanes));
      const d = loadLanes(dyr + (<usize>c << 2), lanes);
      // Lanes whose maximum has not been met yet.
      let open = i32x4.splat(-1);
      for (let p: u32 = 0; p < pieces; p++) {
        const at = <usize>(p * columns + c) << 2;
        const winner = v128.and(open, f32x4.eq(loadLanes(xr + at, lanes), largest));
        storeLanes(dxr + at, v128.and(d, winner), lanes);
        open = v128.andnot(open, winner);
      }
    }
  }
}
