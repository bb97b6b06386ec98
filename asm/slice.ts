// slice: CPU twin of shaders/slice.wgsl. Threads split the rows.
import { copyForward } from './copy';
import { first, last } from './vector';

export function sliceForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, start: u32, thread: u32, threads: u32,
): void {
  copyForward(x + (<usize>start << 2), xStride, y, yStride, rows, columns, thread, threads);
}

export function sliceInputGradient(
  dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32, start: u32, width: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const dxr = dx + ((<usize>r * dxStride) << 2);
    memory.fill(dxr, 0, <usize>start << 2);
    memory.copy(dxr + (<usize>start << 2), dy + ((<usize>r * dyStride) << 2), <usize>columns << 2);
    memory.fill(dxr + (<usize>(start + columns) << 2), 0, <usize>(width - start - columns) << 2);
  }
}
