// copy: CPU twin of shaders/copy.wgsl. Threads split the rows. Also what concat and slice are made of.
import { first, last } from './vector';

export function copyForward(x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32): void {
  const begin = first(rows, thread, threads);
  let end = last(rows, thread, threads);
  let bytes = <usize>columns << 2;
  // Dense rows are one long row.
  if (xStride == columns && yStride == columns) {
    bytes *= end - begin;
    end = min<u32>(end, begin + 1);
  }
  for (let r = begin; r < end; r++) memory.copy(y + ((<usize>r * yStride) << 2), x + ((<usize>r * xStride) << 2), bytes);
}
