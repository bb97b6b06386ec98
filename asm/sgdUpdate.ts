// sgdUpdate: CPU twin of shaders/sgdUpdate.wgsl. Threads split the elements.
import { first, last, loadLanes, storeLanes } from './vector';

export function sgdUpdateForward(
  updated: usize, gradient: usize, settings: usize, gradientScale: usize, elements: u32, thread: u32, threads: u32,
): void {
  const rate = v128.load32_splat(settings), decay = v128.load32_splat(settings, 4);
  const scale = f32x4.splat(gradientScale ? load<f32>(gradientScale) : 1);
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i += 4) {
    const at = <usize>i << 2, lanes = min<u32>(4, end - i);
    const p = loadLanes(updated + at, lanes), g = f32x4.mul(loadLanes(gradient + at, lanes), scale);
    storeLanes(updated + at, f32x4.sub(p, f32x4.mul(rate, f32x4.add(g, f32x4.mul(decay, p)))), lanes);
  }
}

export function sgdUpdateMomentum(
  updated: usize, gradient: usize, velocity: usize, settings: usize, gradientScale: usize, elements: u32, thread: u32, threads: u32,
): void {
  const rate = v128.load32_splat(settings), decay = v128.load32_splat(settings, 4), stays = v128.load32_splat(settings, 8);
  const scale = f32x4.splat(gradientScale ? load<f32>(gradientScale) : 1);
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i += 4) {
    const at = <usize>i << 2, lanes = min<u32>(4, end - i);
    const p = loadLanes(updated + at, lanes), g = f32x4.mul(loadLanes(gradient + at, lanes), scale);
    const v = f32x4.add(f32x4.mul(stays, loadLanes(velocity + at, lanes)), g);
    storeLanes(velocity + at, v, lanes);
    storeLanes(updated + at, f32x4.sub(p, f32x4.mul(rate, f32x4.add(v, f32x4.mul(decay, p)))), lanes);
  }
}
