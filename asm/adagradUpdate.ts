// adagradUpdate: CPU twin of shaders/adagradUpdate.wgsl. Threads split the elements.
import { first, last, loadLanes, storeLanes } from './vector';

export function adagradUpdateForward(
  updated: usize, gradient: usize, accumulator: usize, settings: usize, gradientScale: usize, elements: u32, thread: u32, threads: u32,
): void {
  const rate = v128.load32_splat(settings), decay = v128.load32_splat(settings, 4), epsilon = v128.load32_splat(settings, 16);
  const scale = f32x4.splat(gradientScale ? load<f32>(gradientScale) : 1);
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i += 4) {
    const at = <usize>i << 2, lanes = min<u32>(4, end - i);
    const p = loadLanes(updated + at, lanes), g = f32x4.mul(loadLanes(gradient + at, lanes), scale);
    const a = f32x4.add(loadLanes(accumulator + at, lanes), f32x4.mul(g, g));
    storeLanes(accumulator + at, a, lanes);
    const denominator = f32x4.add(f32x4.sqrt(a), epsilon);
    // 0 / 0 at a first gradient of 0 counts as 0.
    const step = v128.and(f32x4.div(g, denominator), f32x4.gt(denominator, f32x4.splat(0)));
    storeLanes(updated + at, f32x4.sub(p, f32x4.mul(rate, f32x4.add(step, f32x4.mul(decay, p)))), lanes);
  }
}
