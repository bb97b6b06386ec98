// prelu: CPU twin of shaders/prelu.wgsl. Threads split the rows; in slopeGradient groups of 16 channels (a cache line).
import { first, last, loadLanes, madd, storeLanes } from './vector';

const BLOCK: u32 = 256;
const GROUP: u32 = 16;

export function preluForward(
  x: usize, xStride: u32, slope: usize, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      const value = loadLanes(xr + at, lanes);
      const scaled = f32x4.mul(loadLanes(slope + at, lanes), value);
      storeLanes(yr + at, v128.bitselect(value, scaled, f32x4.gt(value, f32x4.splat(0))), lanes);
    }
  }
}

export function preluInputGradient(
  x: usize, xStride: u32, slope: usize, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    for (let c: u32 = 0; c < columns; c += 4) {
      const lanes = min<u32>(4, columns - c);
      const at = <usize>c << 2;
      const d = loadLanes(dyr + at, lanes);
      const positive = f32x4.gt(loadLanes(xr + at, lanes), f32x4.splat(0));
      storeLanes(dxr + at, v128.bitselect(d, f32x4.mul(loadLanes(slope + at, lanes), d), positive), lanes);
    }
  }
}

// dslope[c] = sum over rows of min(x, 0) * dy: blocks of 256 rows in order, then the blocks in order.
export function preluSlopeGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dslope: usize, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const groups = (columns + GROUP - 1) / GROUP;
  const begin = first(groups, thread, threads) * GROUP;
  const end = min<u32>(columns, last(groups, thread, threads) * GROUP);
  for (let c = begin; c < end; c += 4) {
    const lanes = min<u32>(4, end - c);
    const byte = <usize>c << 2;
    let sum = f32x4.splat(0);
    for (let start: u32 = 0; start < rows; start += BLOCK) {
      const rowEnd = min<u32>(rows, start + BLOCK);
      let block = f32x4.splat(0);
      for (let r = start; r < rowEnd; r++) {
        const negative = f32x4.pmin(f32x4.splat(0), loadLanes(x + ((<usize>r * xStride) << 2) + byte, lanes));
        block = madd(negative, loadLanes(dy + ((<usize>r * dyStride) << 2) + byte, lanes), block);
      }
      sum = f32x4.add(sum, block);
    }
    storeLanes(dslope + byte, sum, lanes);
  }
}
