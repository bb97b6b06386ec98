// maxPool: CPU twin of shaders/maxPool.wgsl. Threads split the pixels of the output; inner loops run over channels.
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

// Gathers: for each pixel, window after window in row-major order, dy of the channels of which the pixel is the first maximum.
export function maxPoolInputGradient(
  x: usize, xStride: u32, output: usize, outputStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32,
  batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  const step = <usize>xStride << 2;
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const ix = p % width;
    const line = p / width;
    const iy = line % height;
    const image = line / height;
    const xp = x + <usize>p * step;
    const dxp = dx + ((<usize>p * dxStride) << 2);
    memory.fill(dxp, 0, <usize>channels << 2);
    const oyEnd = endWindow(iy, strideY, padTop, outHeight);
    const oxEnd = endWindow(ix, strideX, padLeft, outWidth);
    for (let oy = firstWindow(iy, strideY, sizeY, padTop); oy < oyEnd; oy++) {
      for (let ox = firstWindow(ix, strideX, sizeX, padLeft); ox < oxEnd; ox++) {
        const y0 = firstPixel(oy, strideY, padTop);
        const x0 = firstPixel(ox, strideX, padLeft);
        const x1 = endPixel(ox, strideX, sizeX, padLeft, width);
        const at = (image * outHeight + oy) * outWidth + ox;
        const outputAt = output + ((<usize>at * outputStride) << 2);
        const dyAt = dy + ((<usize>at * dyStride) << 2);
        for (let c: u32 = 0; c < channels; c += 4) {
          const lanes = min<u32>(4, channels - c);
          const byte = <usize>c << 2;
          const value = loadLanes(xp + byte, lanes);
          let first = f32x4.eq(value, loadLanes(outputAt + byte, lanes));
          if (!v128.any_true(first)) continue;
          for (let qy = y0; qy <= iy; qy++) {
            const qEnd = qy == iy ? ix : x1;
            for (let qx = x0; qx < qEnd; qx++) {
              const earlier = loadLanes(x + <usize>((image * height + qy) * width + qx) * step + byte, lanes);
              first = v128.and(first, f32x4.ne(earlier, value));
            }
          }
          const share = v128.and(first, loadLanes(dyAt + byte, lanes));
          storeLanes(dxp + byte, f32x4.add(loadLanes(dxp + byte, lanes), share), lanes);
        }
      }
    }
  }
}
