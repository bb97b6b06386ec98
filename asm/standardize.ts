// standardize: CPU twin of shaders/standardize.wgsl. Threads split the pictures; sums are float64, in the order of the elements.
import { first, last } from './vector';

export function standardizeForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, pixels: u32, channels: u32, thread: u32, threads: u32,
): void {
  const end = last(batch, thread, threads);
  const count: f64 = <f64>pixels * <f64>channels;
  for (let n = first(batch, thread, threads); n < end; n++) {
    const from = x + ((<usize>n * pixels * xStride) << 2);
    const to = y + ((<usize>n * pixels * yStride) << 2);
    let sum: f64 = 0;
    for (let p: u32 = 0; p < pixels; p++) {
      const at = from + ((<usize>p * xStride) << 2);
      for (let c: u32 = 0; c < channels; c++) sum += <f64>load<f32>(at + (<usize>c << 2));
    }
    const mean: f64 = sum / count;
    let square: f64 = 0;
    for (let p: u32 = 0; p < pixels; p++) {
      const at = from + ((<usize>p * xStride) << 2);
      for (let c: u32 = 0; c < channels; c++) {
        const d: f64 = <f64>load<f32>(at + (<usize>c << 2)) - mean;
        square += d * d;
      }
    }
    const scale: f64 = 1.0 / max<f64>(sqrt<f64>(square / count), 1.0 / sqrt<f64>(count));
    for (let p: u32 = 0; p < pixels; p++) {
      const at = from + ((<usize>p * xStride) << 2), into = to + ((<usize>p * yStride) << 2);
      for (let c: u32 = 0; c < channels; c++) {
        store<f32>(into + (<usize>c << 2), <f32>((<f64>load<f32>(at + (<usize>c << 2)) - mean) * scale));
      }
    }
  }
}
