// adamUpdate: CPU twin of shaders/adamUpdate.wgsl. Threads split the elements.
import { first, last, loadLanes, storeLanes } from './vector';

export function adamUpdateForward(
  updated: usize, gradient: usize, moment: usize, secondMoment: usize, settings: usize, gradientScale: usize, elements: u32,
  thread: u32, threads: u32,
): void {
  const rate = v128.load32_splat(settings), decay = v128.load32_splat(settings, 4);
  const b1 = v128.load32_splat(settings, 8), b2 = v128.load32_splat(settings, 12), epsilon = v128.load32_splat(settings, 16);
  const c1 = v128.load32_splat(settings, 20), c2 = v128.load32_splat(settings, 24);
  const one = f32x4.splat(1), zero = f32x4.splat(0);
  const scale = f32x4.splat(gradientScale ? load<f32>(gradientScale) : 1);
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i += 4) {
    const at = <usize>i << 2, lanes = min<u32>(4, end - i);
    const p = loadLanes(updated + at, lanes), g = f32x4.mul(loadLanes(gradient + at, lanes), scale);
    const m = f32x4.add(f32x4.mul(b1, loadLanes(moment + at, lanes)), f32x4.mul(f32x4.sub(one, b1), g));
    const s = f32x4.add(f32x4.mul(b2, loadLanes(secondMoment + at, lanes)), f32x4.mul(f32x4.mul(f32x4.sub(one, b2), g), g));
    storeLanes(moment + at, m, lanes);
    storeLanes(secondMoment + at, s, lanes);
    const denominator = f32x4.add(f32x4.sqrt(f32x4.mul(s, c2)), epsilon);
    const step = v128.and(f32x4.div(f32x4.mul(m, c1), denominator), f32x4.gt(denominator, zero));
    storeLanes(updated + at, f32x4.sub(p, f32x4.mul(rate, f32x4.add(step, f32x4.mul(decay, p)))), lanes);
  }
}
