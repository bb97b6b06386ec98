// conv2d: CPU twin of shaders/conv2d.wgsl. The kernels here serve any shape and read the weights where they are; the fast
// ones are in asm/direct.ts and asm/winograd.ts. Weights are [kernelHeight][kernelWidth][channels][outChannels].
import { first, last, loadLanes, madd, storeLanes, sumRows } from './vector';

/**
 * y = activation(bias + residual + sum over ky, kx, channel). One chain of madd per output, starting at bias + residual: the order
 * of the packed kernels of asm/gemm.ts, whose extra taps in the zero ring change nothing. Threads split the output pixels.
 */
export function conv2dForward(
  x: usize, xStride: u32, weight: usize, bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32,
  flags: usize, layer: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, relu: u32, thread: u32, threads: u32,
): void {
  const floor = f32x4.splat(relu ? <f32>0.0 : -Infinity);
  const weightRow = <usize>outChannels << 2;
  let bad = i32x4.splat(0);
  const pixels = batch * outHeight * outWidth;
  const end = last(pixels, thread, threads);
  for (let pixel = first(pixels, thread, threads); pixel < end; pixel++) {
    const ox = pixel % outWidth;
    const line = pixel / outWidth;
    const oy = line % outHeight;
    const top = <i32>(oy * strideY) - <i32>padTop;
    const left = <i32>(ox * strideX) - <i32>padLeft;
    const kyFirst = max<i32>(0, -top), kyLast = min<i32>(kernelHeight, <i32>height - top);
    const kxFirst = max<i32>(0, -left), kxLast = min<i32>(kernelWidth, <i32>width - left);
    const image = x + ((<usize>(line / outHeight) * height * width * xStride) << 2);
    const out = y + ((<usize>pixel * yStride) << 2);
    const add = residual ? residual + ((<usize>pixel * residualStride) << 2) : 0;
    for (let co: u32 = 0; co < outChannels; co += 16) {
      const lanes = min<u32>(16, outChannels - co);
      const at = <usize>co << 2;
      let c0 = f32x4.splat(0), c1 = c0, c2 = c0, c3 = c0;
      if (lanes == 16) {
        if (bias) {
          c0 = v128.load(bias + at);
          c1 = v128.load(bias + at, 16);
          c2 = v128.load(bias + at, 32);
          c3 = v128.load(bias + at, 48);
        }
        if (add) {
          c0 = f32x4.add(c0, v128.load(add + at));
          c1 = f32x4.add(c1, v128.load(add + at, 16));
          c2 = f32x4.add(c2, v128.load(add + at, 32));
          c3 = f32x4.add(c3, v128.load(add + at, 48));
        }
        for (let ky = kyFirst; ky < kyLast; ky++) {
          for (let kx = kxFirst; kx < kxLast; kx++) {
            let a = image + ((<usize>((top + ky) * <i32>width + left + kx) * xStride) << 2);
            let b = weight + <usize>(<u32>ky * kernelWidth + <u32>kx) * channels * weightRow + at;
            for (let k = channels; k; k--) {
              const t = v128.load32_splat(a);
              c0 = madd(t, v128.load(b), c0);
              c1 = madd(t, v128.load(b, 16), c1);
              c2 = madd(t, v128.load(b, 32), c2);
              c3 = madd(t, v128.load(b, 48), c3);
              a += 4;
              b += weightRow;
            }
          }
        }
        bad = v128.or(bad, v128.or(v128.or(f32x4.sub(c0, c0), f32x4.sub(c1, c1)), v128.or(f32x4.sub(c2, c2), f32x4.sub(c3, c3))));
        v128.store(out + at, f32x4.pmax(c0, floor));
        v128.store(out + at, f32x4.pmax(c1, floor), 16);
        v128.store(out + at, f32x4.pmax(c2, floor), 32);
        v128.store(out + at, f32x4.pmax(c3, floor), 48);
        continue;
      }
      for (let lane: u32 = 0; lane < lanes; lane += 4) {
        const count = min<u32>(4, lanes - lane);
        const here = at + (<usize>lane << 2);
        let c = f32x4.splat(0);
        if (bias) c = loadLanes(bias + here, count);
        if (add) c = f32x4.add(c, loadLanes(add + here, count));
        for (let ky = kyFirst; ky < kyLast; ky++) {
          for (let kx = kxFirst; kx < kxLast; kx++) {
            let a = image + ((<usize>((top + ky) * <i32>width + left + kx) * xStride) << 2);
            let b = weight + <usize>(<u32>ky * kernelWidth + <u32>kx) * channels * weightRow + here;
            for (let k = channels; k; k--) {
              c = madd(v128.load32_splat(a), loadLanes(b, count), c);
              a += 4;
              b += weightRow;
            }
          }
        }
        bad = v128.or(bad, f32x4.sub(c, c));
        storeLanes(out + here, f32x4.pmax(c, floor), count);
      }
    }
  }
  if (flags && v128.any_true(bad)) store<u32>(flags + (<usize>layer << 2), 1);
}

/**
 * dx[pixel, channel] = sum over taps and outChannel of dy * weight: outputs that read the pixel, whatever the stride. Four partial
 * sums over outChannel, added pairwise. Threads split the pixels.
 */
export function conv2dInputGradient(
  dy: usize, dyStride: u32, weight: usize, dx: usize, dxStride: u32, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32,
  thread: u32, threads: u32,
): void {
  const pixels = batch * height * width;
  const end = last(pixels, thread, threads);
  for (let pixel = first(pixels, thread, threads); pixel < end; pixel++) {
    const ix = pixel % width + padLeft;
    const line = pixel / width;
    const iy = line % height + padTop;
    const image = dy + ((<usize>(line / height) * outHeight * outWidth * dyStride) << 2);
    const out = dx + ((<usize>pixel * dxStride) << 2);
    for (let channel: u32 = 0; channel < channels; channel++) {
      let sum = f32x4.splat(0);
      for (let ky = iy % strideY; ky < kernelHeight && ky <= iy; ky += strideY) {
        const oy = (iy - ky) / strideY;
        if (oy >= outHeight) continue;
        for (let kx = ix % strideX; kx < kernelWidth && kx <= ix; kx += strideX) {
          const ox = (ix - kx) / strideX;
          if (ox >= outWidth) continue;
          const a = image + ((<usize>(oy * outWidth + ox) * dyStride) << 2);
          const b = weight + ((<usize>((ky * kernelWidth + kx) * channels + channel) * outChannels) << 2);
          let k: u32 = 0;
          for (; k + 4 <= outChannels; k += 4) sum = madd(v128.load(a + (<usize>k << 2)), v128.load(b + (<usize>k << 2)), sum);
          if (k < outChannels) sum = madd(loadLanes(a + (<usize>k << 2), outChannels - k), loadLanes(b + (<usize>k << 2), outChannels - k), sum);
        }
      }
      store<f32>(out + (<usize>channel << 2), (f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3)));
    }
  }
}

/** dweight[tap, channel, outChannel] = sum over output pixels of x * dy, in order of the pixels. Threads split taps and channels. */
export function conv2dWeightGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32,
  thread: u32, threads: u32,
): void {
  const items = kernelHeight * kernelWidth * channels;
  const end = last(items, thread, threads);
  for (let item = first(items, thread, threads); item < end; item++) {
    const channel = item % channels;
    const tap = item / channels;
    const up = <i32>(tap / kernelWidth) - <i32>padTop, left = <i32>(tap % kernelWidth) - <i32>padLeft;
    for (let co: u32 = 0; co < outChannels; co += 4) {
      const count = min<u32>(4, outChannels - co);
      let sum = f32x4.splat(0);
      for (let line: u32 = 0; line < batch * outHeight; line++) {
        const iy = <i32>((line % outHeight) * strideY) + up;
        if (iy < 0 || iy >= <i32>height) continue;
        const row = x + ((<usize>((line / outHeight) * height + iy) * width * xStride + channel) << 2);
        let b = dy + ((<usize>line * outWidth * dyStride + co) << 2);
        for (let ox: u32 = 0; ox < outWidth; ox++) {
          const ix = <i32>(ox * strideX) + left;
          if (ix >= 0 && ix < <i32>width) sum = madd(v128.load32_splat(row + ((<usize>ix * xStride) << 2)), loadLanes(b, count), sum);
          b += <usize>dyStride << 2;
        }
      }
      storeLanes(dweight + ((<usize>item * outChannels + co) << 2), sum, count);
    }
  }
}

/** dbias[outChannel] = sum of dy over all pixels (asm/vector.ts, `sumRows`). */
export function conv2dBiasGradient(
  dy: usize, dyStride: u32, dbias: usize, batch: u32, outHeight: u32, outWidth: u32, outChannels: u32, thread: u32, threads: u32,
): void {
  sumRows(thread, threads, dy, dyStride, batch * outHeight * outWidth, outChannels, dbias);
}
