// Convolution as a segmented matrix product over images as they lie in memory (asm/gemm.ts). A convolution with padding first copies
// the lines it needs, a block of output pixels at a time, into a band with its zeros written out; each thread has a band of its
// own, small enough to stay in its cache, so there is no barrier. Others read x in place.
import { closeTable, ENTRY, multiply, outer, pack, packedColumns, panelCount } from './gemm';
import { panelsFrom, panelsTo, rowsFrom, rowsTo, share } from './share';
import { first, last } from './vector';

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
  share(thread, threads, batch * outHeight * outWidth, panelCount(outChannels));
  if (rowsFrom >= rowsTo) return;
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
  for (let start = rowsFrom; start < rowsTo; start += blockPixels) {
    const end = min<u32>(rowsTo, start + blockPixels);
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
    bad = multiply(table, end - start, kernelHeight, depth, pitch - (<usize>depth << 2), panels, outChannels, panelsFrom, panelsTo,
      bias, residual != 0, floor) || bad;
  }
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}

// -- input gradient ---------------------------------------------------------------------------------------------------
//
// With t = iy + padTop = strideY * q + r, line iy of dx receives dy lines q - u through the taps ky = r + strideY * u. So for each
// remainder r (and likewise for columns) the gradient is a convolution of stride 1 over dy, with every strideY-th tap, flipped. All
// classes (remainders of lines x of columns) read the same lines of dy; with stride 1 there is one class.

/** Taps of a kernel of `size` with remainder r. */
// @ts-ignore: decorator
@inline
function tapsOf(size: u32, stride: u32, r: u32): u32 {
  return r < size ? (size - r + stride - 1) / stride : 0;
}

/**
 * Weights [kernelHeight][kernelWidth][channels][outChannels] as panels of one matrix per class, classes in order of their remainders:
 * rows are (tap flipped, outChannel), columns channels. Threads split the panels.
 */
export function conv2dPackTransposed(
  weight: usize, panels: usize, kernelHeight: u32, kernelWidth: u32, channels: u32, outChannels: u32, strideY: u32, strideX: u32,
  thread: u32, threads: u32,
): void {
  const count = panelCount(channels);
  const from = first(count, thread, threads), to = last(count, thread, threads);
  for (let ry: u32 = 0; ry < strideY; ry++) {
    const tapsY = tapsOf(kernelHeight, strideY, ry);
    for (let rx: u32 = 0; rx < strideX; rx++) {
      const tapsX = tapsOf(kernelWidth, strideX, rx);
      const depth = tapsY * tapsX * outChannels;
      for (let v: u32 = 0; v < tapsY; v++) {
        for (let w: u32 = 0; w < tapsX; w++) {
          const tap = (ry + strideY * (tapsY - 1 - v)) * kernelWidth + rx + strideX * (tapsX - 1 - w);
          pack(weight + ((<usize>(tap * channels) * outChannels) << 2), outChannels, channels, 4, <usize>outChannels << 2, panels,
            (v * tapsX + w) * outChannels, depth, from, to);
        }
      }
      panels += (<usize>depth * packedColumns(channels)) << 2;
    }
  }
}

/** conv2dInputGradient for weights packed by conv2dPackTransposed; scratch as in conv2dDirect. One chain of madd per class and element. */
export function conv2dInputGradientDirect(
  dy: usize, dyStride: u32, panels: usize, dx: usize, dxStride: u32, scratch: usize,
  batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32,
  blockPixels: u32, bandStart: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const firstY = padTop / strideY, firstX = padLeft / strideX;
  const lines = (height - 1 + padTop) / strideY - firstY + 1, pixels = (width - 1 + padLeft) / strideX - firstX + 1;
  share(thread, threads, batch * lines * pixels, panelCount(channels));
  if (rowsFrom >= rowsTo) return;
  const table = scratch + ((<usize>thread * threadFloats) << 2);
  const band = table + (<usize>bandStart << 2);
  const reachY = tapsOf(kernelHeight, strideY, 0), reachX = tapsOf(kernelWidth, strideX, 0);
  const bandWidth = pixels + reachX - 1;
  const inPlace = reachY == 1 && reachX == 1 && firstY + lines <= outHeight && firstX + pixels <= outWidth;
  const pitch = <usize>(inPlace ? outWidth * dyStride : bandWidth * outChannels) << 2;
  const step = <usize>(inPlace ? dyStride : outChannels) << 2;
  const imageBytes = <usize>(outHeight * outWidth * dyStride) << 2;
  for (let start = rowsFrom; start < rowsTo; start += blockPixels) {
    const end = min<u32>(rowsTo, start + blockPixels);
    let matrix = panels;
    for (let ry: u32 = 0; ry < strideY; ry++) {
      const tapsY = tapsOf(kernelHeight, strideY, ry);
      for (let rx: u32 = 0; rx < strideX; rx++) {
        const tapsX = tapsOf(kernelWidth, strideX, rx);
        const depth = tapsX * outChannels;
        const shift = <usize>(reachY - tapsY) * pitch + <usize>(reachX - tapsX) * step;
        let count: u32 = 0;
        let entry = table, free = band, line = start / pixels, column = start % pixels;
        for (let pixel = start; pixel < end; ) {
          const image = line / lines, q = line % lines;
          const here = min<u32>(lines - q, (end - 1) / pixels + 1 - line);
          const from = dy + <usize>image * imageBytes;
          let a = from + <usize>(firstY + q) * pitch + <usize>firstX * step;
          if (!inPlace) {
            if (ry == 0 && rx == 0) {
              const top = <i32>(firstY + q) - <i32>(reachY - 1);
              fillBand(free, from, dyStride, outHeight, outWidth, outChannels, top, top + <i32>(here + reachY - 1), <i32>firstX - <i32>(reachX - 1), bandWidth);
            }
            a = free;
            free += <usize>(here + reachY - 1) * pitch;
          }
          for (let i: u32 = 0; i < here; i++) {
            const run = min<u32>(pixels - column, end - pixel);
            const iy = <i32>(strideY * (firstY + q + i) + ry) - <i32>padTop;
            if (iy >= 0 && iy < <i32>height) {
              let ix = <i32>(strideX * (firstX + column) + rx) - <i32>padLeft;
              let at = a + shift + <usize>column * step;
              const c = dx + ((<usize>((image * height + <u32>iy) * width) * dxStride) << 2);
              for (let k: u32 = 0; k < run; k++) {
                if (ix >= 0 && ix < <i32>width) {
                  store<usize>(entry, at);
                  store<usize>(entry, c + ((<usize>ix * dxStride) << 2), 4);
                  entry += ENTRY;
                  count++;
                }
                at += step;
                ix += strideX;
              }
            }
            pixel += run;
            column = 0;
            a += pitch;
          }
          line += here;
        }
        if (count) {
          closeTable(table, count);
          multiply(table, count, tapsY, depth, pitch - (<usize>depth << 2), matrix, channels, panelsFrom, panelsTo, 0, false, -Infinity);
        }
        matrix += (<usize>(tapsY * depth) * packedColumns(channels)) << 2;
      }
    }
  }
}

// -- weight gradient --------------------------------------------------------------------------------------------------

/** Output pixels whose products are added up before they are added to the gradient: their part of x and dy fits the second cache. */
const BLOCK: u32 = 128;

/**
 * conv2dWeightGradient in blocks of 128 output pixels: x is gathered per run of taps, then multiplied by dy (asm/gemm.ts, `outer`).
 * A run is one tap, or the taps of a kernel line where channels are few (`runTaps`). Sums go over blocks in order. Threads split
 * (tap, channel), never pixels. Scratch per thread: 128 rows of `gatherStride` floats, then 128 of 12.
 */
export function conv2dWeightGradientDirect(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, kernelHeight: u32, kernelWidth: u32, strideY: u32, strideX: u32, padTop: u32, padLeft: u32,
  runTaps: u32, gatherStride: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const gathered = scratch + ((<usize>thread * threadFloats) << 2);
  const narrow = gathered + ((<usize>BLOCK * gatherStride) << 2);
  const runRows = runTaps * channels;
  const runs = kernelHeight * kernelWidth / runTaps;
  // Groups of three rows (the tile's) of all runs; where there are fewer than threads, outChannels are split as well.
  const groups = (runRows + 2) / 3;
  const panels = panelCount(outChannels);
  const panelGroups = min<u32>(panels, max<u32>(1, threads / (runs * groups)));
  const rowGroups = threads / panelGroups;
  if (thread >= rowGroups * panelGroups) return;
  const firstGroup = first(runs * groups, thread / panelGroups, rowGroups), lastGroup = last(runs * groups, thread / panelGroups, rowGroups);
  const from = first(panels, thread % panelGroups, panelGroups), to = last(panels, thread % panelGroups, panelGroups);
  if (firstGroup >= lastGroup || from >= to) return;
  const pixels = batch * outHeight * outWidth;
  const row = <usize>outChannels << 2;
  const inPlace = kernelHeight * kernelWidth * strideY * strideX == 1 && padTop + padLeft == 0 && outHeight == height && outWidth == width
    && (xStride & 127) != 0; // else the rows of a block fall into few sets of the cache: gathering spreads them
  for (let start: u32 = 0; start < pixels; start += BLOCK) {
    const count = min<u32>(BLOCK, pixels - start);
    const b = dy + ((<usize>start * dyStride) << 2);
    for (let run = firstGroup / groups; run <= (lastGroup - 1) / groups; run++) {
      const low = max<u32>(firstGroup, run * groups) - run * groups, high = min<u32>(lastGroup, (run + 1) * groups) - run * groups;
      const channelLow = low * 3, channelHigh = min<u32>(high * 3, runRows);
      const ky = run * runTaps / kernelWidth, kx = run * runTaps % kernelWidth;
      if (inPlace) {
        outer(x + ((<usize>start * xStride + channelLow) << 2), <usize>xStride << 2, b, <usize>dyStride << 2, count, channelHigh - channelLow, outChannels, from, to,
          dweight + <usize>channelLow * row, row, start != 0, narrow);
        continue;
      }
      gather(gathered, gatherStride, x, xStride, height, width, channels, outHeight, outWidth, strideY, strideX,
        <i32>ky - <i32>padTop, <i32>kx - <i32>padLeft, runTaps, channelLow, channelHigh, start, count);
      outer(gathered, <usize>gatherStride << 2, b, <usize>dyStride << 2, count, channelHigh - channelLow, outChannels, from, to,
        dweight + <usize>(run * runRows + channelLow) * row, row, start != 0, narrow);
    }
  }
}

/**
 * Row per output pixel `start` up to `start + count`: floats `low` up to `high` of the `taps` pixels of x that begin at (dy, dx) from the
 * pixel's origin; zero outside the image. Rows are `gatherStride` floats apart.
 */
function gather(
  to: usize, gatherStride: u32, x: usize, xStride: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32,
  strideY: u32, strideX: u32, dy: i32, dx: i32, taps: u32, low: u32, high: u32, start: u32, count: u32,
): void {
  let ox = start % outWidth, line = start / outWidth;
  for (let done: u32 = 0; done < count; ) {
    const run = min<u32>(outWidth - ox, count - done);
    const iy = <i32>(line % outHeight * strideY) + dy;
    const inside = iy >= 0 && iy < <i32>height;
    const source = x + ((<usize>((line / outHeight) * height + <u32>iy) * width * xStride) << 2);
    for (let k: u32 = 0; k < run; k++) {
      const ix = <i32>(ox * strideX) + dx;
      if (inside && ix >= 0 && ix + <i32>taps <= <i32>width && (taps == 1 || xStride == channels)) {
        copyFloats(to, source + ((<usize>ix * xStride + low) << 2), high - low);
      } else {
        let out = to;
        for (let tap: u32 = 0; tap < taps; tap++) {
          const a = max<u32>(low, tap * channels), b = min<u32>(high, (tap + 1) * channels);
          if (a >= b) continue;
          const at = ix + <i32>tap;
          if (inside && at >= 0 && at < <i32>width) copyFloats(out, source + ((<usize>at * xStride + (a - tap * channels)) << 2), b - a);
          else zeroFloats(out, b - a);
          out += <usize>(b - a) << 2;
        }
      }
      to += <usize>gatherStride << 2;
      ox++;
    }
    done += run;
    ox = 0;
    line++;
  }
}
