// cast: CPU twin of shaders/cast.wgsl. Threads split the rows, of halves the words. x is dense.
import { high, low, REBIAS } from './halves';
import { first, last, loadLanes, madd, storeLanes } from './vector';

export function castFromU8(
  x: usize, y: usize, yStride: u32, rows: u32, columns: u32, scale: f32, min: f32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + <usize>r * columns;
    const yr = y + ((<usize>r * yStride) << 2);
    let c: u32 = 0;
    for (; c + 4 <= columns; c += 4) {
      const words = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(xr + c)));
      v128.store(yr + (<usize>c << 2), madd(f32x4.convert_i32x4_u(words), f32x4.splat(scale), f32x4.splat(min)));
    }
    for (; c < columns; c++) store<f32>(yr + (<usize>c << 2), <f32>load<u8>(xr + c) * scale + min);
  }
}

export function castFromI32(
  x: usize, y: usize, yStride: u32, rows: u32, columns: u32, scale: f32, min: f32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * columns) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    let c: u32 = 0;
    for (; c + 4 <= columns; c += 4) {
      const at = <usize>c << 2;
      v128.store(yr + at, madd(f32x4.convert_i32x4_s(v128.load(xr + at)), f32x4.splat(scale), f32x4.splat(min)));
    }
    for (; c < columns; c++) store<f32>(yr + (<usize>c << 2), <f32>load<i32>(xr + (<usize>c << 2)) * scale + min);
  }
}

export function castFromF16(x: usize, y: usize, rows: u32, columns: u32, thread: u32, threads: u32): void {
  const rebias = f32x4.splat(REBIAS);
  const words = rows * columns;
  const end = last(words, thread, threads);
  for (let i = first(words, thread, threads); i < end; i += 4) {
    const lanes = min<u32>(4, end - i);
    const w = loadLanes(x + (<usize>i << 2), lanes);
    const even = low(w, rebias), odd = high(w, rebias);
    const out = y + (<usize>i << 3);
    storeLanes(out, v128.shuffle<f32>(even, odd, 0, 4, 1, 5), min<u32>(4, 2 * lanes));
    if (lanes > 2) storeLanes(out + 16, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 2 * lanes - 4);
  }
}
