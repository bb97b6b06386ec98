// conv2d as a matrix product over tiles in workgroup memory, for GPUs: pixels by output channels, the sum over taps and channels in steps
// of BK. Tiles are double buffered: one barrier a step, the next step's loads in flight during the products of this one.
//
// The sums, their order and the layouts are those of conv2d.wgsl, the bits too, but where a sum is split: weightGradient sums over pixels
// in chunks, forward over taps and channels, where one image has few workgroups and long sums; sumChunks and sumSlices add the results
// in ascending order. Tensors are bound as vec4s, `image` as scalars; <tensor>Stride and <tensor>Offset are
// in elements of the array. channels and outChannels are multiples of 4 (channels of an image are not).
//
//   forward                 BM pixels by BN channels a workgroup, TM by 4 * V a thread; BK divides channels; weights in blocks of BN columns;
//                           slices of a split sum along z, each written to its own slice of y
//   sumSlices               y from the slices, the first of which has the bias: adds a residual, applies ReLU
//   forwardImage            the same with scalar loads of x, for first layers
//   weightGradient          GM rows (tap, input channel) by GN output channels, chunks of pixels along z
//   weightGradientImage     the same with scalar loads of x
//   sumChunks               dweight from the chunks

struct Params {
  batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
  kernelHeight : u32, kernelWidth : u32, strideY : u32, strideX : u32, padTop : u32, padLeft : u32, relu : u32,
  // Tiles compute gridHeight x gridWidth pixels of y, at start + step * grid: all of y, or every other pixel of a gradient.
  gridHeight : u32, gridWidth : u32, stepY : u32, stepX : u32, startY : u32, startX : u32,
  chunk : u32, chunks : u32,  // pixels of a chunk (a multiple of GK), or steps of a slice of forward (0: all of them); how many there are
  ySlice : u32,               // elements between slices
  layer : u32, hasBias : u32,
  xStride : u32, xOffset : u32, imageStride : u32, imageOffset : u32, yStride : u32, yOffset : u32,
  residualStride : u32, residualOffset : u32, dyStride : u32, dyOffset : u32,
}

const BM = 32u;
const BN = 32u;
const BK = 16u;
const TM = 4u;
const V = 1u;
const THREADS = 64u;  // TX * TY
const IK = 8u;        // BK of forwardImage
const RESIDUAL = 0u;  // 1: a residual is added before the activation
const EXPONENT = 0x7f800000u;  // all bits of it are set in NaN and infinity; comparisons may be folded away, bits may not
const TX = BN / (4u * V);     // threads side by side in channels
const TY = BM / TM;           // threads side by side in pixels
const COLUMNS = BN / 4u;      // vec4s of a row of weights
const AK = BK / 4u;           // vec4s of a row of x
const LA = BM * AK / THREADS; // vec4s of x a thread loads a step
const LB = BK * COLUMNS / THREADS;
const JK = IK / 4u;           // AK, LA, LB of forwardImage
const JA = BM * JK / THREADS;
const JB = IK * COLUMNS / THREADS;
const LANES = 64u;            // threads of weightGradient, sumChunks and sumSlices
const GM = 64u;
const GN = 64u;
const GK = 16u;
const GT = 8u;                // rows of a thread: two vec4s
const GX = 8u;                // threads side by side in channels, two vec4s each
const LG = 4u;                // vec4s of either operand a thread loads a step: GK * GM / 4 / LANES

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<vec4f>;
@group(0) @binding(2) var<storage, read> image : array<f32>;
@group(0) @binding(3) var<storage, read> weight : array<vec4f>;
@group(0) @binding(4) var<storage, read> bias : array<vec4f>;
@group(0) @binding(5) var<storage, read> residual : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y : array<vec4f>;
@group(0) @binding(7) var<storage, read> dy : array<vec4f>;
@group(0) @binding(8) var<storage, read_write> partial : array<vec4f>;
@group(0) @binding(9) var<storage, read> parts : array<f32>;
@group(0) @binding(10) var<storage, read_write> dweight : array<f32>;
@group(0) @binding(11) var<storage, read_write> flags : array<atomic<u32>>;
@group(0) @binding(12) var<storage, read> slices : array<vec4f>;

var<workgroup> tileX : array<vec4f, 2u * BM * AK>;
var<workgroup> tileW : array<vec4f, 2u * BK * COLUMNS>;
var<workgroup> imageX : array<vec4f, 2u * BM * JK>;
var<workgroup> imageW : array<vec4f, 2u * IK * COLUMNS>;
var<workgroup> rowsX : array<vec4f, 2u * GK * GM / 4u>;
var<workgroup> rowsY : array<vec4f, 2u * GK * GN / 4u>;

// Where grid pixel m lies: row and column at which its window begins (wrapped below zero where that is outside), index of the input pixel
// there, and index of its output pixel.
struct Window { top : u32, left : u32, base : u32, pixel : u32 }

fn window(m : u32) -> Window {
  let line = m / params.gridWidth;
  let gx = m - line * params.gridWidth;
  let n = line / params.gridHeight;
  let gy = line - n * params.gridHeight;
  let top = gy * params.strideY - params.padTop;
  let left = gx * params.strideX - params.padLeft;
  return Window(top, left, (n * params.height + top) * params.width + left,
                (n * params.outHeight + gy * params.stepY + params.startY) * params.outWidth + gx * params.stepX + params.startX);
}

@compute @workgroup_size(THREADS)
fn forward(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) thread : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + COLUMNS - 1u) / COLUMNS;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * BM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let tx = thread % TX;
  let ty = thread / TX;
  let channel = block * COLUMNS + tx;
  var top : array<u32, LA>;
  var left : array<u32, LA>;
  var base : array<u32, LA>;
  var start : array<u32, LA>;
  var loadedX : array<vec4f, LA>;
  var loadedW : array<vec4f, LB>;
  var sum : array<array<vec4f, V>, TM>;
  let stepsOfTap = params.channels / BK;
  let begin = group.z * params.chunk;
  let rest = params.kernelHeight * params.kernelWidth * stepsOfTap - begin;
  let steps = select(min(params.chunk, rest), rest, params.chunk == 0u);
  var ky = begin / stepsOfTap / params.kernelWidth;
  var kx = begin / stepsOfTap % params.kernelWidth;
  var c = begin % stepsOfTap * AK;
  for (var r = 0u; r < LA; r++) { // unroll
    let at = window(min(first + (thread + r * THREADS) / AK, pixels - 1u));
    top[r] = at.top;
    left[r] = at.left;
    base[r] = at.base;
    let inside = at.top + ky < params.height && at.left + kx < params.width;
    start[r] = select(0u, params.xOffset + (at.base + ky * params.width + kx) * params.xStride, inside) + thread % AK;
  }
  if (params.hasBias == 1u && group.z == 0u) {
    for (var j = 0u; j < V; j++) { // unroll
      let b = bias[min(channel + j * TX, outChannels - 1u)];
      for (var i = 0u; i < TM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = (block * params.kernelHeight * params.kernelWidth * params.channels + begin * BK) * COLUMNS + thread;
  // Step s loads step s, multiplies step s - 1: the first only loads, the last only multiplies.
  for (var s = 0u; s <= steps; s++) {
    if (s < steps) {
      for (var r = 0u; r < LA; r++) { // unroll
        loadedX[r] = x[start[r] + c];
      }
      for (var r = 0u; r < LB; r++) { // unroll
        loadedW[r] = weight[k + r * THREADS];
      }
      k += BK * COLUMNS;
      c += AK;
      if (c * 4u >= params.channels) {
        c = 0u;
        kx++;
        if (kx == params.kernelWidth) { kx = 0u; ky++; }
        for (var r = 0u; r < LA; r++) { // unroll
          let inside = top[r] + ky < params.height && left[r] + kx < params.width;
          start[r] = select(0u, params.xOffset + (base[r] + ky * params.width + kx) * params.xStride, inside) + thread % AK;
        }
      }
    }
    if (s > 0u) {
      let fromX = (s - 1u) % 2u * (BM * AK);
      let fromW = (s - 1u) % 2u * (BK * COLUMNS) + tx;
      for (var kk = 0u; kk < AK; kk++) { // unroll
        var f : array<vec4f, TM>;
        for (var i = 0u; i < TM; i++) { // unroll
          f[i] = tileX[fromX + (ty + i * TY) * AK + kk];
        }
        for (var q = 0u; q < 4u; q++) { // unroll
          for (var j = 0u; j < V; j++) { // unroll
            let w = tileW[fromW + (kk * 4u + q) * COLUMNS + j * TX];
            for (var i = 0u; i < TM; i++) { // unroll
              sum[i][j] = fma(vec4f(f[i][q]), w, sum[i][j]);
            }
          }
        }
      }
    }
    if (s < steps) {
      for (var r = 0u; r < LA; r++) { // unroll
        tileX[s % 2u * (BM * AK) + thread + r * THREADS] = loadedX[r];
      }
      for (var r = 0u; r < LB; r++) { // unroll
        tileW[s % 2u * (BK * COLUMNS) + thread + r * THREADS] = loadedW[r];
      }
    }
    workgroupBarrier();
  }
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var worst = vec4u(0u);
  for (var i = 0u; i < TM; i++) { // unroll
    let m = first + ty + i * TY;
    if (m < pixels) {
      let to = window(m).pixel;
      for (var j = 0u; j < V; j++) { // unroll
        if (channel + j * TX < outChannels) {
          if (RESIDUAL == 1u) { sum[i][j] += residual[params.residualOffset + to * params.residualStride + channel + j * TX]; }
          worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
          y[params.yOffset + group.z * params.ySlice + to * params.yStride + channel + j * TX] = max(sum[i][j], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

@compute @workgroup_size(THREADS)
fn forwardImage(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) thread : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + COLUMNS - 1u) / COLUMNS;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * BM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let tx = thread % TX;
  let ty = thread / TX;
  let channel = block * COLUMNS + tx;
  var top : array<u32, JA>;
  var left : array<u32, JA>;
  var base : array<u32, JA>;
  var loadedX : array<vec4f, JA>;
  var loadedW : array<vec4f, JB>;
  var sum : array<array<vec4f, V>, TM>;
  for (var r = 0u; r < JA; r++) { // unroll
    let at = window(min(first + (thread + r * THREADS) / JK, pixels - 1u));
    top[r] = at.top;
    left[r] = at.left;
    base[r] = at.base;
  }
  if (params.hasBias == 1u) {
    for (var j = 0u; j < V; j++) { // unroll
      let b = bias[min(channel + j * TX, outChannels - 1u)];
      for (var i = 0u; i < TM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  // Steps stay inside a row of the window: kernelWidth * channels numbers, of which the last step may have fewer than IK.
  let across = params.kernelWidth * params.channels;
  let stepsAcross = (across + IK - 1u) / IK;
  let steps = params.kernelHeight * stepsAcross;
  let weights = block * params.kernelHeight * across * COLUMNS;
  let inverse = 1.0 / f32(params.channels);
  var ky = 0u;
  var u = 0u;
  for (var s = 0u; s <= steps; s++) {
    if (s < steps) {
      for (var r = 0u; r < JA; r++) { // unroll
        let iy = top[r] + ky;
        for (var q = 0u; q < 4u; q++) { // unroll
          let v = u + thread % JK * 4u + q;
          let kx = u32((f32(v) + 0.5) * inverse);
          let inside = v < across && iy < params.height && left[r] + kx < params.width;
          let at = params.imageOffset + (base[r] + ky * params.width + kx) * params.imageStride + (v - kx * params.channels);
          loadedX[r][q] = select(0.0, image[select(0u, at, inside)], inside);
        }
      }
      for (var r = 0u; r < JB; r++) { // unroll
        loadedW[r] = weight[weights + (ky * across + u) * COLUMNS + thread + r * THREADS];
      }
      u += IK;
      if (u >= across) { u = 0u; ky++; }
    }
    if (s > 0u) {
      let fromX = (s - 1u) % 2u * (BM * JK);
      let fromW = (s - 1u) % 2u * (IK * COLUMNS) + tx;
      for (var kk = 0u; kk < JK; kk++) { // unroll
        var f : array<vec4f, TM>;
        for (var i = 0u; i < TM; i++) { // unroll
          f[i] = imageX[fromX + (ty + i * TY) * JK + kk];
        }
        for (var q = 0u; q < 4u; q++) { // unroll
          for (var j = 0u; j < V; j++) { // unroll
            let w = imageW[fromW + (kk * 4u + q) * COLUMNS + j * TX];
            for (var i = 0u; i < TM; i++) { // unroll
              sum[i][j] = fma(vec4f(f[i][q]), w, sum[i][j]);
            }
          }
        }
      }
    }
    if (s < steps) {
      for (var r = 0u; r < JA; r++) { // unroll
        imageX[s % 2u * (BM * JK) + thread + r * THREADS] = loadedX[r];
      }
      for (var r = 0u; r < JB; r++) { // unroll
        imageW[s % 2u * (IK * COLUMNS) + thread + r * THREADS] = loadedW[r];
      }
    }
    workgroupBarrier();
  }
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var worst = vec4u(0u);
  for (var i = 0u; i < TM; i++) { // unroll
    let m = first + ty + i * TY;
    if (m < pixels) {
      let to = window(m).pixel;
      for (var j = 0u; j < V; j++) { // unroll
        if (channel + j * TX < outChannels) {
          if (RESIDUAL == 1u) { sum[i][j] += residual[params.residualOffset + to * params.residualStride + channel + j * TX]; }
          worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
          y[params.yOffset + to * params.yStride + channel + j * TX] = max(sum[i][j], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

@compute @workgroup_size(LANES)
fn sumSlices(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.outChannels / 4u;
  let count = params.batch * params.outHeight * params.outWidth * channels;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var worst = vec4u(0u);
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let pixel = i / channels;
    let c = i - pixel * channels;
    var sum = slices[i];
    for (var z = 1u; z < params.chunks; z++) { sum += slices[z * count + i]; }
    if (RESIDUAL == 1u) { sum += residual[params.residualOffset + pixel * params.residualStride + c]; }
    worst = max(worst, bitcast<vec4u>(sum) & vec4u(EXPONENT));
    y[params.yOffset + pixel * params.yStride + c] = max(sum, floor);
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// Quotient and rest without an integer division; exact for fewer than 2^22 lines: the quotient is off by one at most, and corrected.
fn split(a : u32, by : u32) -> vec2u {
  var quotient = u32(f32(a) * (1.0 / f32(by)));
  var rest = a - quotient * by;
  quotient = select(quotient, quotient - 1u, rest > 0x7fffffffu);
  rest = select(rest, rest + by, rest > 0x7fffffffu);
  return select(vec2u(quotient, rest), vec2u(quotient + 1u, rest - by), rest >= by);
}

// Input row and column, and index, at which the window of output pixel m begins, not counting padding.
fn origin(m : u32) -> vec3u {
  let line = split(m, params.outWidth);
  let at = split(line.x, params.outHeight);
  let iy = at.y * params.strideY;
  let ix = line.y * params.strideX;
  return vec3u(iy, ix, (at.x * params.height + iy) * params.width + ix);
}

@compute @workgroup_size(LANES)
fn weightGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) thread : u32) {
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let rows = params.kernelHeight * params.kernelWidth * channels;
  let blocks = (params.outChannels + GN - 1u) / GN;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * (GM / 4u);
  if (first >= rows) { return; }
  let column = tile % blocks * (GN / 4u);
  let tx = thread % GX;
  let ty = thread / GX;
  let end = min((group.z + 1u) * params.chunk, params.batch * params.outHeight * params.outWidth);
  // A thread loads one vec4 of rows, and one of channels, of LG pixels.
  let row = min(first + thread % (GM / 4u), rows - 1u);
  let tap = row / channels;
  let top = tap / params.kernelWidth - params.padTop;
  let left = tap % params.kernelWidth - params.padLeft;
  let offset = params.xOffset + (top * params.width + left) * params.xStride + row % channels;
  let load = min(column + thread % (GN / 4u), outChannels - 1u);
  var loadedX : array<vec4f, LG>;
  var loadedY : array<vec4f, LG>;
  var sum : array<array<vec4f, 2u>, GT>;
  let steps = params.chunk / GK;
  for (var s = 0u; s <= steps; s++) {
    if (s < steps) {
      for (var r = 0u; r < LG; r++) { // unroll
        let m = group.z * params.chunk + s * GK + thread / (GM / 4u) + r * (GK / LG);
        let at = origin(m);
        let inside = m < end && at.x + top < params.height && at.y + left < params.width;
        loadedX[r] = x[select(0u, at.z * params.xStride + offset, inside)];
        loadedY[r] = dy[params.dyOffset + min(m, end - 1u) * params.dyStride + load];
      }
    }
    if (s > 0u) {
      let fromX = (s - 1u) % 2u * (GK * GM / 4u) + ty * (GT / 4u);
      let fromY = (s - 1u) % 2u * (GK * GN / 4u) + tx;
      for (var kk = 0u; kk < GK; kk++) { // unroll
        let d0 = rowsY[fromY + kk * (GN / 4u)];
        let d1 = rowsY[fromY + kk * (GN / 4u) + GX];
        for (var h = 0u; h < 2u; h++) { // unroll
          let f = rowsX[fromX + kk * (GM / 4u) + h];
          for (var q = 0u; q < 4u; q++) { // unroll
            sum[h * 4u + q][0] = fma(vec4f(f[q]), d0, sum[h * 4u + q][0]);
            sum[h * 4u + q][1] = fma(vec4f(f[q]), d1, sum[h * 4u + q][1]);
          }
        }
      }
    }
    if (s < steps) {
      for (var r = 0u; r < LG; r++) { // unroll
        rowsX[s % 2u * (GK * GM / 4u) + thread + r * LANES] = loadedX[r];
        rowsY[s % 2u * (GK * GN / 4u) + thread + r * LANES] = loadedY[r];
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < GT; i++) { // unroll
    for (var j = 0u; j < 2u; j++) { // unroll
      let to = first * 4u + ty * GT + i;
      let c = column + tx + j * GX;
      if (to < rows * 4u && c < outChannels) { partial[(group.z * rows * 4u + to) * outChannels + c] = sum[i][j]; }
    }
  }
}

@compute @workgroup_size(LANES)
fn weightGradientImage(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) thread : u32) {
  let outChannels = params.outChannels / 4u;
  let rows = params.kernelHeight * params.kernelWidth * params.channels;
  let blocks = (params.outChannels + GN - 1u) / GN;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * GM;
  if (first >= rows) { return; }
  let column = tile % blocks * (GN / 4u);
  let tx = thread % GX;
  let ty = thread / GX;
  let end = min((group.z + 1u) * params.chunk, params.batch * params.outHeight * params.outWidth);
  var top : array<u32, 4u>;
  var left : array<u32, 4u>;
  var offset : array<u32, 4u>;
  for (var q = 0u; q < 4u; q++) { // unroll
    let row = min(first + thread % (GM / 4u) * 4u + q, rows - 1u);
    let tap = row / params.channels;
    top[q] = tap / params.kernelWidth - params.padTop;
    left[q] = tap % params.kernelWidth - params.padLeft;
    offset[q] = params.imageOffset + (top[q] * params.width + left[q]) * params.imageStride + row % params.channels;
  }
  let load = min(column + thread % (GN / 4u), outChannels - 1u);
  var loadedX : array<vec4f, LG>;
  var loadedY : array<vec4f, LG>;
  var sum : array<array<vec4f, 2u>, GT>;
  let steps = params.chunk / GK;
  for (var s = 0u; s <= steps; s++) {
    if (s < steps) {
      for (var r = 0u; r < LG; r++) { // unroll
        let m = group.z * params.chunk + s * GK + thread / (GM / 4u) + r * (GK / LG);
        let at = origin(m);
        for (var q = 0u; q < 4u; q++) { // unroll
          let inside = m < end && at.x + top[q] < params.height && at.y + left[q] < params.width;
          loadedX[r][q] = image[select(0u, at.z * params.imageStride + offset[q], inside)];
        }
        loadedY[r] = dy[params.dyOffset + min(m, end - 1u) * params.dyStride + load];
      }
    }
    if (s > 0u) {
      let fromX = (s - 1u) % 2u * (GK * GM / 4u) + ty * (GT / 4u);
      let fromY = (s - 1u) % 2u * (GK * GN / 4u) + tx;
      for (var kk = 0u; kk < GK; kk++) { // unroll
        let d0 = rowsY[fromY + kk * (GN / 4u)];
        let d1 = rowsY[fromY + kk * (GN / 4u) + GX];
        for (var h = 0u; h < 2u; h++) { // unroll
          let f = rowsX[fromX + kk * (GM / 4u) + h];
          for (var q = 0u; q < 4u; q++) { // unroll
            sum[h * 4u + q][0] = fma(vec4f(f[q]), d0, sum[h * 4u + q][0]);
            sum[h * 4u + q][1] = fma(vec4f(f[q]), d1, sum[h * 4u + q][1]);
          }
        }
      }
    }
    if (s < steps) {
      for (var r = 0u; r < LG; r++) { // unroll
        rowsX[s % 2u * (GK * GM / 4u) + thread + r * LANES] = loadedX[r];
        rowsY[s % 2u * (GK * GN / 4u) + thread + r * LANES] = loadedY[r];
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < GT; i++) { // unroll
    for (var j = 0u; j < 2u; j++) { // unroll
      let to = first + ty * GT + i;
      let c = column + tx + j * GX;
      if (to < rows && c < outChannels) { partial[(group.z * rows + to) * outChannels + c] = sum[i][j]; }
    }
  }
}

@compute @workgroup_size(LANES)
fn sumChunks(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.kernelHeight * params.kernelWidth * params.channels * params.outChannels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    var sum = parts[i];
    for (var z = 1u; z < params.chunks; z++) { sum += parts[z * count + i]; }
    dweight[i] = sum;
  }
}
