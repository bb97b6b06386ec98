// maxPool: CPU twin of shaders/maxPool.wgsl. Threads split the pixels, or the lines, of what is written; inner loops run over channels.
import { first, last, loadLanes, storeLanes } from './vector';
import { endPixel, endWindow, firstPixel, firstWindow } from './window';

export function maxPoolForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * outHeight * outWidth;
  const end = last(pixels, thread, threads);
  const step = <usize>xStride << 2;
  const rowStep = <usize>width * step;
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
    for (; c + 16 <= channels; c += 16) {
      let row = corner + (<usize>c << 2);
      let m0 = v128.load(row);
      let m1 = v128.load(row, 16);
      let m2 = v128.load(row, 32);
      let m3 = v128.load(row, 48);
      for (let i: u32 = 0; i < rows; i++) {
        let at = row;
        for (let j: u32 = 0; j < across; j++) {
          m0 = f32x4.pmax(m0, v128.load(at));
          m1 = f32x4.pmax(m1, v128.load(at, 16));
          m2 = f32x4.pmax(m2, v128.load(at, 32));
          m3 = f32x4.pmax(m3, v128.load(at, 48));
          at += step;
        }
        row += rowStep;
      }
      const to = yp + (<usize>c << 2);
      v128.store(to, m0);
      v128.store(to, m1, 16);
      v128.store(to, m2, 32);
      v128.store(to, m3, 48);
    }
    for (; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      let row = corner + (<usize>c << 2);
      let m = loadLanes(row, lanes);
      for (let i: u32 = 0; i < rows; i++) {
        let at = row;
        for (let j: u32 = 0; j < across; j++) {
          m = f32x4.pmax(m, loadLanes(at, lanes));
          at += step;
        }
        row += rowStep;
      }
      storeLanes(yp + (<usize>c << 2), m, lanes);
    }
  }
}

/**
 * dx = dy of every window to its first maximum in row-major order (the first pixel that equals `output`). Threads split the lines of dx; each goes
 * over all windows that touch its lines, so every dx adds up its windows in row-major order.
 */
export function maxPoolInputGradient(
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
    for (let p = pixel + from * width; p < pixel + to * width; p++) memory.fill(dx + <usize>p * dxStep, 0, <usize>channels << 2);
    const oyEnd = endWindow(to - 1, strideY, padTop, outHeight);
    for (let oy = firstWindow(from, strideY, sizeY, padTop); oy < oyEnd; oy++) {
      const y0 = firstPixel(oy, strideY, padTop), y1 = min<u32>(to, endPixel(oy, strideY, sizeY, padTop, height));
      for (let ox: u32 = 0; ox < outWidth; ox++) {
        const x0 = firstPixel(ox, strideX, padLeft);
        const across = endPixel(ox, strideX, sizeX, padLeft, width) - x0;
        const at = (image * outHeight + oy) * outWidth + ox;
        const corner = pixel + y0 * width + x0;
        give(x + <usize>corner * step, step, dx + <usize>corner * dxStep, dxStep, output + ((<usize>at * outputStride) << 2),
          dy + ((<usize>at * dyStride) << 2), channels, width, y1 - y0, y0 < from ? from - y0 : 0, across);
      }
    }
    line += to - from;
  }
}

/** One window: its dy to the first of `rows` x `across` pixels that equals the output, but nothing to the first `skipped` rows. */
function give(
  x: usize, step: usize, dx: usize, dxStep: usize, output: usize, dy: usize, channels: u32, width: u32, rows: u32, skipped: u32, across: u32,
): void {
  const rowStep = <usize>width * step, dxRowStep = <usize>width * dxStep;
  let c: u32 = 0;
  for (; c + 8 <= channels; c += 8) {
    const y0 = v128.load(output), y1 = v128.load(output, 16), d0 = v128.load(dy), d1 = v128.load(dy, 16);
    let found0 = i32x4.splat(0), found1 = found0;
    let row = x, dxRow = dx;
    for (let i: u32 = 0; i < rows; i++) {
      let at = row, to = dxRow;
      for (let j = across; j; j--) {
        const e0 = f32x4.eq(v128.load(at), y0), e1 = f32x4.eq(v128.load(at, 16), y1);
        if (i >= skipped) {
          v128.store(to, f32x4.add(v128.load(to), v128.and(d0, v128.andnot(e0, found0))));
          v128.store(to, f32x4.add(v128.load(to, 16), v128.and(d1, v128.andnot(e1, found1))), 16);
        }
        found0 = v128.or(found0, e0);
        found1 = v128.or(found1, e1);
        at += step;
        to += dxStep;
      }
      row += rowStep;
      dxRow += dxRowStep;
    }
    x += 32;
    dx += 32;
    output += 32;
    dy += 32;
  }
  for (; c < channels; c += 4) {
    const lanes = min<u32>(4, channels - c);
    const y = loadLanes(output, lanes), d = loadLanes(dy, lanes);
    let found = i32x4.splat(0);
    let row = x, dxRow = dx;
    for (let i: u32 = 0; i < rows; i++) {
      let at = row, to = dxRow;
      for (let j = across; j; j--) {
        const e = f32x4.eq(loadLanes(at, lanes), y);
        if (i >= skipped) storeLanes(to, f32x4.add(loadLanes(to, lanes), v128.and(d, v128.andnot(e, found))), lanes);
        found = v128.or(found, e);
        at += step;
        to += dxStep;
      }
      row += rowStep;
      dxRow += dxRowStep;
    }
    x += 16;
    dx += 16;
    output += 16;
    dy += 16;
  }
}
