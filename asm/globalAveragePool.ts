// globalAveragePool: CPU twin of shaders/globalAveragePool.wgsl. Threads split images times groups of 16 channels (a cache line).
import { first, last, loadLanes, storeLanes } from './vector';

const BLOCK: u32 = 64;
const GROUP: u32 = 16;

export function globalAveragePoolForward(
  x: usize, xStride: u32, y: usize, yStride: u32, batch: u32, pixels: u32, channels: u32, thread: u32, threads: u32,
): void {
  const groups = (channels + GROUP - 1) / GROUP;
  const end = last(batch * groups, thread, threads);
  const step = <usize>xStride << 2;
  for (let i = first(batch * groups, thread, threads); i < end; i++) {
    const n = i / groups;
    const cEnd = min<u32>(channels, (i % groups + 1) * GROUP);
    for (let c = i % groups * GROUP; c < cEnd; c += 4) {
      const lanes = min<u32>(4, cEnd - c);
      let sum = f32x4.splat(0);
      for (let start: u32 = 0; start < pixels; start += BLOCK) {
        let at = x + <usize>(n * pixels + start) * step + (<usize>c << 2);
        const count = min<u32>(BLOCK, pixels - start);
        let block = f32x4.splat(0);
        for (let p: u32 = 0; p < count; p++) {
          block = f32x4.add(block, loadLanes(at, lanes));
          at += step;
        }
        sum = f32x4.add(sum, block);
      }
      storeLanes(y + ((<usize>n * yStride + c) << 2), f32x4.div(sum, f32x4.splat(<f32>pixels)), lanes);
    }
  }
}

export function globalAveragePoolInputGradient(
  dy: usize, dyStride: u32, dx: usize, dxStride: u32, batch: u32, pixels: u32, channels: u32, thread: u32, threads: u32,
): void {
  const end = last(batch * pixels, thread, threads);
  const divisor = f32x4.splat(<f32>pixels);
  for (let p = first(batch * pixels, thread, threads); p < end; p++) {
    const dyr = dy + ((<usize>(p / pixels) * dyStride) << 2);
    const dxp = dx + ((<usize>p * dxStride) << 2);
    for (let c: u32 = 0; c < channels; c += 4) {
      const lanes = min<u32>(4, channels - c);
      const byte = <usize>c << 2;
      storeLanes(dxp + byte, f32x4.div(loadLanes(dyr + byte, lanes), divisor), lanes);
    }
  }
}
