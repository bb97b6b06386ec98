// conv2d by register tiles that subgroups feed: for adapters with one subgroup size, where a load costs as much as many fmas
// (software adapters). Every lane loads another vec4, and broadcasts hand it round: no workgroup memory, no barrier.
//
// The sums, their order and the layouts are those of conv2d.wgsl, the bits too. Tensors are bound as vec4s, `image` as scalars;
// <tensor>Stride and <tensor>Offset are in elements of the array. channels and outChannels are multiples of 4 (channels of an image
// are not). One subgroup is a workgroup; SG is its size.
//
//   forwardPixels        lanes are pixels:   SG * PM pixels by 4 * PV channels; packed weights in blocks of 4 * PV columns
//   forwardChannels      lanes are channels: CM pixels by 4 * CV * SG channels; packed weights in blocks of 4 * CV * SG columns
//   forwardImage         the same with scalar loads of x, IM and IV, for first layers
//   weightGradient       4 * WM rows (tap, input channel) by 4 * WV * SG output channels
//   weightGradientImage  XM rows by 4 * XV * SG output channels, for first layers

enable subgroups;

struct Params {
  batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
  kernelHeight : u32, kernelWidth : u32, strideY : u32, strideX : u32, padTop : u32, padLeft : u32, relu : u32,
  // Tiles compute gridHeight x gridWidth pixels of y, at start + step * grid: all of y, or every other pixel of a gradient.
  gridHeight : u32, gridWidth : u32, stepY : u32, stepX : u32, startY : u32, startX : u32,
  xSlice : u32, weightSlice : u32, ySlice : u32,  // elements between the slices of z (of x, of weight or dy, of the result)
  layer : u32, hasBias : u32,
  xStride : u32, xOffset : u32, imageStride : u32, imageOffset : u32, yStride : u32, yOffset : u32,
  residualStride : u32, residualOffset : u32, dyStride : u32, dyOffset : u32,
}

const SG = 8u;  // subgroup size
// Tiles, a pair for each entry point: pixels (or rows) and vec4s of channels of a lane. 4 * PV is a multiple of SG.
const PM = 1u;
const PV = 4u;
const CM = 2u;
const CV = 1u;
const IM = 2u;
const IV = 1u;
const IC = 1u;  // input channels of a step of forwardImage, a divisor of channels
const WM = 1u;
const WV = 1u;
const XM = 2u;
const XV = 1u;
const RESIDUAL = 0u;  // 1: a residual is added before the activation
const EXPONENT = 0x7f800000u;  // all bits of it are set in NaN and infinity; comparisons may be folded away, bits may not
const PR = 4u * PV / SG;          // vec4s of weights a lane of forwardPixels loads a step
const CP = (CM + SG - 1u) / SG;   // pixels a lane of forwardChannels loads a step
const IP = (IM + SG - 1u) / SG;   // the same of forwardImage

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<vec4f>;
@group(0) @binding(2) var<storage, read> image : array<f32>;
@group(0) @binding(3) var<storage, read> weight : array<vec4f>;
@group(0) @binding(4) var<storage, read> bias : array<vec4f>;
@group(0) @binding(5) var<storage, read> residual : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y : array<vec4f>;
@group(0) @binding(7) var<storage, read> dy : array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dweight : array<vec4f>;
@group(0) @binding(9) var<storage, read_write> flags : array<atomic<u32>>;

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

@compute @workgroup_size(SG)
fn forwardPixels(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + PV - 1u) / PV;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * (SG * PM);
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = block * PV;
  let xFirst = params.xOffset + group.z * params.xSlice;
  let yFirst = params.yOffset + group.z * params.ySlice;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var top : array<u32, PM>;
  var left : array<u32, PM>;
  var base : array<u32, PM>;
  var pixel : array<u32, PM>;
  var sum : array<array<vec4f, PV>, PM>;
  for (var i = 0u; i < PM; i++) { // unroll
    let at = window(min(first + i * SG + lane, pixels - 1u));
    top[i] = at.top;
    left[i] = at.left;
    base[i] = at.base;
    pixel[i] = at.pixel;
  }
  if (params.hasBias == 1u) {
    for (var j = 0u; j < PV; j++) { // unroll
      let b = bias[min(channel + j, outChannels - 1u)];
      for (var i = 0u; i < PM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = group.z * params.weightSlice + block * params.kernelHeight * params.kernelWidth * params.channels * PV + lane;
  var ky = 0u;
  var kx = 0u;
  for (var tap = 0u; tap < params.kernelHeight * params.kernelWidth; tap++) {
    var start : array<u32, PM>;
    for (var i = 0u; i < PM; i++) { // unroll
      let inside = top[i] + ky < params.height && left[i] + kx < params.width;
      start[i] = select(0u, xFirst + (base[i] + ky * params.width + kx) * params.xStride, inside);
    }
    for (var c = 0u; c < channels; c++) {
      var f : array<vec4f, PM>;
      var w : array<vec4f, PR>;
      for (var i = 0u; i < PM; i++) { // unroll
        f[i] = x[start[i] + c];
      }
      for (var r = 0u; r < PR; r++) { // unroll
        w[r] = weight[k + r * SG];
      }
      for (var j = 0u; j < PV; j++) { // unroll
        for (var q = 0u; q < 4u; q++) { // unroll
          let b = subgroupShuffle(w[(q * PV + j) / SG], (q * PV + j) % SG);
          for (var i = 0u; i < PM; i++) { // unroll
            sum[i][j] = fma(vec4f(f[i][q]), b, sum[i][j]);
          }
        }
      }
      k += 4u * PV;
    }
    let ends = kx + 1u == params.kernelWidth;
    ky = select(ky, ky + 1u, ends);
    kx = select(kx + 1u, 0u, ends);
  }
  var worst = vec4u(0u);
  for (var i = 0u; i < PM; i++) { // unroll
    if (first + i * SG + lane < pixels) {
      for (var j = 0u; j < PV; j++) { // unroll
        if (channel + j < outChannels) {
          if (RESIDUAL == 1u) { sum[i][j] += residual[params.residualOffset + pixel[i] * params.residualStride + channel + j]; }
          worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
          y[yFirst + pixel[i] * params.yStride + channel + j] = max(sum[i][j], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

@compute @workgroup_size(SG)
fn forwardChannels(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + CV * SG - 1u) / (CV * SG);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * CM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = block * CV * SG + lane;
  let xFirst = params.xOffset + group.z * params.xSlice;
  let yFirst = params.yOffset + group.z * params.ySlice;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  // Lane l looks after the windows of pixels l, l + SG, ... of the tile.
  var top : array<u32, CP>;
  var left : array<u32, CP>;
  var base : array<u32, CP>;
  var pixel : array<u32, CP>;
  var sum : array<array<vec4f, CV>, CM>;
  for (var r = 0u; r < CP; r++) { // unroll
    let at = window(min(first + min(r * SG + lane, CM - 1u), pixels - 1u));
    top[r] = at.top;
    left[r] = at.left;
    base[r] = at.base;
    pixel[r] = at.pixel;
  }
  if (params.hasBias == 1u) {
    for (var j = 0u; j < CV; j++) { // unroll
      let b = bias[min(channel + j * SG, outChannels - 1u)];
      for (var i = 0u; i < CM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = group.z * params.weightSlice + block * params.kernelHeight * params.kernelWidth * params.channels * (CV * SG) + lane;
  // One loop over the window: each loop around the sums costs software adapters a copy of them all.
  var ky = 0u;
  var kx = 0u;
  for (var tap = 0u; tap < params.kernelHeight * params.kernelWidth; tap++) {
    var start : array<u32, CP>;
    for (var r = 0u; r < CP; r++) { // unroll
      let inside = top[r] + ky < params.height && left[r] + kx < params.width;
      start[r] = select(0u, xFirst + (base[r] + ky * params.width + kx) * params.xStride, inside);
    }
    for (var c = 0u; c < channels; c++) {
      var g : array<vec4f, CP>;
      var b : array<array<vec4f, CV>, 4>;
      for (var r = 0u; r < CP; r++) { // unroll
        g[r] = x[start[r] + c];
      }
      for (var q = 0u; q < 4u; q++) { // unroll
        for (var j = 0u; j < CV; j++) { // unroll
          b[q][j] = weight[k + (q * CV + j) * SG];
        }
      }
      for (var i = 0u; i < CM; i++) { // unroll
        let f = subgroupShuffle(g[i / SG], i % SG);
        for (var j = 0u; j < CV; j++) { // unroll
          var s = sum[i][j];
          for (var q = 0u; q < 4u; q++) { // unroll
            s = fma(vec4f(f[q]), b[q][j], s);
          }
          sum[i][j] = s;
        }
      }
      k += 4u * CV * SG;
    }
    let ends = kx + 1u == params.kernelWidth;
    ky = select(ky, ky + 1u, ends);
    kx = select(kx + 1u, 0u, ends);
  }
  // Pixels past the last one are the last one again, and store the same.
  var to : array<u32, CM>;
  for (var i = 0u; i < CM; i++) { // unroll
    to[i] = subgroupShuffle(pixel[i / SG], i % SG);
  }
  var worst = vec4u(0u);
  for (var j = 0u; j < CV; j++) { // unroll
    let at = channel + j * SG;
    if (at < outChannels) {
      for (var i = 0u; i < CM; i++) { // unroll
        if (RESIDUAL == 1u) { sum[i][j] += residual[params.residualOffset + to[i] * params.residualStride + at]; }
        worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
        y[yFirst + to[i] * params.yStride + at] = max(sum[i][j], floor);
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

@compute @workgroup_size(SG)
fn forwardImage(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + IV * SG - 1u) / (IV * SG);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * IM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = block * IV * SG + lane;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var top : array<u32, IP>;
  var left : array<u32, IP>;
  var base : array<u32, IP>;
  var pixel : array<u32, IP>;
  var sum : array<array<vec4f, IV>, IM>;
  for (var r = 0u; r < IP; r++) { // unroll
    let at = window(min(first + min(r * SG + lane, IM - 1u), pixels - 1u));
    top[r] = at.top;
    left[r] = at.left;
    base[r] = at.base;
    pixel[r] = at.pixel;
  }
  if (params.hasBias == 1u) {
    for (var j = 0u; j < IV; j++) { // unroll
      let b = bias[min(channel + j * SG, outChannels - 1u)];
      for (var i = 0u; i < IM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = block * params.kernelHeight * params.kernelWidth * params.channels * (IV * SG) + lane;
  // One loop over the window and its channels: each loop around the sums costs software adapters a copy of them all.
  var ky = 0u;
  var kx = 0u;
  var c = 0u;
  for (var step = 0u; step < params.kernelHeight * params.kernelWidth * params.channels / IC; step++) {
    var start : array<u32, IP>;
    for (var r = 0u; r < IP; r++) { // unroll
      let inside = top[r] + ky < params.height && left[r] + kx < params.width;
      start[r] = c + select(0u, params.imageOffset + (base[r] + ky * params.width + kx) * params.imageStride, inside);
    }
    for (var q = 0u; q < IC; q++) { // unroll
      var g : array<f32, IP>;
      for (var r = 0u; r < IP; r++) { // unroll
        g[r] = image[start[r] + q];
      }
      for (var j = 0u; j < IV; j++) { // unroll
        let b = weight[k + (q * IV + j) * SG];
        for (var i = 0u; i < IM; i++) { // unroll
          sum[i][j] = fma(vec4f(subgroupShuffle(g[i / SG], i % SG)), b, sum[i][j]);
        }
      }
    }
    k += IC * IV * SG;
    c += IC;
    let lastChannel = c == params.channels;
    let lastColumn = lastChannel && kx + 1u == params.kernelWidth;
    c = select(c, 0u, lastChannel);
    kx = select(select(kx, kx + 1u, lastChannel), 0u, lastColumn);
    ky = select(ky, ky + 1u, lastColumn);
  }
  // Pixels past the last one are the last one again, and store the same.
  var to : array<u32, IM>;
  for (var i = 0u; i < IM; i++) { // unroll
    to[i] = subgroupShuffle(pixel[i / SG], i % SG);
  }
  var worst = vec4u(0u);
  for (var j = 0u; j < IV; j++) { // unroll
    let at = channel + j * SG;
    if (at < outChannels) {
      for (var i = 0u; i < IM; i++) { // unroll
        if (RESIDUAL == 1u) { sum[i][j] += residual[params.residualOffset + to[i] * params.residualStride + at]; }
        worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
        y[params.yOffset + to[i] * params.yStride + at] = max(sum[i][j], floor);
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// Output pixel m as (image * outHeight + oy, ox), without an integer division, which software adapters do lane by lane. Exact for
// fewer than 2^22 lines: the float quotient is off by one at most, and corrected.
fn split(a : u32, by : u32) -> vec2u {
  var quotient = u32(f32(a) * (1.0 / f32(by)));
  var rest = a - quotient * by;
  quotient = select(quotient, quotient - 1u, rest > 0x7fffffffu);
  rest = select(rest, rest + by, rest > 0x7fffffffu);
  return select(vec2u(quotient, rest), vec2u(quotient + 1u, rest - by), rest >= by);
}

@compute @workgroup_size(SG)
fn weightGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.outHeight * params.outWidth;
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let rows = params.kernelHeight * params.kernelWidth * channels;
  let blocks = (outChannels + WV * SG - 1u) / (WV * SG);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * WM;
  if (first >= rows) { return; }
  let channel = tile % blocks * WV * SG + lane;
  var top : array<u32, WM>;
  var left : array<u32, WM>;
  var offset : array<u32, WM>;
  var sum : array<array<array<vec4f, WV>, 4u>, WM>;
  for (var i = 0u; i < WM; i++) { // unroll
    let row = min(first + i, rows - 1u);
    let tap = row / channels;
    top[i] = tap / params.kernelWidth - params.padTop;
    left[i] = tap % params.kernelWidth - params.padLeft;
    offset[i] = params.xOffset + group.z * params.xSlice + (top[i] * params.width + left[i]) * params.xStride + row % channels;
  }
  for (var m = 0u; m < pixels; m += SG) {
    // Lane l looks after pixel m + l.
    let line = split(m + lane, params.outWidth);
    let at = split(line.x, params.outHeight);
    let iy = at.y * params.strideY;
    let ix = line.y * params.strideX;
    let base = ((at.x * params.height + iy) * params.width + ix) * params.xStride;
    let live = m + lane < pixels;
    var g : array<vec4f, WM>;
    for (var i = 0u; i < WM; i++) { // unroll
      let inside = live && iy + top[i] < params.height && ix + left[i] < params.width;
      g[i] = select(vec4f(0.0), x[select(0u, base + offset[i], inside)], inside);  // slices have no block of zeros
    }
    var d : array<array<vec4f, WV>, SG>;
    for (var s = 0u; s < SG; s++) { // unroll
      let start = params.dyOffset + group.z * params.weightSlice + min(m + s, pixels - 1u) * params.dyStride;
      for (var j = 0u; j < WV; j++) { // unroll
        d[s][j] = dy[start + min(channel + j * SG, outChannels - 1u)];
      }
    }
    for (var i = 0u; i < WM; i++) { // unroll
      for (var q = 0u; q < 4u; q++) { // unroll
        for (var j = 0u; j < WV; j++) { // unroll
          var t = sum[i][q][j];
          for (var s = 0u; s < SG; s++) { // unroll
            t = fma(vec4f(subgroupShuffle(g[i][q], s)), d[s][j], t);
          }
          sum[i][q][j] = t;
        }
      }
    }
  }
  for (var i = 0u; i < WM; i++) { // unroll
    for (var q = 0u; q < 4u; q++) { // unroll
      for (var j = 0u; j < WV; j++) { // unroll
        if (first + i < rows && channel + j * SG < outChannels) {
          dweight[group.z * params.ySlice + ((first + i) * 4u + q) * outChannels + channel + j * SG] = sum[i][q][j];
        }
      }
    }
  }
}

@compute @workgroup_size(SG)
fn weightGradientImage(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.outHeight * params.outWidth;
  let outChannels = params.outChannels / 4u;
  let rows = params.kernelHeight * params.kernelWidth * params.channels;
  let blocks = (outChannels + XV * SG - 1u) / (XV * SG);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * XM;
  if (first >= rows) { return; }
  let channel = tile % blocks * XV * SG + lane;
  var top : array<u32, XM>;
  var left : array<u32, XM>;
  var offset : array<u32, XM>;
  var sum : array<array<vec4f, XV>, XM>;
  for (var i = 0u; i < XM; i++) { // unroll
    let row = min(first + i, rows - 1u);
    let tap = row / params.channels;
    top[i] = tap / params.kernelWidth - params.padTop;
    left[i] = tap % params.kernelWidth - params.padLeft;
    offset[i] = params.imageOffset + (top[i] * params.width + left[i]) * params.imageStride + row % params.channels;
  }
  for (var m = 0u; m < pixels; m += SG) {
    let line = split(m + lane, params.outWidth);
    let at = split(line.x, params.outHeight);
    let iy = at.y * params.strideY;
    let ix = line.y * params.strideX;
    let base = ((at.x * params.height + iy) * params.width + ix) * params.imageStride;
    let live = m + lane < pixels;
    var g : array<f32, XM>;
    for (var i = 0u; i < XM; i++) { // unroll
      let inside = live && iy + top[i] < params.height && ix + left[i] < params.width;
      g[i] = image[select(0u, base + offset[i], inside)];
    }
    var d : array<array<vec4f, XV>, SG>;
    for (var s = 0u; s < SG; s++) { // unroll
      let start = params.dyOffset + min(m + s, pixels - 1u) * params.dyStride;
      for (var j = 0u; j < XV; j++) { // unroll
        d[s][j] = dy[start + min(channel + j * SG, outChannels - 1u)];
      }
    }
    for (var i = 0u; i < XM; i++) { // unroll
      for (var j = 0u; j < XV; j++) { // unroll
        var t = sum[i][j];
        for (var s = 0u; s < SG; s++) { // unroll
          t = fma(vec4f(subgroupShuffle(g[i], s)), d[s][j], t);
        }
        sum[i][j] = t;
      }
    }
  }
  for (var i = 0u; i < XM; i++) { // unroll
    for (var j = 0u; j < XV; j++) { // unroll
      if (first + i < rows && channel + j * SG < outChannels) { dweight[(first + i) * outChannels + channel + j * SG] = sum[i][j]; }
    }
  }
}
