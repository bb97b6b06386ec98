// relu: CPU twin of shaders/relu.wgsl. Threads split the rows.
import { first, last } from './vector';

export function reluForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    let c: u32 = 0;
    for (; c + 4 <= columns; c += 4) {
      const at = <usize>c << 2;
      v128.store(yr + at, f32x4.pmax(f32x4.splat(0), v128.load(xr + at)));
    }
    for (; c < columns; c++) {
      const at = <usize>c << 2;
      const value = load<f32>(xr + at);
      store<f32>(yr + at, value > 0 ? value : <f32>0.0);
    }
  }
}

export function reluInputGradient(
  output: usize, outputStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const or = output + ((<usize>r * outputStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    let c: u32 = 0;
    for (; c + 4 <= columns; c += 4) {
      const at = <usize>c << 2;
      v128.store(dxr + at, v128.and(v128.load(dyr + at), f32x4.gt(v128.load(or + at), f32x4.splat(0))));
    }
    for (; c < columns; c++) {
      const at = <usize>c << 2;
      store<f32>(dxr + at, load<f32>(or + at) > 0 ? load<f32>(dyr + at) : <f32>0.0);
    }
  }
}
