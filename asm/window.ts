// Geometry that the pooling twins share: which pixels a window holds, and which windows hold a pixel. Padding is at most half a window
// (src/graph/window.ts), so every window holds a pixel.

/** First pixel of window `o` inside the image. */
// @ts-ignore: decorator
@inline
export function firstPixel(o: u32, stride: u32, pad: u32): u32 {
  return max<u32>(o * stride, pad) - pad;
}

/** One past the last pixel of window `o` inside an image of `pixels`. */
// @ts-ignore: decorator
@inline
export function endPixel(o: u32, stride: u32, size: u32, pad: u32, pixels: u32): u32 {
  return min<u32>(o * stride + size - pad, pixels);
}

/** First window that holds pixel `i`. */
// @ts-ignore: decorator
@inline
export function firstWindow(i: u32, stride: u32, size: u32, pad: u32): u32 {
  return (max<u32>(i + pad + 1, size) - size + stride - 1) / stride;
}

/** One past the last window that holds pixel `i`, of `windows`. */
// @ts-ignore: decorator
@inline
export function endWindow(i: u32, stride: u32, pad: u32, windows: u32): u32 {
  return min<u32>((i + pad) / stride + 1, windows);
}
