// resize: CPU twin of shaders/resize.wgsl. Threads split the pixels of the output.
import { first, last, loadLanes, madd, storeLanes } from './vector';

export function resizeForward(
  x: usize, xStride: u32, band: usize, y: usize, yStride: u32, images: u32, lines: u32, outLines: u32, pixels: u32, channels: u32, taps: u32,
  thread: u32, threads: u32,
): void {
  const count = images * outLines * pixels;
  const begin = first(count, thread, threads);
  const end = last(count, thread, threads);
  const step = <usize>(pixels * xStride) << 2; // from a line to the next
  let p = begin;
  while (p < end) {
    // Dense pixels of one line are one long pixel.
    const left = pixels - p % pixels;
    const run = xStride == channels && yStride == channels ? min<u32>(left, end - p) : 1;
    const line = p / pixels;
    const weights = band + (<usize>(line % outLines * (taps + 1)) << 2);
    const from = x + ((<usize>((line / outLines * lines + <u32>load<f32>(weights)) * pixels + p % pixels) * xStride) << 2);
    const to = y + ((<usize>p * yStride) << 2);
    const width = run * channels;
    for (let c: u32 = 0; c < width; c += 4) {
      const lanes = min<u32>(4, width - c);
      let at = from + (<usize>c << 2);
      let sum = f32x4.splat(0);
      for (let t: u32 = 1; t <= taps; t++) {
        sum = madd(v128.load32_splat(weights + (<usize>t << 2)), loadLanes(at, lanes), sum);
        at += step;
      }
      storeLanes(to + (<usize>c << 2), sum, lanes);
    }
    p += run;
  }
}
