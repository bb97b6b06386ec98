// l2Normalize: CPU twin of shaders/l2Normalize.wgsl. Same formula, same names. Threads split the rows.
import { dot, first, last } from './vector';

export function l2NormalizeForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    const scale: f32 = <f32>1.0 / sqrt<f32>(max<f32>(dot(xr, xr, columns), epsilon));
    for (let c: u32 = 0; c < columns; c++) {
      store<f32>(yr + (<usize>c << 2), load<f32>(xr + (<usize>c << 2)) * scale);
    }
  }
}

export function l2NormalizeInputGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32, epsilon: f32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    const square: f32 = dot(xr, xr, columns);
    const scale: f32 = <f32>1.0 / sqrt<f32>(max<f32>(square, epsilon));
    const pull: f32 = square > epsilon ? dot(xr, dyr, columns) * scale * scale : <f32>0.0;
    for (let c: u32 = 0; c < columns; c++) {
      const at = <usize>c << 2;
      store<f32>(dxr + at, scale * (load<f32>(dyr + at) - load<f32>(xr + at) * pull));
    }
  }
}
