// Convolution as a segmented matrix product over images as they lie in memory (asm/gemm.ts). A convolution with padding first copies
// the lines it needs, a block of output pixels at a time, into a band with its zeros written out; each thread has a band of its
// own, small enough to stay in its cache, so there is no barrier. Others read x in place.
import { closeTable, ENTRY, multiply, pack, packedColumns, panelCount } from './gemm';
import { first, last } from './vector';

// What `share` found for this thread.
let rowFirst: u32 = 0, rowLast: u32 = 0, panelFirst: u32 = 0, panelLast: u32 = 0;

/**
 * Splits rows x panels over threads: rows as long as every thread gets enough of them, panels where weights are the larger part of
 * what is read. The least estimated time wins; nothing here changes a result. `depth` is the length of one row of A.
 */
export function share(rows: u32, panels: u32, depth: u32, thread: u32, threads: u32): void {
  let best = f32.MAX_VALUE, groups: u32 = 1;
  const units = (rows + 5) / 6;
  for (let g: u32 = 1; g <= min<u32>(threads, panels); g++) {
    const rowGroups = min<u32>(threads / g, units);
    const unitShare = <f32>((units + rowGroups - 1) / rowGroups);
    const panelShare = <f32>((panels + g - 1) / g);
    // Cycles per unit of depth: 12 columns x 6 rows take about 10; a panel's line of weights, 48 bytes from far away, takes about 8;
    // copying and reading 6 rows about 6.
    const time: f32 = unitShare * panelShare * 10 + panelShare * 8 + unitShare * 6;
    if (time < best) {
      best = time;
      groups = g;
    }
  }
  const rowGroups = min<u32>(threads / groups, units);
  if (thread >= groups * rowGroups) {
    rowFirst = rowLast = panelFirst = panelLast = 0;
    return;
  }
  const r = thread / groups, p = thread % groups;
  rowFirst = first(units, r, rowGroups) * 6;
  rowLast = min<u32>(rows, last(units, r, rowGroups) * 6);
  panelFirst = first(panels, p, groups);
  panelLast = last(panels, p, groups);
}

/** Copies floats, in blocks of 64 bytes where they fit. */
// @ts-ignore: decorator
@inline
function copyFloats(to: usize, from: usize, count: u32): void {
  if (count >= 512) {
    memory.copy(to, from, <usize>count << 2);
    return;
  }
  const end = to + (<usize>count << 2);
  for (; to + 64 <= end; to += 64, from += 64) {
    const a = v128.load(from), b = v128.load(from, 16), c = v128.load(from, 32), d = v128.load(from, 48);
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
  }
  for (; to + 16 <= end; to += 16, from += 16) v128.store(to, v128.load(from));
  for (; to < end; to += 4, from += 4) store<f32>(to, load<f32>(from));
}

// @ts-ignore: decorator
@inline
function zeroFloats(to: usize, count: u32): void {
  const end = to + (<usize>count << 2);
  for (; to + 16 <= end; to += 16) v128.store(to, f32x4.splat(0));
  for (; to < end; to += 4) store<f32>(to, 0);
}

/**
 * Copies lines `top` up to `bottom` and columns `left` up to `left + bandWidth` of one image to `band`, dense; what lies outside the
 * image becomes zero. `image` points to pixel (0, 0), pixels are `stride` floats apart.
 */
function fillBand(
  band: usize, image: usize, stride: u32, height: u32, width: u32, channels: u32, top: i32, bottom: i32, left: i32, bandWidth: u32,
): void {
  const before = <u32>min<i32>(<i32>bandWidth, max<i32>(0, -left));
  const start = <u32>max<i32>(0, left);
  const inside = <u32>max<i32>(0, min<i32>(<i32>width, left + <i32>bandWidth) - <i32>start);
  const after = bandWidth - before - inside;
  for (let line = top; line < bottom; line++) {
    if (line < 0 || line >= <i32>height) {
      zeroFloats(band, bandWidth * channels);
      band += <usize>(bandWidth * channels) << 2;
      continue;
    }
    zeroFloats(band, before * channels);
    band += <usize>(before * channels) << 2;
    let from = image + ((<usize>(<u32>line * width + start) * stride) << 2);
    if (stride == channels) {
      copyFloats(band, from, inside * channels);
      band += <usize>(inside * channels) << 2;
    } else {
      for (let i = inside; i; i--) {
        copyFloats(band, from, channels);
        band += <usize>channels << 2;
        from += <usize>stride << 2;
      }
    }
    zeroFloats(band, after * channels);
    band += <usize>(after * channels) << 2;
  }
}

/** Weights [taps * channels][outChannels] as panels. Threads split the panels. */
export function conv2dPackWeight(weight: usize, panels: usize, rows: u32, columns: u32, thread: u32, threads: u32): void {
  const count = panelCount(columns);
  pack(weight, rows, columns, <usize>columns << 2, 4, panels, 0, rows, first(count, thread, threads), last(count, thread, threads));
}

/**
 * conv2dForward for packed weights. `blockPixels` output pixels are worked on at a time; `scratch` holds `threadFloats` floats per
 * thread: first a table for blockPixels rows, `bandStart` floats on the band.
 */
export function conv2dDirect(
  x: usize, xStride: u32, panels: usize, bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, scratch: usize,
  flags: usize, layer: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32, relu: u32,
  blockPixels: u32, bandStart: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  share(batch * outHeight * outWidth, panelCount(outChannels), kernelHeight * kernelWidth * channels, thread, threads);
  if (rowFirst >= rowLast) return;
  const floor: f32 = relu ? <f32>0.0 : -Infinity;
  const table = scratch + ((<usize>thread * threadFloats) << 2);
  const band = table + (<usize>bandStart << 2);
  const bandWidth = (outWidth - 1) * strideX + kernelWidth;
  const inPlace = padTop == 0 && padLeft == 0 && bandWidth <= width && (outHeight - 1) * strideY + kernelHeight <= height
    && (kernelWidth == 1 || xStride == channels);
  const pitch = <usize>(inPlace ? width * xStride : bandWidth * channels) << 2;
  const step = <usize>(strideX * (inPlace ? xStride : channels)) << 2;
  const depth = kernelWidth * channels;
  const imageBytes = <usize>(height * width * xStride) << 2;
  let bad = false;
  for (let start = rowFirst; start < rowLast; start += blockPixels) {
    const end = min<u32>(rowLast, start + blockPixels);
    let entry = table, free = band, line = start / outWidth, ox = start % outWidth;
    let c = y + ((<usize>start * yStride) << 2), r = residual + ((<usize>start * residualStride) << 2);
    for (let pixel = start; pixel < end; ) {
      // One image: its output lines in this block.
      const image = line / outHeight, oy = line % outHeight;
      const lines = min<u32>(outHeight - oy, (end - 1) / outWidth + 1 - line);
      const from = x + <usize>image * imageBytes;
      let a = from + <usize>(oy * strideY) * pitch;
      if (!inPlace) {
        const top = <i32>(oy * strideY) - <i32>padTop;
        fillBand(free, from, xStride, height, width, channels, top, top + <i32>((lines - 1) * strideY + kernelHeight), -<i32>padLeft, bandWidth);
        a = free;
        free += <usize>((lines - 1) * strideY + kernelHeight) * pitch;
      }
      for (let i: u32 = 0; i < lines; i++) {
        const count = min<u32>(outWidth - ox, end - pixel);
        let at = a + <usize>ox * step;
        for (let k: u32 = 0; k < count; k++) {
          store<usize>(entry, at);
          store<usize>(entry, c, 4);
          store<usize>(entry, r, 8);
          entry += ENTRY;
          at += step;
          c += <usize>yStride << 2;
          r += <usize>residualStride << 2;
        }
        pixel += count;
        ox = 0;
        a += <usize>strideY * pitch;
      }
      line += lines;
    }
    closeTable(table, end - start);
    bad = multiply(table, end - start, kernelHeight, depth, pitch - (<usize>depth << 2), panels, outChannels, panelFirst, panelLast,
      bias, residual != 0, floor) || bad;
  }
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}
