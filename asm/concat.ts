// concat: CPU twin of shaders/concat.wgsl. Threads split the rows.
import { copyForward } from './copy';

export function concatForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, start: u32, thread: u32, threads: u32,
): void {
  copyForward(x, xStride, y + (<usize>start << 2), yStride, rows, columns, thread, threads);
}
