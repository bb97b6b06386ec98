// depthwiseConv2d: CPU twin of shaders/depthwiseConv2d.wgsl. Threads split output lines by blocks of sixteen channels (a cache line); the four
// lanes of a vector are channels. 3x3 windows that lie in the image keep their nine weights in registers along a line.
import { first, last, loadLanes, madd, storeLanes } from './vector';

/** Channels of a block: a cache line. */
const BLOCK: u32 = 16;

/** One output pixel, four channels of which `lanes` exist: taps [y0, y1) x [x0, x1) of the window, in row-major order. */
// @ts-ignore: decorator
@inline
function taps(
  corner: usize, rowStep: usize, step: usize, weight: usize, weightRow: usize, weightStep: usize, y0: i32, y1: i32, x0: i32, x1: i32, lanes: u32,
): v128 {
  let sum = f32x4.splat(0);
  for (let ky = y0; ky < y1; ky++) {
    let at = corner + <usize>ky * rowStep + <usize>x0 * step;
    let w = weight + <usize>ky * weightRow + <usize>x0 * weightStep;
    for (let kx = x0; kx < x1; kx++) {
      sum = madd(loadLanes(at, lanes), loadLanes(w, lanes), sum);
      at += step;
      w += weightStep;
    }
  }
  return sum;
}

/** Pixels [from, to) of an output line, four channels, 3x3 windows in the image. `at`: first tap of pixel `from`; `y`: that pixel. */
function line3x3(at: usize, rowStep: usize, step: usize, strideX: u32, weight: usize, weightStep: usize, y: usize, yStep: usize, count: u32): void {
  const w0 = v128.load(weight), w1 = v128.load(weight + weightStep), w2 = v128.load(weight + 2 * weightStep);
  const w3 = v128.load(weight + 3 * weightStep), w4 = v128.load(weight + 4 * weightStep), w5 = v128.load(weight + 5 * weightStep);
  const w6 = v128.load(weight + 6 * weightStep), w7 = v128.load(weight + 7 * weightStep), w8 = v128.load(weight + 8 * weightStep);
  const zero = f32x4.splat(0);
  const move = <usize>strideX * step;
  let a = at, b = at + rowStep, c = b + rowStep, to = y;
  if (strideX == 1) {
    // Two neighbours share two of their three columns.
    for (; count >= 2; count -= 2) {
      let v = v128.load(a);
      let s = madd(v, w0, zero);
      v = v128.load(a + step);
      s = madd(v, w1, s);
      let t = madd(v, w0, zero);
      v = v128.load(a + 2 * step);
      s = madd(v, w2, s);
      t = madd(v, w1, t);
      t = madd(v128.load(a + 3 * step), w2, t);
      s = madd(v128.load(b), w3, s);
      v = v128.load(b + step);
      s = madd(v, w4, s);
      t = madd(v, w3, t);
      v = v128.load(b + 2 * step);
      s = madd(v, w5, s);
      t = madd(v, w4, t);
      t = madd(v128.load(b + 3 * step), w5, t);
      s = madd(v128.load(c), w6, s);
      v = v128.load(c + step);
      s = madd(v, w7, s);
      t = madd(v, w6, t);
      v = v128.load(c + 2 * step);
      s = madd(v, w8, s);
      t = madd(v, w7, t);
      t = madd(v128.load(c + 3 * step), w8, t);
      v128.store(to, s);
      v128.store(to + yStep, t);
      a += 2 * step;
      b += 2 * step;
      c += 2 * step;
      to += 2 * yStep;
    }
  }
  for (; count; count--) {
    let s = madd(v128.load(a), w0, zero);
    s = madd(v128.load(a + step), w1, s);
    s = madd(v128.load(a + 2 * step), w2, s);
    s = madd(v128.load(b), w3, s);
    s = madd(v128.load(b + step), w4, s);
    s = madd(v128.load(b + 2 * step), w5, s);
    s = madd(v128.load(c), w6, s);
    s = madd(v128.load(c + step), w7, s);
    s = madd(v128.load(c + 2 * step), w8, s);
    v128.store(to, s);
    a += move;
    b += move;
    c += move;
    to += yStep;
  }
}

export function depthwiseConv2dForward(
  x: usize, xStride: u32, weight: usize, y: usize, yStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const blocks = (channels + BLOCK - 1) / BLOCK;
  const items = batch * outHeight * blocks;
  const end = last(items, thread, threads);
  const step = <usize>xStride << 2, yStep = <usize>yStride << 2, weightStep = <usize>channels << 2;
  const rowStep = <usize>width * step, weightRow = <usize>kernelWidth * weightStep;
  // Pixels of a line whose windows lie in the image from left to right.
  const from = min<u32>((padLeft + strideX - 1) / strideX, outWidth);
  const to = width + padLeft < kernelWidth ? from : max<u32>(from, min<u32>((width + padLeft - kernelWidth) / strideX + 1, outWidth));
  for (let item = first(items, thread, threads); item < end; item++) {
    const line = item / blocks, block = item % blocks * BLOCK;
    const top = <i32>(line % outHeight * strideY) - <i32>padTop;
    const y0 = max<i32>(0, -top), y1 = min<i32>(<i32>kernelHeight, <i32>height - top);
    // May lie before the image: taps there are left out.
    const row = x + <usize>(<i32>(line / outHeight * height) + top) * rowStep;
    const inside = kernelHeight == 3 && kernelWidth == 3 && y0 == 0 && y1 == 3;
    for (let c = block; c < min<u32>(block + BLOCK, channels); c += 4) {
      const lanes = min<u32>(4, channels - c);
      const byte = <usize>c << 2;
      const w = weight + byte;
      let yp = y + <usize>(line * outWidth) * yStep + byte;
      let ox: u32 = 0;
      while (ox < outWidth) {
        const left = <i32>(ox * strideX) - <i32>padLeft;
        const corner = row + <usize>left * step + byte;
        if (inside && lanes == 4 && ox == from && to > from) {
          line3x3(corner, rowStep, step, strideX, w, weightStep, yp, yStep, to - from);
          yp += <usize>(to - from) * yStep;
          ox = to;
          continue;
        }
        const x0 = max<i32>(0, -left), x1 = min<i32>(<i32>kernelWidth, <i32>width - left);
        storeLanes(yp, taps(corner, rowStep, step, w, weightRow, weightStep, y0, y1, x0, x1, lanes), lanes);
        yp += yStep;
        ox++;
      }
    }
  }
}

// Gathers: for each pixel of x the windows that hold it, in row-major order.
export function depthwiseConv2dInputGradient(
  dy: usize, dyStride: u32, weight: usize, dx: usize, dxStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  const step = <usize>dyStride << 2, weightStep = <usize>channels << 2;
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const line = p / width;
    const v = line % height + padTop, u = p % width + padLeft;
    // The first window reaches the pixel, the last begins before or at it.
    const oy0 = (max<u32>(v + 1, kernelHeight) - kernelHeight + strideY - 1) / strideY, oy1 = min<u32>(v / strideY + 1, outHeight);
    const ox0 = (max<u32>(u + 1, kernelWidth) - kernelWidth + strideX - 1) / strideX, ox1 = min<u32>(u / strideX + 1, outWidth);
    const image = line / height * outHeight;
    const dxp = dx + ((<usize>p * dxStride) << 2);
    for (let c: u32 = 0; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      const byte = <usize>c << 2;
      let sum = f32x4.splat(0);
      for (let oy = oy0; oy < oy1; oy++) {
        const w = weight + <usize>((v - oy * strideY) * kernelWidth) * weightStep + byte;
        const from = dy + <usize>((image + oy) * outWidth) * step + byte;
        for (let ox = ox0; ox < ox1; ox++) {
          sum = madd(loadLanes(from + <usize>ox * step, lanes), loadLanes(w + <usize>(u - ox * strideX) * weightStep, lanes), sum);
        }
      }
      storeLanes(dxp + byte, sum, lanes);
    }
  }
}

// Threads split taps by blocks of channels. Each output line is summed from left to right, then the lines from top to bottom.
export function depthwiseConv2dWeightGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const blocks = (channels + BLOCK - 1) / BLOCK;
  const items = kernelHeight * kernelWidth * blocks;
  const end = last(items, thread, threads);
  const step = <usize>xStride << 2, dyStep = <usize>dyStride << 2, move = <usize>strideX * step;
  for (let item = first(items, thread, threads); item < end; item++) {
    const tap = item / blocks, block = item % blocks * BLOCK;
    const ky = <i32>(tap / kernelWidth), kx = <i32>(tap % kernelWidth);
    // Output pixels whose tap lies in the image.
    const reach = <i32>width + <i32>padLeft - kx;
    const ox0 = kx >= <i32>padLeft ? 0 : (padLeft - <u32>kx + strideX - 1) / strideX;
    const ox1 = reach <= 0 ? 0 : min<u32>((<u32>reach + strideX - 1) / strideX, outWidth);
    for (let c = block; c < min<u32>(block + BLOCK, channels); c += 4) {
      const lanes = min<u32>(4, channels - c);
      const byte = <usize>c << 2;
      let total = f32x4.splat(0);
      for (let line: u32 = 0; line < batch * outHeight; line++) {
        const iy = <i32>(line % outHeight * strideY) + ky - <i32>padTop;
        if (iy < 0 || iy >= <i32>height) continue;
        let from = dy + <usize>(line * outWidth + ox0) * dyStep + byte;
        let at = x + <usize>((<i32>(line / outHeight * height) + iy) * <i32>width + <i32>(ox0 * strideX) + kx - <i32>padLeft) * step + byte;
        let sum = f32x4.splat(0);
        for (let ox = ox0; ox < ox1; ox++) {
          sum = madd(loadLanes(at, lanes), loadLanes(from, lanes), sum);
          at += move;
          from += dyStep;
        }
        total = f32x4.add(total, sum);
      }
      storeLanes(dweight + ((<usize>tap * <usize>channels) << 2) + byte, total, lanes);
    }
  }
}
