// warpAffine: CPU twin of shaders/warpAffine.wgsl. Threads split the rows of all crops; a pixel's channels are the lanes of a vector.
import { first, last } from './vector';

/** RGB of one pixel, 0..255, in lanes 0..2; lane 3 is of no meaning. Reads one byte behind a pixel of three. */
// @ts-ignore: decorator
@inline
function bytesToFloats(address: usize): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(address))));
}

function pixel(image: usize, width: i32, height: i32, pixelBytes: i32, edge: u32, px: i32, py: i32): v128 {
  const x = max(0, min(px, width - 1)), y = max(0, min(py, height - 1));
  if (!edge && (x != px || y != py)) return f32x4.splat(0);
  return bytesToFloats(image + <usize>(y * width + x) * <usize>pixelBytes);
}

// @ts-ignore: decorator
@inline
function mix(a: v128, b: v128, part: f32): v128 {
  return f32x4.add(a, f32x4.mul(f32x4.sub(b, a), f32x4.splat(part)));
}

function bilinear(image: usize, width: i32, height: i32, pixelBytes: i32, edge: u32, u: f32, v: f32): v128 {
  // Beyond one pixel outside nothing changes any more; keeps huge coordinates, and NaN, inside the range of i32.
  const px: f32 = u > -2 ? (u < <f32>(width + 1) ? u : <f32>(width + 1)) : <f32>-2;
  const py: f32 = v > -2 ? (v < <f32>(height + 1) ? v : <f32>(height + 1)) : <f32>-2;
  const left: f32 = floor<f32>(px), above: f32 = floor<f32>(py);
  const x = <i32>left, y = <i32>above;
  if (x >= 0 && y >= 0 && x + 1 < width && y + 1 < height) {
    const at = image + <usize>(y * width + x) * <usize>pixelBytes;
    const below = at + <usize>(width * pixelBytes);
    return mix(mix(bytesToFloats(at), bytesToFloats(at + pixelBytes), px - left),
      mix(bytesToFloats(below), bytesToFloats(below + pixelBytes), px - left), py - above);
  }
  const top = mix(pixel(image, width, height, pixelBytes, edge, x, y), pixel(image, width, height, pixelBytes, edge, x + 1, y), px - left);
  const bottom = mix(pixel(image, width, height, pixelBytes, edge, x, y + 1), pixel(image, width, height, pixelBytes, edge, x + 1, y + 1), px - left);
  return mix(top, bottom, py - above);
}

export function warpAffineForward(
  images: usize, placements: usize, y: usize, yStride: u32, batch: u32, height: u32, width: u32, edge: u32, samples: u32,
  scale0: f32, scale1: f32, scale2: f32, shift0: f32, shift1: f32, shift2: f32, thread: u32, threads: u32,
): void {
  const end = last(batch * height, thread, threads);
  const scale = f32x4(scale0, scale1, scale2, 0), shift = f32x4(shift0, shift1, shift2, 0);
  const step: f32 = <f32>1.0 / <f32>samples;
  const share = f32x4.splat(step * step);
  for (let row = first(batch * height, thread, threads); row < end; row++) {
    const placement = placements + <usize>(row / height) * 48;
    const image = images + (<usize>load<f32>(placement) << 2);
    const w = <i32>load<f32>(placement, 4), h = <i32>load<f32>(placement, 8), pixelBytes = <i32>load<f32>(placement, 12);
    const a: f32 = load<f32>(placement, 16), b: f32 = load<f32>(placement, 20), tx: f32 = load<f32>(placement, 24);
    const c: f32 = load<f32>(placement, 28), d: f32 = load<f32>(placement, 32), ty: f32 = load<f32>(placement, 36);
    const oy: f32 = <f32>(row % height);
    for (let ox: u32 = 0; ox < width; ox++) {
      let sum = f32x4.splat(0);
      for (let sy: u32 = 0; sy < samples; sy++) {
        const v: f32 = oy + ((<f32>sy + <f32>0.5) * step - <f32>0.5);
        for (let sx: u32 = 0; sx < samples; sx++) {
          const u: f32 = <f32>ox + ((<f32>sx + <f32>0.5) * step - <f32>0.5);
          sum = f32x4.add(sum, bilinear(image, w, h, pixelBytes, edge, a * u + b * v + tx, c * u + d * v + ty));
        }
      }
      const at = y + ((<usize>(row * width + ox) * <usize>yStride) << 2);
      const value = f32x4.add(f32x4.mul(f32x4.mul(sum, share), scale), shift);
      v128.store64_lane(at, value, 0);
      v128.store32_lane(at + 8, value, 2);
    }
  }
}
