// sumOfSquares: CPU twin of shaders/sumOfSquares.wgsl. Threads split the chunks; the chunks are added in order.
import { dot, first, last } from './vector';

/** Elements of a chunk, as in src/ops/sumOfSquares.ts. */
const CHUNK: u32 = 4096;

export function sumOfSquaresChunks(x: usize, partial: usize, elements: u32, chunks: u32, thread: u32, threads: u32): void {
  const end = last(chunks, thread, threads);
  for (let k = first(chunks, thread, threads); k < end; k++) {
    const start = x + ((<usize>k * CHUNK) << 2);
    store<f32>(partial + (<usize>k << 2), dot(start, start, min<u32>(CHUNK, elements - k * CHUNK)));
  }
}

export function sumOfSquaresCombine(partial: usize, before: usize, y: usize, chunks: u32, thread: u32, threads: u32): void {
  if (thread > 0) return;
  let sum: f32 = 0;
  for (let k: u32 = 0; k < chunks; k++) sum += load<f32>(partial + (<usize>k << 2));
  if (before) sum += load<f32>(before);
  store<f32>(y, sum);
}

export function sumOfSquaresInputGradient(x: usize, dy: usize, dx: usize, elements: u32, thread: u32, threads: u32): void {
  const factor: f32 = <f32>2.0 * load<f32>(dy), end = last(elements, thread, threads);
  for (let i = first(elements, thread, threads); i < end; i++) store<f32>(dx + (<usize>i << 2), factor * load<f32>(x + (<usize>i << 2)));
}

export function sumOfSquaresClipScale(total: usize, limit: usize, y: usize, thread: u32, threads: u32): void {
  if (thread > 0) return;
  const norm: f32 = sqrt<f32>(load<f32>(total)), most: f32 = load<f32>(limit);
  store<f32>(y, most > 0 && norm > most ? most / norm : <f32>1.0);
}
