// halfLinear: CPU twin of shaders/halfLinear.wgsl. Weights are [positions * channels][outputs / 2] words of two float16.
import { high, low, REBIAS } from './halves';
import { first, last, madd } from './vector';

/** Threads split the groups of four words, eight outputs, and take all images for each: one chain of madd per output in order of the features. */
export function halfLinearForward(
  x: usize, xStride: u32, weight: usize, bias: usize, y: usize, yStride: u32, flags: usize, layer: u32,
  batch: u32, positions: u32, channels: u32, outputs: u32, relu: u32, thread: u32, threads: u32,
): void {
  const rebias = f32x4.splat(REBIAS);
  const floor = f32x4.splat(relu ? <f32>0.0 : -Infinity);
  const row = <usize>outputs << 1;
  const groups = outputs >> 3;
  let bad = i32x4.splat(0);
  const end = last(groups, thread, threads);
  for (let group = first(groups, thread, threads); group < end; group++) {
    for (let image: u32 = 0; image < batch; image++) {
      let even = f32x4.splat(0), odd = even;
      if (bias) {
        const b0 = v128.load(bias + (<usize>group << 5)), b1 = v128.load(bias + (<usize>group << 5), 16);
        even = v128.shuffle<f32>(b0, b1, 0, 2, 4, 6);
        odd = v128.shuffle<f32>(b0, b1, 1, 3, 5, 7);
      }
      let b = weight + (<usize>group << 4);
      for (let p: u32 = 0; p < positions; p++) {
        let a = x + ((<usize>(image * positions + p) * xStride) << 2);
        for (let k = channels; k; k--) {
          const t = v128.load32_splat(a), w = v128.load(b);
          even = madd(t, low(w, rebias), even);
          odd = madd(t, high(w, rebias), odd);
          a += 4;
          b += row;
        }
      }
      bad = v128.or(bad, v128.or(f32x4.sub(even, even), f32x4.sub(odd, odd)));
      const out = y + ((<usize>image * yStride) << 2) + (<usize>group << 5);
      v128.store(out, f32x4.pmax(v128.shuffle<f32>(even, odd, 0, 4, 1, 5), floor));
      v128.store(out, f32x4.pmax(v128.shuffle<f32>(even, odd, 2, 6, 3, 7), floor), 16);
    }
  }
  if (flags && v128.any_true(bad)) store<u32>(flags + (<usize>layer << 2), 1);
}
