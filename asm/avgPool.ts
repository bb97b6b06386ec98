// avgPool: CPU twin of shaders/avgPool.wgsl. Threads split the pixels of the output; inner loops run over channels.
import { first, last, loadLanes, storeLanes } from './vector';
import { endPixel, endWindow, firstPixel, firstWindow } from './window';

/** Pixels of one direction that window `o` is divided by: those in the image, or those in the padded image. */
// @ts-ignore: decorator
@inline
function extent(o: u32, stride: u32, size: u32, before: u32, after: u32, pixels: u32, countPadding: u32): u32 {
  if (countPadding) return min<u32>(o * stride + size, before + pixels + after) - o * stride;
  return endPixel(o, stride, size, before, pixels) - firstPixel(o, stride, before);
}

export function avgPoolForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, padBottom: u32, padRight: u32, countPadding: u32,
  thread: u32, threads: u32,
): void {
  const pixels = batch * outHeight * outWidth;
  const end = last(pixels, thread, threads);
  const step = <usize>xStride << 2;
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const ox = p % outWidth;
    const line = p / outWidth;
    const oy = line % outHeight;
    const y0 = firstPixel(oy, strideY, padTop);
    const x0 = firstPixel(ox, strideX, padLeft);
    const rows = endPixel(oy, strideY, sizeY, padTop, height) - y0;
    const across = endPixel(ox, strideX, sizeX, padLeft, width) - x0;
    const divisor = f32x4.splat(<f32>(
      extent(oy, strideY, sizeY, padTop, padBottom, height, countPadding) * extent(ox, strideX, sizeX, padLeft, padRight, width, countPadding)));
    const corner = x + <usize>((line / outHeight * height + y0) * width + x0) * step;
    const yp = y + ((<usize>p * yStride) << 2);
    for (let c: u32 = 0; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      let sum = f32x4.splat(0);
      for (let i: u32 = 0; i < rows; i++) {
        let at = corner + <usize>(i * width) * step + (<usize>c << 2);
        let row = f32x4.splat(0);
        for (let j: u32 = 0; j < across; j++) {
          row = f32x4.add(row, loadLanes(at, lanes));
          at += step;
        }
        sum = f32x4.add(sum, row);
      }
      storeLanes(yp + (<usize>c << 2), f32x4.div(sum, divisor), lanes);
    }
  }
}

export function avgPoolInputGradient(
  dy: usize, dyStride: u32, dx: usize, dxStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, padBottom: u32, padRight: u32, countPadding: u32,
  thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const ix = p % width;
    const line = p / width;
    const iy = line % height;
    const dxp = dx + ((<usize>p * dxStride) << 2);
    memory.fill(dxp, 0, <usize>channels << 2);
    const oyEnd = endWindow(iy, strideY, padTop, outHeight);
    const oxEnd = endWindow(ix, strideX, padLeft, outWidth);
    for (let oy = firstWindow(iy, strideY, sizeY, padTop); oy < oyEnd; oy++) {
      for (let ox = firstWindow(ix, strideX, sizeX, padLeft); ox < oxEnd; ox++) {
        const divisor = f32x4.splat(<f32>(
          extent(oy, strideY, sizeY, padTop, padBottom, height, countPadding) * extent(ox, strideX, sizeX, padLeft, padRight, width, countPadding)));
        const dyAt = dy + ((<usize>((line / height * outHeight + oy) * outWidth + ox) * dyStride) << 2);
        for (let c: u32 = 0; c < channels; c += 4) {
          const lanes = min<u32>(4, channels - c);
          const byte = <usize>c << 2;
          const share = f32x4.div(loadLanes(dyAt + byte, lanes), divisor);
          storeLanes(dxp + byte, f32x4.add(loadLanes(dxp + byte, lanes), share), lanes);
        }
      }
    }
  }
}
