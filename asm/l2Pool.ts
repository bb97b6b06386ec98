// l2Pool: CPU twin of shaders/l2Pool.wgsl. Threads split the pixels, or the lines, of what is written; inner loops run over channels.
import { first, last, loadLanes, madd, storeLanes } from './vector';
import { endPixel, endWindow, firstPixel, firstWindow } from './window';

export function l2PoolForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, epsilon: f32, thread: u32, threads: u32,
): void {
  const pixels = batch * outHeight * outWidth;
  const end = last(pixels, thread, threads);
  const step = <usize>xStride << 2;
  const lineStep = <usize>width * step;
  const small = f32x4.splat(epsilon);
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const ox = p % outWidth;
    const line = p / outWidth;
    const oy = line % outHeight;
    const y0 = firstPixel(oy, strideY, padTop);
    const x0 = firstPixel(ox, strideX, padLeft);
    const rows = endPixel(oy, strideY, sizeY, padTop, height) - y0;
    const across = endPixel(ox, strideX, sizeX, padLeft, width) - x0;
    const corner = x + <usize>((line / outHeight * height + y0) * width + x0) * step;
    const yp = y + ((<usize>p * yStride) << 2);
    let c: u32 = 0;
    for (; c + 8 <= channels; c += 8) {
      let s0 = f32x4.splat(0), s1 = s0;
      let from = corner + (<usize>c << 2);
      for (let i = rows; i; i--) {
        let at = from;
        let r0 = f32x4.splat(0), r1 = r0;
        for (let j = across; j; j--) {
          const v0 = v128.load(at), v1 = v128.load(at, 16);
          r0 = madd(v0, v0, r0);
          r1 = madd(v1, v1, r1);
          at += step;
        }
        s0 = f32x4.add(s0, r0);
        s1 = f32x4.add(s1, r1);
        from += lineStep;
      }
      v128.store(yp + (<usize>c << 2), f32x4.sqrt(f32x4.add(s0, small)));
      v128.store(yp + (<usize>c << 2), f32x4.sqrt(f32x4.add(s1, small)), 16);
    }
    for (; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      let sum = f32x4.splat(0);
      for (let i: u32 = 0; i < rows; i++) {
        let at = corner + <usize>(i * width) * step + (<usize>c << 2);
        let row = f32x4.splat(0);
        for (let j: u32 = 0; j < across; j++) {
          const value = loadLanes(at, lanes);
          row = madd(value, value, row);
          at += step;
        }
        sum = f32x4.add(sum, row);
      }
      storeLanes(yp + (<usize>c << 2), f32x4.sqrt(f32x4.add(sum, small)), lanes);
    }
  }
}

/**
 * dx = x * sum of dy / output over the windows of a pixel, in row-major order. Threads split the lines of dx; each goes over all windows that touch
 * its lines and divides once a window.
 */
export function l2PoolInputGradient(
  x: usize, xStride: u32, output: usize, outputStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32,
  batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const lines = batch * height;
  const end = last(lines, thread, threads);
  const step = <usize>xStride << 2, dxStep = <usize>dxStride << 2;
  for (let line = first(lines, thread, threads); line < end; ) {
    // One image: its lines from `from` to `to`.
    const image = line / height, from = line % height, to = min<u32>(height, from + end - line);
    const pixel = image * height * width;
    const pixelEnd = pixel + to * width;
    for (let p = pixel + from * width; p < pixelEnd; p++) memory.fill(dx + <usize>p * dxStep, 0, <usize>channels << 2);
    const oyEnd = endWindow(to - 1, strideY, padTop, outHeight);
    for (let oy = firstWindow(from, strideY, sizeY, padTop); oy < oyEnd; oy++) {
      const y0 = max<u32>(from, firstPixel(oy, strideY, padTop)), y1 = min<u32>(to, endPixel(oy, strideY, sizeY, padTop, height));
      for (let ox: u32 = 0; ox < outWidth; ox++) {
        const x0 = firstPixel(ox, strideX, padLeft);
        const across = endPixel(ox, strideX, sizeX, padLeft, width) - x0;
        const at = (image * outHeight + oy) * outWidth + ox;
        spreadShare(dx + <usize>(pixel + y0 * width + x0) * dxStep, dxStep, output + ((<usize>at * outputStride) << 2),
          dy + ((<usize>at * dyStride) << 2), channels, width, y1 - y0, across);
      }
    }
    for (let p = pixel + from * width; p < pixelEnd; p++) {
      const xp = x + <usize>p * step, dxp = dx + <usize>p * dxStep;
      for (let c: u32 = 0; c < channels; c += 4) {
        const lanes = min<u32>(4, channels - c);
        const byte = <usize>c << 2;
        storeLanes(dxp + byte, f32x4.mul(loadLanes(xp + byte, lanes), loadLanes(dxp + byte, lanes)), lanes);
      }
    }
    line += to - from;
  }
}

/** dy / length of a window; a window of length 0 gives nothing, whatever 0 divides. */
// @ts-ignore: decorator
@inline
function shareOf(dy: v128, length: v128): v128 {
  return v128.and(f32x4.div(dy, length), f32x4.gt(length, f32x4.splat(0)));
}

/** Adds the share of one window to its `rows` x `across` pixels. */
function spreadShare(dx: usize, dxStep: usize, output: usize, dy: usize, channels: u32, width: u32, rows: u32, across: u32): void {
  const rowStep = <usize>width * dxStep;
  let c: u32 = 0;
  for (; c + 8 <= channels; c += 8) {
    const s0 = shareOf(v128.load(dy), v128.load(output)), s1 = shareOf(v128.load(dy, 16), v128.load(output, 16));
    let row = dx;
    for (let i = rows; i; i--) {
      let to = row;
      for (let j = across; j; j--) {
        v128.store(to, f32x4.add(v128.load(to), s0));
        v128.store(to, f32x4.add(v128.load(to, 16), s1), 16);
        to += dxStep;
      }
      row += rowStep;
    }
    dx += 32;
    output += 32;
    dy += 32;
  }
  for (; c < channels; c += 4) {
    const lanes = min<u32>(4, channels - c);
    const share = shareOf(loadLanes(dy, lanes), loadLanes(output, lanes));
    let row = dx;
    for (let i = rows; i; i--) {
      let to = row;
      for (let j = across; j; j--) {
        storeLanes(to, f32x4.add(loadLanes(to, lanes), share), lanes);
        to += dxStep;
      }
      row += rowStep;
    }
    dx += 16;
    output += 16;
    dy += 16;
  }
}
