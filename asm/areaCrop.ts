// areaCrop: CPU twin of shaders/areaCrop.wgsl. Threads split the rows of all crops; a pixel's channels are the lanes of a vector.
import { first, last } from './vector';

/** RGB of one pixel as whole numbers in lanes 0..2; lane 3 is of no meaning. Reads one byte behind a pixel of three. */
// @ts-ignore: decorator
@inline
function bytesOf(address: usize): v128 {
  return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(address)));
}

export function areaCropForward(
  images: usize, placements: usize, y: usize, yStride: u32, batch: u32, height: u32, width: u32, scale: f32, shift: f32, thread: u32, threads: u32,
): void {
  const end = last(batch * height, thread, threads);
  const factor = f32x4.splat(scale), offset = f32x4.splat(shift);
  for (let row = first(batch * height, thread, threads); row < end; row++) {
    const placement = placements + <usize>(row / height) * 48;
    const left = <i32>load<f32>(placement), top = <i32>load<f32>(placement, 4);
    const sourceWidth = <u32>load<f32>(placement, 8), sourceHeight = <u32>load<f32>(placement, 12);
    const columns = <u32>load<f32>(placement, 16), rows = <u32>load<f32>(placement, 20);
    const shownX = <u32>load<f32>(placement, 24), shownY = <u32>load<f32>(placement, 28);
    const imageWidth = <i32>load<f32>(placement, 32), imageHeight = <i32>load<f32>(placement, 36);
    const pixelBytes = <usize>load<f32>(placement, 40);
    const image = images + (<usize>load<f32>(placement, 44) << 2);
    const line = <usize>imageWidth * pixelBytes;
    const oy = min<u32>(shownY + row % height, rows - 1);
    const firstLine = oy * sourceHeight / rows, lastLine = ((oy + 1) * sourceHeight - 1) / rows + 1;
    const y0 = max<i32>(top + <i32>firstLine, 0), y1 = min<i32>(top + <i32>lastLine, imageHeight);
    for (let x: u32 = 0; x < width; x++) {
      const ox = min<u32>(shownX + x, columns - 1);
      const firstColumn = ox * sourceWidth / columns, lastColumn = ((ox + 1) * sourceWidth - 1) / columns + 1;
      const x0 = max<i32>(left + <i32>firstColumn, 0), x1 = min<i32>(left + <i32>lastColumn, imageWidth);
      let sum = i32x4.splat(0);
      if (x0 < x1) {
        let from = image + <usize>y0 * line + <usize>x0 * pixelBytes;
        for (let py = y0; py < y1; py++) {
          let at = from;
          for (let px = x0; px < x1; px++) {
            sum = i32x4.add(sum, bytesOf(at));
            at += pixelBytes;
          }
          from += line;
        }
      }
      const count = f32x4.splat(<f32>((lastLine - firstLine) * (lastColumn - firstColumn)));
      const value = f32x4.add(f32x4.mul(f32x4.div(f32x4.convert_i32x4_s(sum), count), factor), offset);
      const out = y + ((<usize>(row * width + x) * <usize>yStride) << 2);
      v128.store64_lane(out, value, 0);
      v128.store32_lane(out + 8, value, 2);
    }
  }
}
