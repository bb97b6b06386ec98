// l2Pool: CPU twin of shaders/l2Pool.wgsl. Threads split the pixels of the output; inner loops run over channels.
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

export function l2PoolInputGradient(
  x: usize, xStride: u32, output: usize, outputStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32,
  batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  sizeY: u32, sizeX: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  for (let p = first(pixels, thread, threads); p < end; p++) {
    const ix = p % width;
    const line = p / width;
    const iy = line % height;
    const xp = x + ((<usize>p * xStride) << 2);
    const dxp = dx + ((<usize>p * dxStride) << 2);
    const oyBegin = firstWindow(iy, strideY, sizeY, padTop);
    const oxBegin = firstWindow(ix, strideX, sizeX, padLeft);
    const oyEnd = endWindow(iy, strideY, padTop, outHeight);
    const oxEnd = endWindow(ix, strideX, padLeft, outWidth);
    for (let c: u32 = 0; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      const byte = <usize>c << 2;
      let sum = f32x4.splat(0);
      for (let oy = oyBegin; oy < oyEnd; oy++) {
        for (let ox = oxBegin; ox < oxEnd; ox++) {
          const at = (line / height * outHeight + oy) * outWidth + ox;
          const length = loadLanes(output + ((<usize>at * outputStride) << 2) + byte, lanes);
          const share = f32x4.div(loadLanes(dy + ((<usize>at * dyStride) << 2) + byte, lanes), length);
          // A window of length 0 gives nothing, whatever 0 divides.
          sum = f32x4.add(sum, v128.and(share, f32x4.gt(length, f32x4.splat(0))));
        }
      }
      storeLanes(dxp + byte, f32x4.mul(loadLanes(xp + byte, lanes), sum), lanes);
    }
  }
}
