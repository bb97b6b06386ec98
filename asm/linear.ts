// linear: CPU twin of shaders/linear.wgsl. x is batch * positions rows of `channels`; feature p * channels + c is number c of row p
// of its image. Weights are [positions * channels][outputs].
import { first, last, loadLanes, madd, storeLanes } from './vector';

/**
 * y = activation(bias + sum over features), one chain of madd per output in order of the features. Threads split the groups of
 * sixteen outputs of all images: a batch of one uses them all.
 */
export function linearForward(
  x: usize, xStride: u32, weight: usize, bias: usize, y: usize, yStride: u32, flags: usize, layer: u32,
  batch: u32, positions: u32, channels: u32, outputs: u32, relu: u32, thread: u32, threads: u32,
): void {
  const floor = f32x4.splat(relu ? <f32>0.0 : -Infinity);
  const weightRow = <usize>outputs << 2;
  const groups = (outputs + 15) >> 4;
  let bad = i32x4.splat(0);
  const end = last(batch * groups, thread, threads);
  for (let item = first(batch * groups, thread, threads); item < end; item++) {
    const image = item / groups;
    const column = (item % groups) << 4;
    const at = <usize>column << 2;
    const lanes = min<u32>(16, outputs - column);
    const out = y + ((<usize>image * yStride) << 2) + at;
    const start = x + ((<usize>image * positions * xStride) << 2);
    if (lanes == 16) {
      let c0 = f32x4.splat(0), c1 = c0, c2 = c0, c3 = c0;
      if (bias) {
        c0 = v128.load(bias + at);
        c1 = v128.load(bias + at, 16);
        c2 = v128.load(bias + at, 32);
        c3 = v128.load(bias + at, 48);
      }
      let b = weight + at;
      for (let p: u32 = 0; p < positions; p++) {
        let a = start + ((<usize>p * xStride) << 2);
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
      bad = v128.or(bad, v128.or(v128.or(f32x4.sub(c0, c0), f32x4.sub(c1, c1)), v128.or(f32x4.sub(c2, c2), f32x4.sub(c3, c3))));
      v128.store(out, f32x4.pmax(c0, floor));
      v128.store(out, f32x4.pmax(c1, floor), 16);
      v128.store(out, f32x4.pmax(c2, floor), 32);
      v128.store(out, f32x4.pmax(c3, floor), 48);
      continue;
    }
    for (let lane: u32 = 0; lane < lanes; lane += 4) {
      const count = min<u32>(4, lanes - lane);
      const here = <usize>lane << 2;
      let c = bias ? loadLanes(bias + at + here, count) : f32x4.splat(0);
      let b = weight + at + here;
      for (let p: u32 = 0; p < positions; p++) {
        let a = start + ((<usize>p * xStride) << 2);
        for (let k = channels; k; k--) {
          c = madd(v128.load32_splat(a), loadLanes(b, count), c);
          a += 4;
          b += weightRow;
        }
      }
      bad = v128.or(bad, f32x4.sub(c, c));
      storeLanes(out + here, f32x4.pmax(c, floor), count);
    }
  }
  if (flags && v128.any_true(bad)) store<u32>(flags + (<usize>layer << 2), 1);
}
