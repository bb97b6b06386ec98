// augment: CPU twin of shaders/augment.wgsl. Threads split the picture rows.
import { first, last } from './vector';

// @ts-ignore: decorator
@inline
function clampTo(value: i32, limit: i32): i32 {
  return value < 0 ? 0 : value > limit ? limit : value;
}

export function augmentForward(
  x: usize, xStride: u32, controls: usize, y: usize, yStride: u32, batch: u32, height: u32, width: u32, thread: u32, threads: u32,
): void {
  const end = last(batch * height, thread, threads);
  for (let line = first(batch * height, thread, threads); line < end; line++) {
    const n = line / height;
    const row = <i32>(line % height);
    const k = controls + <usize>n * 80;
    const blur: f32 = load<f32>(k, 48);
    const image = x + ((<usize>(n * height * width) * xStride) << 2);
    for (let column: i32 = 0; column < <i32>width; column++) {
      const from = image + (<usize>((<u32>row * width + <u32>column) * xStride) << 2);
      let red: f32 = load<f32>(from), green: f32 = load<f32>(from, 4), blue: f32 = load<f32>(from, 8);
      if (blur > 0) {
        let r: f32 = 0, g: f32 = 0, b: f32 = 0;
        for (let dy: i32 = -1; dy <= 1; dy++) {
          for (let dx: i32 = -1; dx <= 1; dx++) {
            const near = <u32>clampTo(row + dy, <i32>height - 1) * width + <u32>clampTo(column + dx, <i32>width - 1);
            const at = image + ((<usize>near * xStride) << 2);
            r += load<f32>(at);
            g += load<f32>(at, 4);
            b += load<f32>(at, 8);
          }
        }
        const rest: f32 = <f32>1.0 - blur;
        red = rest * red + blur * (r / <f32>9.0);
        green = rest * green + blur * (g / <f32>9.0);
        blue = rest * blue + blur * (b / <f32>9.0);
      }
      const to = y + ((<usize>(line * width + <u32>column) * yStride) << 2);
      const inside = <f32>column >= load<f32>(k, 52) && <f32>column < load<f32>(k, 60) && <f32>row >= load<f32>(k, 56) && <f32>row < load<f32>(k, 64);
      for (let channel: usize = 0; channel < 3; channel++) {
        const m = k + channel * 12;
        const colour: f32 = load<f32>(k + (channel << 2), 36) + red * load<f32>(m) + green * load<f32>(m, 4) + blue * load<f32>(m, 8);
        store<f32>(to + (channel << 2), inside ? load<f32>(k + (channel << 2), 68) : colour);
      }
    }
  }
}
