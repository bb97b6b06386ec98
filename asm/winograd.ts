// Convolutions 3x3 and 5x5 of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for convolutional neural networks",
// 2015): F(2x2, 3x3) with points 0, 1, -1, infinity takes 16 products instead of 36, F(4x4, 3x3) with 0, +-5/8, +-3/2, infinity takes 36
// instead of 144. Those points are exact in f32 and give less than half the error of the usual 0, +-1, +-2: powers of numbers
// around 1 stay closer together. F(2x2, 5x5) has the same points, hence the same B: 36 products instead of 100.
//
//   Y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A      per tile; * elementwise, so one matrix product per element xi
//
// A thread takes a block of tiles through all three phases in scratch of its own: V[xi][tile][channel], products P[xi][tile][outChannel] by
// the panels of asm/gemm.ts, a few outChannels at a time, then the outputs. Nothing a tile yields depends on other tiles, so neither batch nor threads change bits.
import { barrier } from './barrier';
import { closeTable, ENTRY, multiply, outerPacked, packedColumns, panelColumn, panelCount, tableFloats, widePanels } from './gemm';
import { panelsFrom, panelsTo, rowsFrom, rowsTo, share } from './share';
import { first, last, loadLanes, madd, storeLanes } from './vector';

// The points of F(4x4): a, b and their powers.
const A: f64 = 0.625, A2: f64 = A * A, A3: f64 = A2 * A;
const B: f64 = 1.5, B2: f64 = B * B, B3: f64 = B2 * B;

/** Columns of P that are computed, then transformed: few, so that they stay in the cache. A multiple of both panels' widths. */
const CHUNK: u32 = 48;

/** Bytes of one thread's addresses of a tile's pixels (up to 36), and of its intermediate values. */
const POINTERS: usize = 192;
const MIDDLE: usize = 576;

export function conv2dWinogradF2(
  x: usize, xStride: u32, panels: usize, bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, scratch: usize,
  flags: usize, layer: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  padTop: u32, padLeft: u32, relu: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const bad = convolve(thread, threads, 2, 4, x, xStride, batch, height, width, channels, panels, bias, residual, residualStride, y, yStride,
    outHeight, outWidth, outChannels, padTop, padLeft, relu ? <f32>0.0 : -Infinity, scratch, blockTiles, threadFloats);
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}

export function conv2dWinogradF4(
  x: usize, xStride: u32, panels: usize, bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, scratch: usize,
  flags: usize, layer: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  padTop: u32, padLeft: u32, relu: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const bad = convolve(thread, threads, 4, 6, x, xStride, batch, height, width, channels, panels, bias, residual, residualStride, y, yStride,
    outHeight, outWidth, outChannels, padTop, padLeft, relu ? <f32>0.0 : -Infinity, scratch, blockTiles, threadFloats);
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}

export function conv2dWinogradF2K5(
  x: usize, xStride: u32, panels: usize, bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, scratch: usize,
  flags: usize, layer: u32, batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  padTop: u32, padLeft: u32, relu: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  const bad = convolve(thread, threads, 2, 6, x, xStride, batch, height, width, channels, panels, bias, residual, residualStride, y, yStride,
    outHeight, outWidth, outChannels, padTop, padLeft, relu ? <f32>0.0 : -Infinity, scratch, blockTiles, threadFloats);
  if (bad && flags) store<u32>(flags + (<usize>layer << 2), 1);
}

/** The input gradient is the convolution of dy with the flipped taps, padded by taps - 1 - padding; weights transformed with `transposed`. */
export function conv2dInputGradientWinogradF2(
  dy: usize, dyStride: u32, panels: usize, dx: usize, dxStride: u32, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  convolve(thread, threads, 2, 4, dy, dyStride, batch, outHeight, outWidth, outChannels, panels, 0, 0, 0, dx, dxStride,
    height, width, channels, 2 - padTop, 2 - padLeft, -Infinity, scratch, blockTiles, threadFloats);
}

export function conv2dInputGradientWinogradF4(
  dy: usize, dyStride: u32, panels: usize, dx: usize, dxStride: u32, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  convolve(thread, threads, 4, 6, dy, dyStride, batch, outHeight, outWidth, outChannels, panels, 0, 0, 0, dx, dxStride,
    height, width, channels, 2 - padTop, 2 - padLeft, -Infinity, scratch, blockTiles, threadFloats);
}

export function conv2dInputGradientWinogradF2K5(
  dy: usize, dyStride: u32, panels: usize, dx: usize, dxStride: u32, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32, threadFloats: u32, thread: u32, threads: u32,
): void {
  convolve(thread, threads, 2, 6, dy, dyStride, batch, outHeight, outWidth, outChannels, panels, 0, 0, 0, dx, dxStride,
    height, width, channels, 4 - padTop, 4 - padLeft, -Infinity, scratch, blockTiles, threadFloats);
}

/**
 * This thread's share of a convolution with tiles of `size` x `size` outputs from `edge` x `edge` inputs. `scratch` holds `threadFloats` floats per thread: table,
 * addresses, intermediate values, a pixel of zeros, V and P for blockTiles tiles. channels must be at least 4.
 */
function convolve(
  thread: u32, threads: u32, size: u32, edge: u32, x: usize, xStride: u32, batch: u32, height: u32, width: u32, channels: u32, panels: usize,
  bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, outHeight: u32, outWidth: u32, outChannels: u32,
  padTop: u32, padLeft: u32, floor: f32, scratch: usize, blockTiles: u32, threadFloats: u32,
): bool {
  const tilesY = (outHeight + size - 1) / size, tilesX = (outWidth + size - 1) / size;
  share(thread, threads, batch * tilesY * tilesX, panelCount(outChannels));
  if (rowsFrom >= rowsTo) return false;
  const points = edge * edge;
  const table = scratch + ((<usize>thread * threadFloats) << 2);
  const pointers = table + ((<usize>tableFloats(blockTiles) + 15 & ~15) << 2);
  const middle = pointers + POINTERS;
  const zeros = middle + MIDDLE;
  const v = zeros + ((<usize>channels + 15 & ~15) << 2);
  const packed = packedColumns(outChannels);
  const uStep = oddLines(channels * packed), vStep = oddLines(blockTiles * channels), pStep = oddLines(blockTiles * CHUNK);
  const p = v + <usize>points * vStep;
  const chunkPanels: u32 = widePanels(outChannels) ? CHUNK / 12 : CHUNK / 8;
  memory.fill(zeros, 0, <usize>channels << 2);
  // Blocks of about the same size: none of a few tiles, for which all weights would pass by.
  const tiles = rowsTo - rowsFrom, blocks = (tiles + blockTiles - 1) / blockTiles;
  const block = min<u32>(blockTiles, ((tiles + blocks - 1) / blocks + 2) / 3 * 3);
  let bad = false;
  for (let start = rowsFrom; start < rowsTo; start += block) {
    const count = min<u32>(block, rowsTo - start);
    for (let i: u32 = 0; i < count; i++) {
      const tile = start + i, image = tile / (tilesY * tilesX), ty = tile / tilesX % tilesY, tx = tile % tilesX;
      tilePointers(pointers, edge, x + ((<usize>(image * height * width) * xStride) << 2), xStride, height, width,
        <i32>(ty * size) - <i32>padTop, <i32>(tx * size) - <i32>padLeft, zeros);
      const to = v + ((<usize>i * channels) << 2);
      if (edge == 6) input6(pointers, channels, middle, to, vStep);
      else input4(pointers, channels, to, vStep);
    }
    for (let from = panelsFrom; from < panelsTo; from += chunkPanels) {
      const to = min<u32>(panelsTo, from + chunkPanels);
      const column = panelColumn(from, outChannels), columnTo = min<u32>(outChannels, panelColumn(to, outChannels));
      for (let xi: u32 = 0; xi < points; xi++) {
        // Products of this chunk begin at column 0 of P: `multiply` adds the panels' own.
        let a = v + <usize>xi * vStep, c = p + <usize>xi * pStep - (<usize>column << 2), entry = table;
        for (let i: u32 = 0; i < count; i++) {
          store<usize>(entry, a);
          store<usize>(entry, c, 4);
          entry += ENTRY;
          a += <usize>channels << 2;
          c += CHUNK << 2;
        }
        closeTable(table, count);
        multiply(table, count, 1, channels, 0, panels + <usize>xi * uStep, packed, from, to, 0, false, -Infinity);
      }
      for (let i: u32 = 0; i < count; i++) {
        const tile = start + i, image = tile / (tilesY * tilesX), ty = tile / tilesX % tilesY, tx = tile % tilesX;
        const pixel = (image * outHeight + ty * size) * outWidth + tx * size;
        bad = writeTile(size, edge, p + ((<usize>i * CHUNK) << 2), pStep, middle, column, columnTo, pixel, outWidth,
          min<u32>(size, outHeight - ty * size), min<u32>(size, outWidth - tx * size), bias, residual, residualStride, y, yStride, floor) || bad;
      }
    }
  }
  return bad;
}

/** Outputs of one tile, `rows` x `columns` of them inside the map, for outChannels `from` up to `to`. Returns whether one was not finite. */
function writeTile(
  size: u32, edge: u32, products: usize, pStep: usize, middle: usize, from: u32, to: u32, pixel: u32, outWidth: u32, rows: u32, columns: u32,
  bias: usize, residual: usize, residualStride: u32, y: usize, yStride: u32, floor: f32,
): bool {
  const lo = f32x4.splat(floor);
  let bad = f32x4.splat(0);
  for (let channel = from; channel < to; channel += 4) {
    const lanes = min<u32>(4, to - channel);
    const at = <usize>channel << 2;
    if (size == 4) outputF4(products, pStep, middle);
    else if (edge == 6) outputF2K5(products, pStep, middle);
    else outputF2(products, pStep, middle);
    products += 16;
    const b = bias ? loadLanes(bias + at, lanes) : f32x4.splat(0);
    for (let r: u32 = 0; r < rows; r++) {
      let q = <usize>(pixel + r * outWidth), m = middle + ((<usize>r * size) << 4);
      for (let s: u32 = 0; s < columns; s++) {
        let value = f32x4.add(v128.load(m), b);
        if (residual) value = f32x4.add(value, loadLanes(residual + ((q * residualStride) << 2) + at, lanes));
        bad = v128.or(bad, f32x4.sub(value, value));
        storeLanes(y + ((q * yStride) << 2) + at, f32x4.pmax(value, lo), lanes);
        q++;
        m += 16;
      }
    }
  }
  return v128.any_true(bad);
}

/** Bytes for `floats`, an odd number of cache lines: the xi of one place fall into different sets of the cache. */
// @ts-ignore: decorator
@inline
function oddLines(floats: u32): usize {
  return <usize>((floats + 31 & ~31) + 16) << 2;
}

/** Addresses of the `edge` x `edge` pixels from (top, left) on; of the zeros for those outside the image. */
function tilePointers(pointers: usize, edge: u32, image: usize, stride: u32, height: u32, width: u32, top: i32, left: i32, zeros: usize): void {
  for (let r: u32 = 0; r < edge; r++) {
    const iy = top + <i32>r;
    const inside = iy >= 0 && iy < <i32>height;
    let ix = left;
    for (let s: u32 = 0; s < edge; s++) {
      store<usize>(pointers, inside && ix >= 0 && ix < <i32>width ? image + ((<usize>(<u32>iy * width + <u32>ix) * stride) << 2) : zeros);
      pointers += 4;
      ix++;
    }
  }
}

/** B^T d B for 4 x 4 inputs, four channels at a time; the last four overlap those before where channels are not a multiple. */
function input4(pointers: usize, channels: u32, v: usize, step: usize): void {
  for (let c: u32 = 0; c < channels; c += 4) {
    const at = <usize>min<u32>(c, channels - 4) << 2;
    let d0 = v128.load(load<usize>(pointers) + at), d1 = v128.load(load<usize>(pointers, 16) + at);
    let d2 = v128.load(load<usize>(pointers, 32) + at), d3 = v128.load(load<usize>(pointers, 48) + at);
    const t00 = f32x4.sub(d0, d2), t10 = f32x4.add(d1, d2), t20 = f32x4.sub(d2, d1), t30 = f32x4.sub(d1, d3);
    d0 = v128.load(load<usize>(pointers, 4) + at); d1 = v128.load(load<usize>(pointers, 20) + at);
    d2 = v128.load(load<usize>(pointers, 36) + at); d3 = v128.load(load<usize>(pointers, 52) + at);
    const t01 = f32x4.sub(d0, d2), t11 = f32x4.add(d1, d2), t21 = f32x4.sub(d2, d1), t31 = f32x4.sub(d1, d3);
    d0 = v128.load(load<usize>(pointers, 8) + at); d1 = v128.load(load<usize>(pointers, 24) + at);
    d2 = v128.load(load<usize>(pointers, 40) + at); d3 = v128.load(load<usize>(pointers, 56) + at);
    const t02 = f32x4.sub(d0, d2), t12 = f32x4.add(d1, d2), t22 = f32x4.sub(d2, d1), t32 = f32x4.sub(d1, d3);
    d0 = v128.load(load<usize>(pointers, 12) + at); d1 = v128.load(load<usize>(pointers, 28) + at);
    d2 = v128.load(load<usize>(pointers, 44) + at); d3 = v128.load(load<usize>(pointers, 60) + at);
    const t03 = f32x4.sub(d0, d2), t13 = f32x4.add(d1, d2), t23 = f32x4.sub(d2, d1), t33 = f32x4.sub(d1, d3);
    let to = v + at;
    to = line4(to, step, t00, t01, t02, t03);
    to = line4(to, step, t10, t11, t12, t13);
    to = line4(to, step, t20, t21, t22, t23);
    line4(to, step, t30, t31, t32, t33);
  }
}

// @ts-ignore: decorator
@inline
function line4(to: usize, step: usize, t0: v128, t1: v128, t2: v128, t3: v128): usize {
  v128.store(to, f32x4.sub(t0, t2));
  v128.store(to + step, f32x4.add(t1, t2));
  v128.store(to + 2 * step, f32x4.sub(t2, t1));
  v128.store(to + 3 * step, f32x4.sub(t1, t3));
  return to + 4 * step;
}

/** A^T m A for tiles of 2 x 2: four outputs of four channels to `to`. */
function outputF2(m: usize, step: usize, to: usize): void {
  for (let j: u32 = 0; j < 4; j++) {
    const m0 = v128.load(m), m1 = v128.load(m + 4 * step), m2 = v128.load(m + 8 * step), m3 = v128.load(m + 12 * step);
    const at = to + 64 + (<usize>j << 4);
    v128.store(at, f32x4.add(f32x4.add(m0, m1), m2));
    v128.store(at, f32x4.sub(f32x4.sub(m1, m2), m3), 64);
    m += step;
  }
  for (let i: u32 = 0; i < 2; i++) {
    const at = to + 64 + (<usize>i << 6), out = to + (<usize>i << 5);
    const m0 = v128.load(at), m1 = v128.load(at, 16), m2 = v128.load(at, 32), m3 = v128.load(at, 48);
    v128.store(out, f32x4.add(f32x4.add(m0, m1), m2));
    v128.store(out, f32x4.sub(f32x4.sub(m1, m2), m3), 16);
  }
}

// One line of B^T d: t0 = a2 b2 d0 - (a2 + b2) d2 + d4; t1, t2 = (d4 - b2 d2) +- a (d3 - b2 d1); t3, t4 = (d4 - a2 d2) +- b (d3 - a2 d1);
// t5 = a2 b2 d1 - (a2 + b2) d3 + d5.

/** B^T d B for 6 x 6 inputs: columns to the intermediate values, then rows to V. */
function input6(pointers: usize, channels: u32, middle: usize, v: usize, step: usize): void {
  const a = f32x4.splat(<f32>A), minusA = f32x4.splat(<f32>-A), minusA2 = f32x4.splat(<f32>-A2);
  const b = f32x4.splat(<f32>B), minusB = f32x4.splat(<f32>-B), minusB2 = f32x4.splat(<f32>-B2);
  const product = f32x4.splat(<f32>(A2 * B2)), minusSum = f32x4.splat(<f32>-(A2 + B2));
  for (let c: u32 = 0; c < channels; c += 4) {
    const at = <usize>min<u32>(c, channels - 4) << 2;
    for (let j: usize = 0; j < 6; j++) {
      const from = pointers + (j << 2), to = middle + (j << 4);
      const d0 = v128.load(load<usize>(from) + at), d1 = v128.load(load<usize>(from, 24) + at), d2 = v128.load(load<usize>(from, 48) + at);
      const d3 = v128.load(load<usize>(from, 72) + at), d4 = v128.load(load<usize>(from, 96) + at), d5 = v128.load(load<usize>(from, 120) + at);
      const evenB = madd(minusB2, d2, d4), oddB = madd(minusB2, d1, d3), evenA = madd(minusA2, d2, d4), oddA = madd(minusA2, d1, d3);
      v128.store(to, madd(product, d0, madd(minusSum, d2, d4)));
      v128.store(to, madd(a, oddB, evenB), 96);
      v128.store(to, madd(minusA, oddB, evenB), 192);
      v128.store(to, madd(b, oddA, evenA), 288);
      v128.store(to, madd(minusB, oddA, evenA), 384);
      v128.store(to, madd(product, d1, madd(minusSum, d3, d5)), 480);
    }
    let to = v + at;
    for (let i: usize = 0; i < 6; i++) {
      const from = middle + i * 96;
      const d0 = v128.load(from), d1 = v128.load(from, 16), d2 = v128.load(from, 32), d3 = v128.load(from, 48), d4 = v128.load(from, 64), d5 = v128.load(from, 80);
      const evenB = madd(minusB2, d2, d4), oddB = madd(minusB2, d1, d3), evenA = madd(minusA2, d2, d4), oddA = madd(minusA2, d1, d3);
      v128.store(to, madd(product, d0, madd(minusSum, d2, d4)));
      v128.store(to + step, madd(a, oddB, evenB));
      v128.store(to + 2 * step, madd(minusA, oddB, evenB));
      v128.store(to + 3 * step, madd(b, oddA, evenA));
      v128.store(to + 4 * step, madd(minusB, oddA, evenA));
      v128.store(to + 5 * step, madd(product, d1, madd(minusSum, d3, d5)));
      to += 6 * step;
    }
  }
}

// One line of A^T m, with s and t the sums and differences of the products at +-a and +-b: y0 = m0 + sA + sB; y1 = a tA + b tB;
// y2 = a2 sA + b2 sB; y3 = a3 tA + b3 tB + m5.

/** A^T m A for tiles of 4 x 4: sixteen outputs of four channels to `to`, intermediate values behind them. */
function outputF4(m: usize, step: usize, to: usize): void {
  const a = f32x4.splat(<f32>A), a2 = f32x4.splat(<f32>A2), a3 = f32x4.splat(<f32>A3);
  const b = f32x4.splat(<f32>B), b2 = f32x4.splat(<f32>B2), b3 = f32x4.splat(<f32>B3);
  for (let j: usize = 0; j < 6; j++) {
    const m0 = v128.load(m), m1 = v128.load(m + 6 * step), m2 = v128.load(m + 12 * step);
    const m3 = v128.load(m + 18 * step), m4 = v128.load(m + 24 * step), m5 = v128.load(m + 30 * step);
    const sA = f32x4.add(m1, m2), sB = f32x4.add(m3, m4), tA = f32x4.sub(m1, m2), tB = f32x4.sub(m3, m4);
    const at = to + 192 + (j << 4);
    v128.store(at, f32x4.add(m0, f32x4.add(sA, sB)));
    v128.store(at, madd(b, tB, f32x4.mul(a, tA)), 96);
    v128.store(at, madd(b2, sB, f32x4.mul(a2, sA)), 192);
    v128.store(at, madd(b3, tB, madd(a3, tA, m5)), 288);
    m += step;
  }
  // Line i of the intermediate values begins at 192 + 96 i, line i of the outputs at 64 i: written after it was read.
  for (let i: usize = 0; i < 4; i++) {
    const from = to + 192 + i * 96, out = to + (i << 6);
    const m0 = v128.load(from), m1 = v128.load(from, 16), m2 = v128.load(from, 32), m3 = v128.load(from, 48), m4 = v128.load(from, 64), m5 = v128.load(from, 80);
    const sA = f32x4.add(m1, m2), sB = f32x4.add(m3, m4), tA = f32x4.sub(m1, m2), tB = f32x4.sub(m3, m4);
    v128.store(out, f32x4.add(m0, f32x4.add(sA, sB)));
    v128.store(out, madd(b, tB, f32x4.mul(a, tA)), 16);
    v128.store(out, madd(b2, sB, f32x4.mul(a2, sA)), 32);
    v128.store(out, madd(b3, tB, madd(a3, tA, m5)), 48);
  }
}

/** A^T m A for tiles of 2 x 2 from 6 x 6 products: the first two lines of F(4x4)'s, but y1 takes the product at infinity. */
function outputF2K5(m: usize, step: usize, to: usize): void {
  const a = f32x4.splat(<f32>A), b = f32x4.splat(<f32>B);
  for (let j: usize = 0; j < 6; j++) {
    const m0 = v128.load(m), m1 = v128.load(m + 6 * step), m2 = v128.load(m + 12 * step);
    const m3 = v128.load(m + 18 * step), m4 = v128.load(m + 24 * step), m5 = v128.load(m + 30 * step);
    const at = to + 64 + (j << 4);
    v128.store(at, f32x4.add(m0, f32x4.add(f32x4.add(m1, m2), f32x4.add(m3, m4))));
    v128.store(at, madd(b, f32x4.sub(m3, m4), madd(a, f32x4.sub(m1, m2), m5)), 96);
    m += step;
  }
  for (let i: usize = 0; i < 2; i++) {
    const from = to + 64 + i * 96, out = to + (i << 5);
    const m0 = v128.load(from), m1 = v128.load(from, 16), m2 = v128.load(from, 32), m3 = v128.load(from, 48), m4 = v128.load(from, 64), m5 = v128.load(from, 80);
    v128.store(out, f32x4.add(m0, f32x4.add(f32x4.add(m1, m2), f32x4.add(m3, m4))));
    v128.store(out, madd(b, f32x4.sub(m3, m4), madd(a, f32x4.sub(m1, m2), m5)), 16);
  }
}

// -- weight gradient --------------------------------------------------------------------------------------------------
//
// The gradient of 3x3 weights is a convolution of x with dy: F(3x3, 4x4), tiles of 4 x 4 of dy against 6 x 6 of x, 36 products in place of 144; of 5x5
// weights F(5x5, 2x2), 36 in place of 100. The points are those of F(4x4, 3x3), hence B is. Sums go over tiles, so there is one product
// of matrices [channels x tiles] [tiles x outChannels] per xi, and one transform back at the end:
//
//   dweight = A^T [ sum over tiles of (B^T x B) * (G dy G^T) ] A
//
// G here is (1, p, p^2, p^3) per point p: the quotients that belong to it are in A, which is applied once. Threads share V and W of a block of
// tiles: they split its tiles, then products by (xi, channels), never the sum over tiles. Blocks are added in order.

export function conv2dWeightGradientWinogradF3(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32, thread: u32, threads: u32,
): void {
  gradientOfWeights(thread, threads, 3, x, xStride, dy, dyStride, dweight, scratch, batch, height, width, channels, outHeight, outWidth, outChannels, padTop, padLeft, blockTiles);
}

export function conv2dWeightGradientWinogradF5(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, scratch: usize, batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32, thread: u32, threads: u32,
): void {
  gradientOfWeights(thread, threads, 5, x, xStride, dy, dyStride, dweight, scratch, batch, height, width, channels, outHeight, outWidth, outChannels, padTop, padLeft, blockTiles);
}

/**
 * Weights of `taps` x `taps`. `scratch` holds V[xi][tile][channel], W[xi] in panels of outChannels and the products P[xi][channel][outChannel], then for each thread
 * addresses, intermediate values and a pixel of zeros. channels must be at least 4.
 */
function gradientOfWeights(
  thread: u32, threads: u32, taps: u32, x: usize, xStride: u32, dy: usize, dyStride: u32, dweight: usize, scratch: usize,
  batch: u32, height: u32, width: u32, channels: u32, outHeight: u32, outWidth: u32, outChannels: u32, padTop: u32, padLeft: u32, blockTiles: u32,
): void {
  const size = 7 - taps;
  const tilesY = (outHeight + size - 1) / size, tilesX = (outWidth + size - 1) / size;
  const tiles = batch * tilesY * tilesX;
  const packed = packedColumns(outChannels);
  const vRow = oddLines(channels), vStep = oddLines(blockTiles * <u32>(vRow >> 2)), wStep = oddLines(blockTiles * packed), pStep = oddLines(channels * packed);
  const v = scratch, w = v + 36 * vStep, p = w + 36 * wStep;
  const most = max<u32>(channels, outChannels) + 15 & ~15;
  const pointers = p + 36 * pStep + <usize>thread * (POINTERS + MIDDLE + (<usize>most << 2));
  const middle = pointers + POINTERS, zeros = middle + MIDDLE;
  memory.fill(zeros, 0, <usize>most << 2);
  // Groups of twelve channels, a multiple of the tiles' rows, of all xi.
  const groups = (channels + 11) / 12;
  const from = first(36 * groups, thread, threads), to = last(36 * groups, thread, threads);
  const row = <usize>packed << 2;
  for (let start: u32 = 0; start < tiles; start += blockTiles) {
    const count = min<u32>(blockTiles, tiles - start);
    const end = last(count, thread, threads);
    for (let i = first(count, thread, threads); i < end; i++) {
      const tile = start + i, image = tile / (tilesY * tilesX), ty = tile / tilesX % tilesY, tx = tile % tilesX;
      tilePointers(pointers, 6, x + ((<usize>(image * height * width) * xStride) << 2), xStride, height, width,
        <i32>(ty * size) - <i32>padTop, <i32>(tx * size) - <i32>padLeft, zeros);
      input6(pointers, channels, middle, v + <usize>i * vRow, vStep);
      tilePointers(pointers, size, dy + ((<usize>(image * outHeight * outWidth) * dyStride) << 2), dyStride, outHeight, outWidth,
        <i32>(ty * size), <i32>(tx * size), zeros);
      tileOfGradient(pointers, size, outChannels, middle, w, blockTiles, i, wStep);
    }
    barrier();
    for (let unit = from; unit < to; ) {
      const xi = unit / groups, channel = unit % groups * 12;
      const run = min<u32>(groups - unit % groups, to - unit);
      outerPacked(v + <usize>xi * vStep + (<usize>channel << 2), vRow, w + <usize>xi * wStep, blockTiles, count, min<u32>(run * 12, channels - channel), outChannels,
        p + <usize>xi * pStep + <usize>channel * row, row, start != 0);
      unit += run;
    }
    barrier();
  }
  const end = last(channels, thread, threads);
  for (let channel = first(channels, thread, threads); channel < end; channel++) {
    weightsOf(taps, p + <usize>channel * row, pStep, middle, dweight + ((<usize>(channel * outChannels)) << 2), <usize>(channels * outChannels) << 2, outChannels);
  }
}

// One line of G d: the value of the polynomial d0 + d1 p + d2 p^2 + d3 p^3 at each point; at infinity its last coefficient.

/** G dy G^T of a tile of `size` x `size` outputs to place `tile` of the panels of W. */
function tileOfGradient(pointers: usize, size: u32, channels: u32, middle: usize, w: usize, blockTiles: u32, tile: u32, step: usize): void {
  const a = f32x4.splat(<f32>A), minusA = f32x4.splat(<f32>-A), a2 = f32x4.splat(<f32>A2);
  const b = f32x4.splat(<f32>B), minusB = f32x4.splat(<f32>-B), b2 = f32x4.splat(<f32>B2);
  const panels = panelCount(channels), wide = widePanels(channels);
  for (let p: u32 = 0; p < panels; p++) {
    const column = panelColumn(p, channels), panelWidth: u32 = p < wide ? 12 : 8;
    for (let n: u32 = 0; n < panelWidth; n += 4) {
      const at = <usize>(column + n) << 2;
      let to = w + ((<usize>(column * blockTiles + tile * panelWidth + n)) << 2);
      // Whole fours but for the last; behind it zeros.
      const lanes = column + n < channels ? min<u32>(4, channels - column - n) : 0;
      for (let j: usize = 0; j < <usize>size; j++) {
        const from = pointers + (j << 2), out = middle + (j << 4);
        if (size == 4) {
          const d0 = lane4(load<usize>(from) + at, lanes), d1 = lane4(load<usize>(from, 16) + at, lanes);
          const d2 = lane4(load<usize>(from, 32) + at, lanes), d3 = lane4(load<usize>(from, 48) + at, lanes);
          const evenA = madd(a2, d2, d0), oddA = madd(a2, d3, d1), evenB = madd(b2, d2, d0), oddB = madd(b2, d3, d1);
          v128.store(out, d0);
          v128.store(out, madd(a, oddA, evenA), 64);
          v128.store(out, madd(minusA, oddA, evenA), 128);
          v128.store(out, madd(b, oddB, evenB), 192);
          v128.store(out, madd(minusB, oddB, evenB), 256);
          v128.store(out, d3, 320);
        } else {
          const d0 = lane4(load<usize>(from) + at, lanes), d1 = lane4(load<usize>(from, 8) + at, lanes);
          v128.store(out, d0);
          v128.store(out, madd(a, d1, d0), 64);
          v128.store(out, madd(minusA, d1, d0), 128);
          v128.store(out, madd(b, d1, d0), 192);
          v128.store(out, madd(minusB, d1, d0), 256);
          v128.store(out, d1, 320);
        }
      }
      for (let i: usize = 0; i < 6; i++) {
        const from = middle + (i << 6);
        const d0 = v128.load(from), d1 = v128.load(from, 16);
        let evenA = d0, evenB = d0, oddA = d1, oddB = d1, top = d1;
        if (size == 4) {
          const d2 = v128.load(from, 32);
          top = v128.load(from, 48);
          evenA = madd(a2, d2, d0);
          oddA = madd(a2, top, d1);
          evenB = madd(b2, d2, d0);
          oddB = madd(b2, top, d1);
        }
        v128.store(to, d0);
        v128.store(to + step, madd(a, oddA, evenA));
        v128.store(to + 2 * step, madd(minusA, oddA, evenA));
        v128.store(to + 3 * step, madd(b, oddB, evenB));
        v128.store(to + 4 * step, madd(minusB, oddB, evenB));
        v128.store(to + 5 * step, top);
        to += 6 * step;
      }
    }
  }
}

/** loadLanes that may be asked for none. */
// @ts-ignore: decorator
@inline
function lane4(address: usize, lanes: u32): v128 {
  return lanes ? loadLanes(address, lanes) : f32x4.splat(0);
}

// The quotients of the points: 0, +-a, +-b (as in lineOfG4).
const OVER_0: f64 = 1.0 / (A2 * B2);
const OVER_A: f64 = 1.0 / (2.0 * A2 * (A2 - B2));
const OVER_B: f64 = 1.0 / (2.0 * B2 * (B2 - A2));

/** A^T m A of one channel: `taps` x `taps` weights of all outChannels to `to`, taps `tapStep` apart. */
function weightsOf(taps: u32, m: usize, step: usize, middle: usize, to: usize, tapStep: usize, outChannels: u32): void {
  for (let n: u32 = 0; n < outChannels; n += 4) {
    for (let j: usize = 0; j < 6; j++) lineOfWeights(taps, m + j * step, 6 * step, middle + (j << 4), 96, 4);
    for (let i: u32 = 0; i < taps; i++) lineOfWeights(taps, middle + <usize>i * 96, 16, to + <usize>(i * taps) * tapStep, tapStep, min<u32>(4, outChannels - n));
    m += 16;
    to += 16;
  }
}

/** One line of A^T m: y0 = m0 + sA + sB, y1 = a tA + b tB, y2 = a2 sA + b2 sB and so on; the last takes the product at infinity. */
function lineOfWeights(taps: u32, m: usize, step: usize, to: usize, toStep: usize, lanes: u32): void {
  const m0 = v128.load(m), m1 = v128.load(m + step), m2 = v128.load(m + 2 * step), m3 = v128.load(m + 3 * step), m4 = v128.load(m + 4 * step);
  const m5 = v128.load(m + 5 * step);
  const sA = f32x4.add(m1, m2), sB = f32x4.add(m3, m4), tA = f32x4.sub(m1, m2), tB = f32x4.sub(m3, m4);
  const last = taps == 3 ? m5 : f32x4.splat(0);
  storeLanes(to, madd(f32x4.splat(<f32>OVER_0), m0, madd(f32x4.splat(<f32>OVER_A), sA, f32x4.mul(f32x4.splat(<f32>OVER_B), sB))), lanes);
  storeLanes(to + toStep, madd(f32x4.splat(<f32>(OVER_A * A)), tA, f32x4.mul(f32x4.splat(<f32>(OVER_B * B)), tB)), lanes);
  storeLanes(to + 2 * toStep, madd(f32x4.splat(<f32>(OVER_A * A2)), sA, madd(f32x4.splat(<f32>(OVER_B * B2)), sB, last)), lanes);
  if (taps == 3) return;
  storeLanes(to + 3 * toStep, madd(f32x4.splat(<f32>(OVER_A * A3)), tA, f32x4.mul(f32x4.splat(<f32>(OVER_B * B3)), tB)), lanes);
  storeLanes(to + 4 * toStep, madd(f32x4.splat(<f32>(OVER_A * A2 * A2)), sA, madd(f32x4.splat(<f32>(OVER_B * B2 * B2)), sB, m5)), lanes);
}

// -- weights ----------------------------------------------------------------------------------------------------------

/** G g G^T of every (channel, outChannel) in float64, rounded once, as panels per xi. `transposed`: for the input gradient. */
export function conv2dTransformWeightF2(weight: usize, panels: usize, channels: u32, outChannels: u32, transposed: u32, thread: u32, threads: u32): void {
  transform(thread, threads, 2, 3, weight, panels, channels, outChannels, transposed);
}

export function conv2dTransformWeightF4(weight: usize, panels: usize, channels: u32, outChannels: u32, transposed: u32, thread: u32, threads: u32): void {
  transform(thread, threads, 4, 3, weight, panels, channels, outChannels, transposed);
}

export function conv2dTransformWeightF2K5(weight: usize, panels: usize, channels: u32, outChannels: u32, transposed: u32, thread: u32, threads: u32): void {
  transform(thread, threads, 2, 5, weight, panels, channels, outChannels, transposed);
}

/** Two columns of a panel at a time. Threads split the panels. */
function transform(thread: u32, threads: u32, size: u32, taps: u32, weight: usize, panels: usize, channels: u32, outChannels: u32, transposed: u32): void {
  const rows = transposed ? outChannels : channels, columns = transposed ? channels : outChannels;
  const rowStep: usize = transposed ? 4 : <usize>outChannels << 2, columnStep: usize = transposed ? <usize>outChannels << 2 : 4;
  const tapStep = <usize>(channels * outChannels) << 2;
  const count = panelCount(columns);
  const xiStep = oddLines(rows * packedColumns(columns));
  // The input gradient takes the taps from the last to the first.
  const start = transposed ? weight + <usize>(taps * taps - 1) * tapStep : weight;
  const step: usize = transposed ? <usize>0 - tapStep : tapStep;
  const to = last(count, thread, threads);
  for (let p = first(count, thread, threads); p < to; p++) {
    const column = panelColumn(p, columns), panelWidth = panelColumn(p + 1, columns) - column;
    for (let row: u32 = 0; row < rows; row++) {
      for (let n: u32 = 0; n < panelWidth; n += 2) {
        const out = panels + ((<usize>column * rows + <usize>row * panelWidth + n) << 2);
        const lanes = column + n >= columns ? 0 : min<u32>(2, columns - column - n);
        const g = start + <usize>row * rowStep + <usize>(column + n) * columnStep;
        if (taps == 5) transformF2K5(g, step, columnStep, lanes, out, xiStep);
        else if (size == 4) transformF4(g, step, columnStep, lanes, out, xiStep);
        else transformF2(g, step, columnStep, lanes, out, xiStep);
      }
    }
  }
}

/** Weights of one tap for two columns; `lanes` of them exist. */
// @ts-ignore: decorator
@inline
function tap(g: usize, columnStep: usize, lanes: u32): v128 {
  if (lanes == 2) {
    if (columnStep == 4) return f64x2.promote_low_f32x4(v128.load64_zero(g));
    return f64x2.replace_lane(f64x2.splat(<f64>load<f32>(g)), 1, <f64>load<f32>(g + columnStep));
  }
  if (lanes == 1) return f64x2.replace_lane(f64x2.splat(0), 0, <f64>load<f32>(g));
  return f64x2.splat(0);
}

// @ts-ignore: decorator
@inline
function storePair(to: usize, value: v128): void {
  v128.store64_lane(to, f32x4.demote_f64x2_zero(value), 0);
}

function transformF2(g: usize, step: usize, columnStep: usize, lanes: u32, out: usize, xiStep: usize): void {
  const half = f64x2.splat(0.5);
  for (let i: usize = 0; i < 4; i++) {
    // Row i of G g, then times G^T.
    const a0 = lineOfG2(i, g, 3 * step, columnStep, lanes), a1 = lineOfG2(i, g + step, 3 * step, columnStep, lanes), a2 = lineOfG2(i, g + 2 * step, 3 * step, columnStep, lanes);
    const sum = f64x2.mul(half, f64x2.add(a0, a2)), middle = f64x2.mul(half, a1);
    storePair(out, a0);
    storePair(out + xiStep, f64x2.add(sum, middle));
    storePair(out + 2 * xiStep, f64x2.sub(sum, middle));
    storePair(out + 3 * xiStep, a2);
    out += 4 * xiStep;
  }
}

// @ts-ignore: decorator
@inline
function lineOfG2(i: usize, g: usize, rowStep: usize, columnStep: usize, lanes: u32): v128 {
  const g0 = tap(g, columnStep, lanes), g1 = tap(g + rowStep, columnStep, lanes), g2 = tap(g + 2 * rowStep, columnStep, lanes);
  if (i == 0) return g0;
  if (i == 3) return g2;
  const outer = f64x2.add(g0, g2);
  return f64x2.mul(f64x2.splat(0.5), i == 1 ? f64x2.add(outer, g1) : f64x2.sub(outer, g1));
}

function transformF4(g: usize, step: usize, columnStep: usize, lanes: u32, out: usize, xiStep: usize): void {
  const g00 = tap(g, columnStep, lanes), g01 = tap(g + step, columnStep, lanes), g02 = tap(g + 2 * step, columnStep, lanes);
  g += 3 * step;
  const g10 = tap(g, columnStep, lanes), g11 = tap(g + step, columnStep, lanes), g12 = tap(g + 2 * step, columnStep, lanes);
  g += 3 * step;
  const g20 = tap(g, columnStep, lanes), g21 = tap(g + step, columnStep, lanes), g22 = tap(g + 2 * step, columnStep, lanes);
  for (let i: usize = 0; i < 6; i++) {
    const a0 = lineOfG4(i, g00, g10, g20), a1 = lineOfG4(i, g01, g11, g21), a2 = lineOfG4(i, g02, g12, g22);
    storePair(out, lineOfG4(0, a0, a1, a2));
    storePair(out + xiStep, lineOfG4(1, a0, a1, a2));
    storePair(out + 2 * xiStep, lineOfG4(2, a0, a1, a2));
    storePair(out + 3 * xiStep, lineOfG4(3, a0, a1, a2));
    storePair(out + 4 * xiStep, lineOfG4(4, a0, a1, a2));
    storePair(out + 5 * xiStep, lineOfG4(5, a0, a1, a2));
    out += 6 * xiStep;
  }
}

/** Row i of G times (g0, g1, g2): for the point p the row (1, p, p^2) over the product of its distances from the other points. */
// @ts-ignore: decorator
@inline
function lineOfG4(i: usize, g0: v128, g1: v128, g2: v128): v128 {
  if (i == 0) return f64x2.mul(f64x2.splat(1.0 / (A2 * B2)), g0);
  if (i == 5) return g2;
  const p = i < 3 ? A : B;
  const over = f64x2.splat(i < 3 ? 1.0 / (2.0 * A2 * (A2 - B2)) : 1.0 / (2.0 * B2 * (B2 - A2)));
  const outer = f64x2.add(g0, f64x2.mul(f64x2.splat(p * p), g2)), middle = f64x2.mul(f64x2.splat(p), g1);
  return f64x2.mul(over, i & 1 ? f64x2.add(outer, middle) : f64x2.sub(outer, middle));
}

function transformF2K5(g: usize, step: usize, columnStep: usize, lanes: u32, out: usize, xiStep: usize): void {
  for (let i: usize = 0; i < 6; i++) {
    const a0 = columnOfG6(i, g, 5 * step, columnStep, lanes), a1 = columnOfG6(i, g + step, 5 * step, columnStep, lanes);
    const a2 = columnOfG6(i, g + 2 * step, 5 * step, columnStep, lanes), a3 = columnOfG6(i, g + 3 * step, 5 * step, columnStep, lanes);
    const a4 = columnOfG6(i, g + 4 * step, 5 * step, columnStep, lanes);
    for (let j: usize = 0; j < 6; j++) {
      storePair(out, lineOfG6(j, a0, a1, a2, a3, a4));
      out += xiStep;
    }
  }
}

function columnOfG6(i: usize, g: usize, rowStep: usize, columnStep: usize, lanes: u32): v128 {
  return lineOfG6(i, tap(g, columnStep, lanes), tap(g + rowStep, columnStep, lanes), tap(g + 2 * rowStep, columnStep, lanes),
    tap(g + 3 * rowStep, columnStep, lanes), tap(g + 4 * rowStep, columnStep, lanes));
}

/** lineOfG4 for five taps: (1, p, ..., p^4). */
function lineOfG6(i: usize, g0: v128, g1: v128, g2: v128, g3: v128, g4: v128): v128 {
  if (i == 0) return f64x2.mul(f64x2.splat(1.0 / (A2 * B2)), g0);
  if (i == 5) return g4;
  const p = i < 3 ? A : B;
  const over = f64x2.splat(i < 3 ? 1.0 / (2.0 * A2 * (A2 - B2)) : 1.0 / (2.0 * B2 * (B2 - A2)));
  const square = f64x2.splat(p * p);
  const outer = f64x2.add(g0, f64x2.mul(square, f64x2.add(g2, f64x2.mul(square, g4))));
  const middle = f64x2.mul(f64x2.splat(p), f64x2.add(g1, f64x2.mul(square, g3)));
  return f64x2.mul(over, i & 1 ? f64x2.add(outer, middle) : f64x2.sub(outer, middle));
}
