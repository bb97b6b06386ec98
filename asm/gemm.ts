// The matrix product behind convolution and linear layers: rows of A lie in memory as they are (no im2row, no packing), B is packed
// in panels. Row m of A is `segments` runs of `depth` contiguous floats, `skip` bytes apart from the end of one to the start of the
// next: a convolution's kernel rows inside a zero-ringed NHWC image.
//
//   C[m, n] = activation(bias[n] + residual[m, n] + sum over s, k of A[m][s][k] * B[s * depth + k, n])
//
// Every output is ONE chain of madd in order of s, k, starting at bias + residual. Tiles, blocks and threads do not change it.
//
// Register tile: 16 xmm registers less one that V8 keeps; it schedules all loads of a loop body before its arithmetic, so
// accumulators + A values + B vectors must be at most 15. Fused: 3 rows x 12 columns (9 + 3 + 3), and 4 x 8 (8 + 4 + 2) where 12
// does not divide. mul and add need one more register for the product: 4 x 8 only. A values are splat loads: one load each.
//
// Packed B: panels of 12, then of 8 columns, each [segments * depth][columns]. Columns beyond the matrix's are zero.
import { loadLanes, madd, storeLanes } from './vector';

/** A table entry per row, in bytes: addresses of the row of A, of C and of the residual. */
export const ENTRY: usize = 12;
/** Entries behind the last one that must repeat it, so that the last tile finds full rows. */
export const REPEATS: u32 = 3;

/** Columns rounded up to what panels of 12 and 8 can hold. */
// @ts-ignore: decorator
@inline
function rounded(columns: u32): u32 {
  if (ASC_FEATURE_RELAXED_SIMD) return max<u32>(8, (columns + 3) & ~3);
  else return (columns + 7) & ~7;
}

/** Panels of 12 columns: as many as leave a multiple of 8. */
export function widePanels(columns: u32): u32 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const full = rounded(columns);
    const rest = full % 12;
    return (full - (rest == 4 ? 16 : rest)) / 12;
  } else return 0;
}

export function panelCount(columns: u32): u32 {
  const wide = widePanels(columns);
  return wide + ((rounded(columns) - wide * 12) >> 3);
}

/** First column of panel p; for the panel behind the last one, `packedColumns`. */
export function panelColumn(p: u32, columns: u32): u32 {
  const wide = widePanels(columns);
  return p < wide ? p * 12 : wide * 12 + (p - wide) * 8;
}

/** Columns of all panels together. */
export function packedColumns(columns: u32): u32 {
  return rounded(columns);
}

/**
 * Packs panels `from` up to `to` of a matrix whose element (k, n) lies at source + k * kStride + n * nStride (bytes). `at` is the first
 * row of the panels to write, `depth` their number of rows: a matrix may be packed from several sources, tap by tap.
 */
export function pack(source: usize, rows: u32, columns: u32, kStride: usize, nStride: usize, panels: usize, at: u32, depth: u32, from: u32, to: u32): void {
  const wide = widePanels(columns);
  for (let p = from; p < to; p++) {
    const width: u32 = p < wide ? 12 : 8;
    const column = panelColumn(p, columns);
    let out = panels + ((<usize>column * depth + <usize>at * width) << 2);
    const valid = min<u32>(width, columns - column);
    for (let k: u32 = 0; k < rows; k++) {
      let in_ = source + <usize>k * kStride + <usize>column * nStride;
      if (nStride == 4 && valid == width) {
        v128.store(out, v128.load(in_));
        v128.store(out, v128.load(in_, 16), 16);
        if (width == 12) v128.store(out, v128.load(in_, 32), 32);
      } else {
        for (let n: u32 = 0; n < width; n++) {
          store<f32>(out + (<usize>n << 2), n < valid ? load<f32>(in_) : <f32>0.0);
          in_ += nStride;
        }
      }
      out += <usize>width << 2;
    }
  }
}

// What a tile needs before and after its loops. Not parameters: every value that is alive in the loop takes a register, and V8 then moves
// the loop's own counters to the stack. Set by `panel`.
let jobColumn: usize = 0; // bytes from the start of a row of C and residual to the panel's first column
let jobBias: usize = 0;
let jobResidual: bool = false;
let jobFloor: f32 = 0;
let jobSkip: usize = 0;
let jobBad: bool = false; // a result before the activation was not finite

/** Three rows x 12 columns from the table entry on, with the panel at b. */
export function tile12(entry: usize, segments: u32, depth: u32, b: usize): void {
  let c00 = f32x4.splat(0), c01 = c00, c02 = c00;
  const bias = jobBias;
  if (bias) {
    c00 = v128.load(bias);
    c01 = v128.load(bias, 16);
    c02 = v128.load(bias, 32);
  }
  let c10 = c00, c11 = c01, c12 = c02, c20 = c00, c21 = c01, c22 = c02;
  if (jobResidual) {
    const column = jobColumn;
    const r0 = load<usize>(entry, 8) + column, r1 = load<usize>(entry, 20) + column, r2 = load<usize>(entry, 32) + column;
    c00 = f32x4.add(c00, v128.load(r0)); c01 = f32x4.add(c01, v128.load(r0, 16)); c02 = f32x4.add(c02, v128.load(r0, 32));
    c10 = f32x4.add(c10, v128.load(r1)); c11 = f32x4.add(c11, v128.load(r1, 16)); c12 = f32x4.add(c12, v128.load(r1, 32));
    c20 = f32x4.add(c20, v128.load(r2)); c21 = f32x4.add(c21, v128.load(r2, 16)); c22 = f32x4.add(c22, v128.load(r2, 32));
  }
  let a0 = load<usize>(entry), a1 = load<usize>(entry, 12), a2 = load<usize>(entry, 24);
  for (let s = segments; s; s--) {
    for (let k = depth; k; k--) {
      const b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32);
      const t0 = v128.load32_splat(a0);
      c00 = madd(t0, b0, c00); c01 = madd(t0, b1, c01); c02 = madd(t0, b2, c02);
      const t1 = v128.load32_splat(a1);
      c10 = madd(t1, b0, c10); c11 = madd(t1, b1, c11); c12 = madd(t1, b2, c12);
      const t2 = v128.load32_splat(a2);
      c20 = madd(t2, b0, c20); c21 = madd(t2, b1, c21); c22 = madd(t2, b2, c22);
      b += 48; a0 += 4; a1 += 4; a2 += 4;
    }
    const skip = jobSkip;
    a0 += skip; a1 += skip; a2 += skip;
  }
  let wrong = v128.or(v128.or(f32x4.sub(c00, c00), f32x4.sub(c01, c01)), f32x4.sub(c02, c02));
  wrong = v128.or(wrong, v128.or(v128.or(f32x4.sub(c10, c10), f32x4.sub(c11, c11)), f32x4.sub(c12, c12)));
  wrong = v128.or(wrong, v128.or(v128.or(f32x4.sub(c20, c20), f32x4.sub(c21, c21)), f32x4.sub(c22, c22)));
  if (v128.any_true(wrong)) jobBad = true;
  const lo = f32x4.splat(jobFloor), column = jobColumn;
  const o0 = load<usize>(entry, 4) + column, o1 = load<usize>(entry, 16) + column, o2 = load<usize>(entry, 28) + column;
  v128.store(o0, f32x4.pmax(c00, lo)); v128.store(o0, f32x4.pmax(c01, lo), 16); v128.store(o0, f32x4.pmax(c02, lo), 32);
  v128.store(o1, f32x4.pmax(c10, lo)); v128.store(o1, f32x4.pmax(c11, lo), 16); v128.store(o1, f32x4.pmax(c12, lo), 32);
  v128.store(o2, f32x4.pmax(c20, lo)); v128.store(o2, f32x4.pmax(c21, lo), 16); v128.store(o2, f32x4.pmax(c22, lo), 32);
}

/** Four rows x 8 columns from the table entry on, with the panel at b. */
export function tile8(entry: usize, segments: u32, depth: u32, b: usize): void {
  let c00 = f32x4.splat(0), c01 = c00;
  const bias = jobBias;
  if (bias) {
    c00 = v128.load(bias);
    c01 = v128.load(bias, 16);
  }
  let c10 = c00, c11 = c01, c20 = c00, c21 = c01, c30 = c00, c31 = c01;
  if (jobResidual) {
    const column = jobColumn;
    const r0 = load<usize>(entry, 8) + column, r1 = load<usize>(entry, 20) + column, r2 = load<usize>(entry, 32) + column, r3 = load<usize>(entry, 44) + column;
    c00 = f32x4.add(c00, v128.load(r0)); c01 = f32x4.add(c01, v128.load(r0, 16));
    c10 = f32x4.add(c10, v128.load(r1)); c11 = f32x4.add(c11, v128.load(r1, 16));
    c20 = f32x4.add(c20, v128.load(r2)); c21 = f32x4.add(c21, v128.load(r2, 16));
    c30 = f32x4.add(c30, v128.load(r3)); c31 = f32x4.add(c31, v128.load(r3, 16));
  }
  let a0 = load<usize>(entry), a1 = load<usize>(entry, 12), a2 = load<usize>(entry, 24), a3 = load<usize>(entry, 36);
  for (let s = segments; s; s--) {
    for (let k = depth; k; k--) {
      const b0 = v128.load(b), b1 = v128.load(b, 16);
      const t0 = v128.load32_splat(a0);
      c00 = madd(t0, b0, c00); c01 = madd(t0, b1, c01);
      const t1 = v128.load32_splat(a1);
      c10 = madd(t1, b0, c10); c11 = madd(t1, b1, c11);
      const t2 = v128.load32_splat(a2);
      c20 = madd(t2, b0, c20); c21 = madd(t2, b1, c21);
      const t3 = v128.load32_splat(a3);
      c30 = madd(t3, b0, c30); c31 = madd(t3, b1, c31);
      b += 32; a0 += 4; a1 += 4; a2 += 4; a3 += 4;
    }
    const skip = jobSkip;
    a0 += skip; a1 += skip; a2 += skip; a3 += skip;
  }
  let wrong = v128.or(f32x4.sub(c00, c00), f32x4.sub(c01, c01));
  wrong = v128.or(wrong, v128.or(f32x4.sub(c10, c10), f32x4.sub(c11, c11)));
  wrong = v128.or(wrong, v128.or(f32x4.sub(c20, c20), f32x4.sub(c21, c21)));
  wrong = v128.or(wrong, v128.or(f32x4.sub(c30, c30), f32x4.sub(c31, c31)));
  if (v128.any_true(wrong)) jobBad = true;
  const lo = f32x4.splat(jobFloor), column = jobColumn;
  const o0 = load<usize>(entry, 4) + column, o1 = load<usize>(entry, 16) + column, o2 = load<usize>(entry, 28) + column, o3 = load<usize>(entry, 40) + column;
  v128.store(o0, f32x4.pmax(c00, lo)); v128.store(o0, f32x4.pmax(c01, lo), 16);
  v128.store(o1, f32x4.pmax(c10, lo)); v128.store(o1, f32x4.pmax(c11, lo), 16);
  v128.store(o2, f32x4.pmax(c20, lo)); v128.store(o2, f32x4.pmax(c21, lo), 16);
  v128.store(o3, f32x4.pmax(c30, lo)); v128.store(o3, f32x4.pmax(c31, lo), 16);
}

/** Rows of the table x one panel of `width` columns. Returns whether a result before the activation was not finite. */
function panel(
  table: usize, count: u32, segments: u32, depth: u32, skip: usize, b: usize, width: u32, column: usize, bias: usize, residual: bool, floor: f32,
): bool {
  jobColumn = column;
  jobBias = bias;
  jobResidual = residual;
  jobFloor = floor;
  jobSkip = skip;
  jobBad = false;
  const end = table + <usize>count * ENTRY;
  if (width == 12) for (; table < end; table += 3 * ENTRY) tile12(table, segments, depth, b);
  else for (; table < end; table += 4 * ENTRY) tile8(table, segments, depth, b);
  return jobBad;
}

/** Rows that the narrow last panel works on at a time: a multiple of both tiles. */
const EDGE_ROWS: u32 = 12;
/** Floats of scratch of `edge`: its table, its rows, its bias; rounded up to cache lines. */
const EDGE_FLOATS: u32 = 208;

/** Floats that `multiply` wants at `table` for `rows` rows: the table itself, then scratch for a last panel that is not full. */
export function tableFloats(rows: u32): u32 {
  return (rows + REPEATS) * 3 + EDGE_FLOATS;
}

/** Repeats the last of `count` table entries, so that the last tile finds full rows. */
export function closeTable(table: usize, count: u32): void {
  const end = table + <usize>count * ENTRY;
  const a = load<usize>(end - ENTRY), c = load<usize>(end - ENTRY, 4), r = load<usize>(end - ENTRY, 8);
  for (let i: usize = 0; i < <usize>REPEATS * ENTRY; i += ENTRY) {
    store<usize>(end + i, a);
    store<usize>(end + i, c, 4);
    store<usize>(end + i, r, 8);
  }
}

/**
 * Rows of the table (closed; at least one) x panels `from` up to `to` of a matrix with `columns` columns. `table` holds
 * `tableFloats(count)` floats. Returns whether a result before the activation was not finite.
 */
export function multiply(
  table: usize, count: u32, segments: u32, depth: u32, skip: usize, panels: usize, columns: u32, from: u32, to: u32,
  bias: usize, residual: bool, floor: f32,
): bool {
  const wide = widePanels(columns);
  const rows = <usize>segments * depth;
  let bad = false;
  for (let p = from; p < to; p++) {
    const width: u32 = p < wide ? 12 : 8;
    const column = panelColumn(p, columns);
    const b = panels + ((<usize>column * rows) << 2);
    const at = <usize>column << 2;
    const start = bias ? bias + at : 0;
    if (columns - column < width) bad = edge(table, count, segments, depth, skip, b, width, columns - column, at, start, residual, floor) || bad;
    else bad = panel(table, count, segments, depth, skip, b, width, at, start, residual, floor) || bad;
  }
  return bad;
}

/** One panel with `valid` columns, fewer than its width: computed in narrow rows of its own, from which the valid columns are copied. */
function edge(
  table: usize, count: u32, segments: u32, depth: u32, skip: usize, b: usize, width: u32, valid: u32, column: usize,
  bias: usize, residual: bool, floor: f32,
): bool {
  const own = table + <usize>(count + REPEATS) * ENTRY;
  const tile = own + <usize>(EDGE_ROWS + REPEATS) * ENTRY;
  const ownBias = tile + <usize>EDGE_ROWS * 48;
  copyPadded(ownBias, bias, bias ? valid : 0);
  let bad = false;
  for (let row: u32 = 0; row < count; row += EDGE_ROWS) {
    const rows = min<u32>(EDGE_ROWS, count - row);
    for (let i: u32 = 0; i < rows; i++) {
      const entry = table + <usize>(row + i) * ENTRY, ownEntry = own + <usize>i * ENTRY, line = tile + <usize>i * 48;
      store<usize>(ownEntry, load<usize>(entry));
      store<usize>(ownEntry, line, 4);
      store<usize>(ownEntry, line, 8);
      if (residual) copyPadded(line, load<usize>(entry, 8) + column, valid);
    }
    closeTable(own, rows);
    bad = panel(own, rows, segments, depth, skip, b, width, 0, ownBias, residual, floor) || bad;
    for (let i: u32 = 0; i < rows; i++) {
      const out = load<usize>(table + <usize>(row + i) * ENTRY, 4) + column, line = tile + <usize>i * 48;
      for (let n: u32 = 0; n < valid; n += 4) storeLanes(out + (<usize>n << 2), v128.load(line + (<usize>n << 2)), valid - n);
    }
  }
  return bad;
}

/** Twelve floats: the first `count` from `source`, then zeros. */
function copyPadded(to: usize, source: usize, count: u32): void {
  for (let n: u32 = 0; n < 12; n += 4) {
    const at = <usize>n << 2;
    v128.store(to + at, n < count ? loadLanes(source + at, count - n) : f32x4.splat(0));
  }
}

// -- outer products: gradients of weights ---------------------------------------------------------------------------------
//
//   C[i, j] (+)= sum over k < depth of A[k][i] * B[k][j]
//
// One chain of madd per element, in order of k, added to C at the end. A tile takes consecutive floats of a row of A by splat loads and of
// a row of B as vectors; both advance by one row per k, so nothing is packed or transposed. Rows beyond the last one repeat it.

/** Rows [0, rows) x panels `from` up to `to` of `columns` columns. `narrow` holds 12 floats per k, for a last panel that is not full. */
export function outer(
  a: usize, aStep: usize, b: usize, bStep: usize, depth: u32, rows: u32, columns: u32, from: u32, to: u32, c: usize, cStep: usize, add: bool, narrow: usize,
): void {
  const wide = widePanels(columns);
  for (let p = from; p < to; p++) {
    const width: u32 = p < wide ? 12 : 8;
    const column = panelColumn(p, columns);
    const valid = min<u32>(width, columns - column);
    let panel = b + (<usize>column << 2), step = bStep;
    if (valid < width) {
      for (let k: u32 = 0; k < depth; k++) copyPadded(narrow + <usize>k * 48, panel + <usize>k * bStep, valid);
      panel = narrow;
      step = 48;
    }
    outerPanel(a, aStep, panel, step, depth, rows, width, c + (<usize>column << 2), cStep, valid, add);
  }
}

/**
 * The same for B in panels of its own, `stored` rows each (`depth` of them are used), and rows of C as wide as the panels: what lies beyond the
 * columns of B is computed with the rest.
 */
export function outerPacked(
  a: usize, aStep: usize, b: usize, stored: u32, depth: u32, rows: u32, columns: u32, c: usize, cStep: usize, add: bool,
): void {
  const wide = widePanels(columns), panels = panelCount(columns);
  for (let p: u32 = 0; p < panels; p++) {
    const width: u32 = p < wide ? 12 : 8;
    const column = panelColumn(p, columns);
    outerPanel(a, aStep, b + (<usize>(column * stored) << 2), <usize>width << 2, depth, rows, width, c + (<usize>column << 2), cStep, width, add);
  }
}

function outerPanel(
  a: usize, aStep: usize, b: usize, bStep: usize, depth: u32, rows: u32, width: u32, c: usize, cStep: usize, valid: u32, add: bool,
): void {
  jobC = c;
  jobCStep = cStep;
  jobValid = valid;
  jobAdd = add;
  const height: u32 = width == 12 ? 3 : 4;
  for (let i: u32 = 0; i < rows; i += height) {
    const left = rows - i;
    const a0 = a + (<usize>i << 2), a1 = a0 + (<usize>min<u32>(left - 1, 1) << 2), a2 = a0 + (<usize>min<u32>(left - 1, 2) << 2);
    jobRows = left;
    if (width == 12) outerTile12(a0, a1, a2, aStep, b, bStep, depth);
    else outerTile8(a0, a1, a2, a0 + (<usize>min<u32>(left - 1, 3) << 2), aStep, b, bStep, depth);
    jobC += <usize>height * cStep;
  }
}

// As above: what a tile needs behind its loop. Set by `outerPanel`.
let jobC: usize = 0;
let jobCStep: usize = 0;
let jobRows: u32 = 0; // rows of C from the tile's first on; the tile writes no more than its own
let jobValid: i32 = 0; // columns of C to write
let jobAdd: bool = false;

/** Three rows x 12 columns; row r of A begins at a + r * 4, or repeats the last one. */
export function outerTile12(a0: usize, a1: usize, a2: usize, aStep: usize, b: usize, bStep: usize, depth: u32): void {
  let c00 = f32x4.splat(0), c01 = c00, c02 = c00, c10 = c00, c11 = c00, c12 = c00, c20 = c00, c21 = c00, c22 = c00;
  for (let k = depth; k; k--) {
    const b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32);
    const t0 = v128.load32_splat(a0);
    c00 = madd(t0, b0, c00); c01 = madd(t0, b1, c01); c02 = madd(t0, b2, c02);
    const t1 = v128.load32_splat(a1);
    c10 = madd(t1, b0, c10); c11 = madd(t1, b1, c11); c12 = madd(t1, b2, c12);
    const t2 = v128.load32_splat(a2);
    c20 = madd(t2, b0, c20); c21 = madd(t2, b1, c21); c22 = madd(t2, b2, c22);
    b += bStep; a0 += aStep; a1 += aStep; a2 += aStep;
  }
  let out = jobC;
  const step = jobCStep, rows = jobRows, valid = jobValid, add = jobAdd;
  if (add && rows >= 3 && valid == 12) {
    v128.store(out, f32x4.add(v128.load(out), c00)); v128.store(out, f32x4.add(v128.load(out, 16), c01), 16); v128.store(out, f32x4.add(v128.load(out, 32), c02), 32);
    out += step;
    v128.store(out, f32x4.add(v128.load(out), c10)); v128.store(out, f32x4.add(v128.load(out, 16), c11), 16); v128.store(out, f32x4.add(v128.load(out, 32), c12), 32);
    out += step;
    v128.store(out, f32x4.add(v128.load(out), c20)); v128.store(out, f32x4.add(v128.load(out, 16), c21), 16); v128.store(out, f32x4.add(v128.load(out, 32), c22), 32);
    return;
  }
  put(out, c00, valid, add); put(out + 16, c01, valid - 4, add); put(out + 32, c02, valid - 8, add);
  if (rows > 1) {
    out += step;
    put(out, c10, valid, add); put(out + 16, c11, valid - 4, add); put(out + 32, c12, valid - 8, add);
  }
  if (rows > 2) {
    out += step;
    put(out, c20, valid, add); put(out + 16, c21, valid - 4, add); put(out + 32, c22, valid - 8, add);
  }
}

/** Four rows x 8 columns; row r of A begins at a + r * 4, or repeats the last one. */
export function outerTile8(a0: usize, a1: usize, a2: usize, a3: usize, aStep: usize, b: usize, bStep: usize, depth: u32): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  for (let k = depth; k; k--) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    const t0 = v128.load32_splat(a0);
    c00 = madd(t0, b0, c00); c01 = madd(t0, b1, c01);
    const t1 = v128.load32_splat(a1);
    c10 = madd(t1, b0, c10); c11 = madd(t1, b1, c11);
    const t2 = v128.load32_splat(a2);
    c20 = madd(t2, b0, c20); c21 = madd(t2, b1, c21);
    const t3 = v128.load32_splat(a3);
    c30 = madd(t3, b0, c30); c31 = madd(t3, b1, c31);
    b += bStep; a0 += aStep; a1 += aStep; a2 += aStep; a3 += aStep;
  }
  let out = jobC;
  const step = jobCStep, rows = jobRows, valid = jobValid, add = jobAdd;
  if (add && rows >= 4 && valid == 8) {
    v128.store(out, f32x4.add(v128.load(out), c00)); v128.store(out, f32x4.add(v128.load(out, 16), c01), 16);
    out += step;
    v128.store(out, f32x4.add(v128.load(out), c10)); v128.store(out, f32x4.add(v128.load(out, 16), c11), 16);
    out += step;
    v128.store(out, f32x4.add(v128.load(out), c20)); v128.store(out, f32x4.add(v128.load(out, 16), c21), 16);
    out += step;
    v128.store(out, f32x4.add(v128.load(out), c30)); v128.store(out, f32x4.add(v128.load(out, 16), c31), 16);
    return;
  }
  put(out, c00, valid, add); put(out + 16, c01, valid - 4, add);
  if (rows > 1) {
    out += step;
    put(out, c10, valid, add); put(out + 16, c11, valid - 4, add);
  }
  if (rows > 2) {
    out += step;
    put(out, c20, valid, add); put(out + 16, c21, valid - 4, add);
  }
  if (rows > 3) {
    out += step;
    put(out, c30, valid, add); put(out + 16, c31, valid - 4, add);
  }
}

/** Stores `valid` lanes (more than four: four; none or fewer: nothing), or adds them to what is there. */
// @ts-ignore: decorator
@inline
function put(to: usize, value: v128, valid: i32, add: bool): void {
  if (valid >= 4) v128.store(to, add ? f32x4.add(v128.load(to), value) : value);
  else if (valid > 0) storeLanes(to, add ? f32x4.add(loadLanes(to, valid), value) : value, valid);
}
