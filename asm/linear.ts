// linear: CPU twin of shaders/linear.wgsl. x is batch * positions rows of `channels`; feature p * channels + c is number c of row p
// of its image. Weights are [positions * channels][outputs].
import { closeTable, ENTRY, multiply, outer, pack, panelCount } from './gemm';
import { panelsFrom, panelsTo, rowsFrom, rowsTo, share } from './share';
import { first, last, loadLanes, madd, storeLanes, sumRows } from './vector';

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

/** Weights [features][outputs] as panels. Threads split the panels. */
export function linearPackWeight(weight: usize, panels: usize, features: u32, outputs: u32, thread: u32, threads: u32): void {
  const count = panelCount(outputs);
  pack(weight, features, outputs, <usize>outputs << 2, 4, panels, 0, features, first(count, thread, threads), last(count, thread, threads));
}

/** The transposed weights as panels: rows are outputs, columns features. */
export function linearPackTransposed(weight: usize, panels: usize, features: u32, outputs: u32, thread: u32, threads: u32): void {
  const count = panelCount(features);
  pack(weight, outputs, features, 4, <usize>outputs << 2, panels, 0, outputs, first(count, thread, threads), last(count, thread, threads));
}

/** linearForward for packed weights: same bits. `scratch` holds `threadFloats` floats per thread: the table of blockRows rows. */
export function linearDirect(
  x: usize, xStride: u32, panels: usize, bias: usize, y: usize, yStride: u32, scratch: usize, flags: usize, layer: u32,
  batch: u32, positions: u32, channels: u32, outputs: u32, relu: u32, blockRows: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const dense = xStride == channels;
  const bad = rowsTimesPanels(thread, threads, x, positions * xStride, batch, dense ? 1 : positions, dense ? positions * channels : channels,
    xStride - channels, panels, outputs, bias, relu ? <f32>0.0 : -Infinity, y, yStride, scratch, blockRows, threadFloats);
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}

/** linearInputGradient for weights packed by linearPackTransposed; dx must be dense within an image. One chain of madd per element. */
export function linearInputGradientDirect(
  dy: usize, dyStride: u32, panels: usize, dx: usize, dxStride: u32, scratch: usize, batch: u32, positions: u32, channels: u32, outputs: u32,
  blockRows: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  rowsTimesPanels(thread, threads, dy, dyStride, batch, 1, outputs, 0, panels, positions * channels, 0, -Infinity,
    dx, positions * dxStride, scratch, blockRows, threadFloats);
}

/** This thread's share of C = A * B. Strides and skip in floats. */
function rowsTimesPanels(
  thread: u32, threads: u32, a: usize, aStride: u32, rows: u32, segments: u32, depth: u32, skip: u32, panels: usize, columns: u32,
  bias: usize, floor: f32, c: usize, cStride: u32, scratch: usize, blockRows: u32, threadFloats: u32,
): bool {
  share(thread, threads, rows, panelCount(columns));
  const table = scratch + ((<usize>thread * threadFloats) << 2);
  let bad = false;
  for (let start = rowsFrom; start < rowsTo; start += blockRows) {
    const end = min<u32>(rowsTo, start + blockRows);
    let entry = table;
    for (let row = start; row < end; row++) {
      store<usize>(entry, a + ((<usize>row * aStride) << 2));
      store<usize>(entry, c + ((<usize>row * cStride) << 2), 4);
      entry += ENTRY;
    }
    closeTable(table, end - start);
    bad = multiply(table, end - start, segments, depth, <usize>skip << 2, panels, columns, panelsFrom, panelsTo, bias, false, floor) || bad;
  }
  return bad;
}

/**
 * dx[image, feature] = sum over outputs of dy * weight: four partial sums, added pairwise. Threads split the rows of dx.
 */
export function linearInputGradient(
  dy: usize, dyStride: u32, weight: usize, dx: usize, dxStride: u32, batch: u32, positions: u32, channels: u32, outputs: u32,
  thread: u32, threads: u32,
): void {
  const end = last(batch * positions, thread, threads);
  for (let row = first(batch * positions, thread, threads); row < end; row++) {
    const a = dy + ((<usize>(row / positions) * dyStride) << 2);
    const out = dx + ((<usize>row * dxStride) << 2);
    let b = weight + ((<usize>((row % positions) * channels) * outputs) << 2);
    for (let channel: u32 = 0; channel < channels; channel++) {
      let sum = f32x4.splat(0);
      let k: u32 = 0;
      for (; k + 4 <= outputs; k += 4) sum = madd(v128.load(a + (<usize>k << 2)), v128.load(b + (<usize>k << 2)), sum);
      if (k < outputs) sum = madd(loadLanes(a + (<usize>k << 2), outputs - k), loadLanes(b + (<usize>k << 2), outputs - k), sum);
      store<f32>(out + (<usize>channel << 2), (f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3)));
      b += <usize>outputs << 2;
    }
  }
}

/** Images whose products are added up before they are added to the gradient. */
const BLOCK: u32 = 128;

/**
 * dweight[feature, output] = sum over images of x * dy, in blocks of 128 images. Threads split the features. Columns behind the
 * last multiple of eight are computed lane by lane: no scratch.
 */
export function linearWeightGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, batch: u32, positions: u32, channels: u32, outputs: u32,
  thread: u32, threads: u32,
): void {
  const row = <usize>outputs << 2;
  const full = outputs & ~7;
  const panels = panelCount(full);
  const groups = (channels + 2) / 3;
  const begin = first(positions * groups, thread, threads), end = last(positions * groups, thread, threads);
  for (let start: u32 = 0; start < batch; start += BLOCK) {
    const count = min<u32>(BLOCK, batch - start);
    const b = dy + ((<usize>start * dyStride) << 2);
    for (let position = begin / groups; position * groups < end; position++) {
      const low = (max<u32>(begin, position * groups) - position * groups) * 3;
      const high = min<u32>((min<u32>(end, (position + 1) * groups) - position * groups) * 3, channels);
      if (low >= high) continue;
      const a = x + ((<usize>(start * positions + position) * xStride + low) << 2), aStep = <usize>(positions * xStride) << 2;
      const out = dweight + <usize>(position * channels + low) * row;
      if (full) outer(a, aStep, b, <usize>dyStride << 2, count, high - low, full, 0, panels, out, row, start != 0, 0);
      for (let column = full; column < outputs; column += 4) {
        const lanes = min<u32>(4, outputs - column);
        for (let i = low; i < high; i++) {
          let sum = f32x4.splat(0);
          for (let k: u32 = 0; k < count; k++) {
            sum = madd(v128.load32_splat(a + <usize>k * aStep + (<usize>(i - low) << 2)), loadLanes(b + ((<usize>k * dyStride + column) << 2), lanes), sum);
          }
          const to = out + <usize>(i - low) * row + (<usize>column << 2);
          storeLanes(to, start ? f32x4.add(loadLanes(to, lanes), sum) : sum, lanes);
        }
      }
    }
  }
}

/** dbias[output] = sum of dy over all images (asm/vector.ts, `sumRows`). */
export function linearBiasGradient(dy: usize, dyStride: u32, dbias: usize, batch: u32, outputs: u32, thread: u32, threads: u32): void {
  sumRows(thread, threads, dy, dyStride, batch, outputs, dbias);
}
