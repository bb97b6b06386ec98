// add: CPU twin of shaders/add.wgsl. Threads split the rows.
import { first, last } from './vector';

export function addForward(
  a: usize, aStride: u32, b: usize, bStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const begin = first(rows, thread, threads);
  let end = last(rows, thread, threads);
  let width = columns;
  // Dense rows are one long row.
  if (aStride == columns && bStride == columns && yStride == columns) {
    width = (end - begin) * columns;
    end = min<u32>(end, begin + 1);
  }
  for (let r = begin; r < end; r++) {
    const ar = a + ((<usize>r * aStride) << 2);
    const br = b + ((<usize>r * bStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    let c: u32 = 0;
    for (; c + 4 <= width; c += 4) {
      const at = <usize>c << 2;
      v128.store(yr + at, f32x4.add(v128.load(ar + at), v128.load(br + at)));
    }
    for (; c < width; c++) {
      const at = <usize>c << 2;
      store<f32>(yr + at, load<f32>(ar + at) + load<f32>(br + at));
    }
  }
}
