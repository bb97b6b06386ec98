// cosineMargin: CPU twin of shaders/cosineMargin.wgsl. Threads split the images, or the classes for the gradient of the weight.
import { dot, first, last, loadLanes, madd, storeLanes } from './vector';

/** Of the sine: closer to the class's direction it counts as this. */
const LEAST_SQUARE: f32 = 1e-6;

export function cosineMarginForward(
  x: usize, weight: usize, labels: usize, y: usize, batch: u32, classes: u32, columns: u32,
  scale: f32, cosine: f32, sine: f32, limit: f32, beyond: f32, thread: u32, threads: u32,
): void {
  const end = last(batch, thread, threads);
  for (let n = first(batch, thread, threads); n < end; n++) {
    const image = x + ((<usize>n * columns) << 2), row = y + ((<usize>n * classes) << 2);
    const label = load<i32>(labels + (<usize>n << 2));
    for (let c: u32 = 0; c < classes; c++) {
      let value: f32 = dot(image, weight + ((<usize>c * columns) << 2), columns);
      if (label == <i32>c) {
        value = value <= limit ? value - beyond : value * cosine - sqrt<f32>(max<f32>(<f32>1.0 - value * value, LEAST_SQUARE)) * sine;
      }
      store<f32>(row + (<usize>c << 2), scale * value);
    }
  }
}

export function cosineMarginCosineGradient(
  x: usize, weight: usize, labels: usize, dy: usize, dcosines: usize, batch: u32, classes: u32, columns: u32,
  scale: f32, cosine: f32, sine: f32, limit: f32, thread: u32, threads: u32,
): void {
  const end = last(batch, thread, threads);
  for (let n = first(batch, thread, threads); n < end; n++) {
    const label = load<i32>(labels + (<usize>n << 2));
    for (let c: u32 = 0; c < classes; c++) {
      let slope: f32 = 1;
      if (label == <i32>c) {
        const value: f32 = dot(x + ((<usize>n * columns) << 2), weight + ((<usize>c * columns) << 2), columns);
        if (value > limit) {
          const square: f32 = <f32>1.0 - value * value;
          slope = square > LEAST_SQUARE ? cosine + value / sqrt<f32>(square) * sine : cosine;
        }
      }
      const at = (<usize>n * classes + c) << 2;
      store<f32>(dcosines + at, scale * slope * load<f32>(dy + at));
    }
  }
}

/** to += factor * from, `count` numbers. */
function addScaled(to: usize, from: usize, factor: f32, count: u32): void {
  const f = f32x4.splat(factor);
  for (let k: u32 = 0; k < count; k += 4) {
    const at = <usize>k << 2, lanes = min<u32>(4, count - k);
    storeLanes(to + at, madd(f, loadLanes(from + at, lanes), loadLanes(to + at, lanes)), lanes);
  }
}

export function cosineMarginInputGradient(
  cosineSlopes: usize, weight: usize, dx: usize, batch: u32, classes: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(batch, thread, threads);
  for (let n = first(batch, thread, threads); n < end; n++) {
    const to = dx + ((<usize>n * columns) << 2);
    memory.fill(to, 0, <usize>columns << 2);
    for (let c: u32 = 0; c < classes; c++) {
      addScaled(to, weight + ((<usize>c * columns) << 2), load<f32>(cosineSlopes + ((<usize>n * classes + c) << 2)), columns);
    }
  }
}

export function cosineMarginWeightGradient(
  cosineSlopes: usize, x: usize, dweight: usize, batch: u32, classes: u32, columns: u32, thread: u32, threads: u32,
): void {
  const end = last(classes, thread, threads);
  for (let c = first(classes, thread, threads); c < end; c++) {
    const to = dweight + ((<usize>c * columns) << 2);
    memory.fill(to, 0, <usize>columns << 2);
    for (let n: u32 = 0; n < batch; n++) {
      addScaled(to, x + ((<usize>n * columns) << 2), load<f32>(cosineSlopes + ((<usize>n * classes + c) << 2)), columns);
    }
  }
}
