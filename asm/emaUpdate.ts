// emaUpdate: CPU twin of shaders/emaUpdate.wgsl. Threads split the elements.
import { first, last, loadLanes, storeLanes } from './vector';

export function emaUpdateForward(updated: usize, value: usize, settings: usize, elements: u32, thread: u32, threads: u32): void {
  const moves = f32x4.splat(<f32>1.0 - load<f32>(settings, 28));
  const end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i += 4) {
    const at = <usize>i << 2, lanes = min<u32>(4, end - i);
    const average = loadLanes(updated + at, lanes);
    storeLanes(updated + at, f32x4.add(average, f32x4.mul(moves, f32x4.sub(loadLanes(value + at, lanes), average))), lanes);
  }
}
