// channelPad: CPU twin of shaders/channelPad.wgsl. Threads split the pixels of the output.
import { first, last } from './vector';

export function channelPadForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * outHeight * outWidth;
  const end = last(pixels, thread, threads);
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const line = p / outWidth;
    // Pixels above and to the left wrap to huge numbers, which are outside as well.
    const ix = p % outWidth - padLeft;
    const iy = line % outHeight - padTop;
    const yp = y + ((<usize>p * yStride) << 2);
    if (iy < height && ix < width) {
      memory.copy(yp, x + ((<usize>((line / outHeight * height + iy) * width + ix) * xStride) << 2), <usize>channels << 2);
      memory.fill(yp + (<usize>channels << 2), 0, <usize>(outChannels - channels) << 2);
    } else {
      memory.fill(yp, 0, <usize>outChannels << 2);
    }
  }
}

export function channelPadInputGradient(
  dy: usize, dyStride: u32, dx: usize, dxStride: u32, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const line = p / width;
    const from = (line / height * outHeight + line % height + padTop) * outWidth + p % width + padLeft;
    memory.copy(dx + ((<usize>p * dxStride) << 2), dy + ((<usize>from * dyStride) << 2), <usize>channels << 2);
  }
}
