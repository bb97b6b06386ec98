// conv2d: two-dimensional convolution (cross-correlation) with bias, residual and ReLU, and its gradients.
//
//   y[n, oy, ox, co] = activation(bias[co] + sum over ky, kx, ci of x[n, oy * strideY + ky - padTop, ox * strideX + kx - padLeft, ci]
//                                                                    * weight[ky, kx, ci, co] + residual[n, oy, ox, co])
//
// Shapes: x, dx [batch, height, width, channels]; y, dy, residual [batch, outHeight, outWidth, outChannels]; weight [kernelHeight,
// kernelWidth, channels, outChannels]; a pixel starts every <tensor>Stride elements (vec4s for tensors named ...4).
// Taps outside the image read index 0, where every activation buffer has a block of zeros.
// Order of every sum: taps ascending (descending in inputGradient), channels ascending, one fma a term; pixels ascending in
// weightGradient. Kernels of other files that keep it give the same bits.
//
//   forward, inputGradient, weightGradient   any number of channels
//   forwardVec4                              register tiles, channels and outChannels multiples of 4, packed weights
//   forwardImage                             the same for a first layer: any number of channels, outChannels a multiple of 4
//   biasGradient, biasGradient4              one channel, or four, a workgroup
//   packWeight, packGradientWeight           weights in the order in which tiles read them

struct Params {
  batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
  kernelHeight : u32, kernelWidth : u32, strideY : u32, strideX : u32, padTop : u32, padLeft : u32, relu : u32,
  // Tiles compute gridHeight x gridWidth pixels of y, at start + step * grid: all of y, or every other pixel of a gradient.
  gridHeight : u32, gridWidth : u32, stepY : u32, stepX : u32, startY : u32, startX : u32,
  xSlice : u32, weightSlice : u32, ySlice : u32,  // elements between the slices of z (of x, of weight, of y)
  block : u32,  // columns of packed weights that lie together
  firstChannel : u32,  // of y, the first that is packed
  layer : u32, hasBias : u32, hasResidual : u32, hasBias4 : u32,
  xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, residualStride : u32, residualOffset : u32,
  dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32,
  x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32, residual4Stride : u32, residual4Offset : u32,
  dy4Stride : u32, dy4Offset : u32,
}

override LANES : u32 = 64u;  // invocations of a workgroup of the plain kernels
const TM = 2u;               // pixels of a register tile
const V = 1u;                // vec4s of output channels of a lane
const LC = 8u;               // lanes of a workgroup of the tiled kernels, side by side in output channels
const TP = 4u;               // pixels, and channels, of a tile of the plain kernels
const RESIDUAL = 0u;         // tiled kernels: 1 if a residual is added before the activation
const EXPONENT = 0x7f800000u;  // all bits of it are set in NaN and infinity; comparisons may be folded away, bits may not
const WIDTH = 256u;          // virtual width of the reduction tree of biasGradient

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> weight : array<f32>;
@group(0) @binding(3) var<storage, read> bias : array<f32>;
@group(0) @binding(4) var<storage, read> residual : array<f32>;
@group(0) @binding(5) var<storage, read_write> y : array<f32>;
@group(0) @binding(6) var<storage, read> dy : array<f32>;
@group(0) @binding(7) var<storage, read_write> dx : array<f32>;
@group(0) @binding(8) var<storage, read_write> dweight : array<f32>;
@group(0) @binding(9) var<storage, read_write> dbias : array<f32>;
@group(0) @binding(10) var<storage, read_write> packed : array<f32>;
@group(0) @binding(11) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(12) var<storage, read> weight4 : array<vec4f>;
@group(0) @binding(13) var<storage, read> bias4 : array<vec4f>;
@group(0) @binding(14) var<storage, read> residual4 : array<vec4f>;
@group(0) @binding(15) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(16) var<storage, read_write> flags : array<atomic<u32>>;
@group(0) @binding(17) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(18) var<storage, read_write> dbias4 : array<vec4f>;

var<workgroup> partial : array<f32, WIDTH>;
var<workgroup> partial4 : array<vec4f, WIDTH>;

// TP pixels by TP output channels an invocation.
@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let pixels = params.batch * params.outHeight * params.outWidth;
  let columns = (params.outChannels + TP - 1u) / TP;
  let tiles = columns * ((pixels + TP - 1u) / TP);
  for (var tile = id.x; tile < tiles; tile += groups.x * LANES) {
    let first = tile / columns * TP;
    let channel = tile % columns * TP;
    var top : array<u32, TP>;
    var left : array<u32, TP>;
    var base : array<u32, TP>;
    var sum : array<array<f32, TP>, TP>;
    for (var i = 0u; i < TP; i++) { // unroll
      let pixel = min(first + i, pixels - 1u);
      let line = pixel / params.outWidth;
      top[i] = line % params.outHeight * params.strideY - params.padTop;
      left[i] = pixel % params.outWidth * params.strideX - params.padLeft;
      base[i] = (line / params.outHeight * params.height + top[i]) * params.width + left[i];
      for (var j = 0u; j < TP; j++) { // unroll
        if (params.hasBias == 1u) { sum[i][j] = bias[min(channel + j, params.outChannels - 1u)]; }
      }
    }
    var k = 0u;
    for (var ky = 0u; ky < params.kernelHeight; ky++) {
      for (var kx = 0u; kx < params.kernelWidth; kx++) {
        var start : array<u32, TP>;
        for (var i = 0u; i < TP; i++) { // unroll
          let inside = top[i] + ky < params.height && left[i] + kx < params.width;
          start[i] = select(0u, params.xOffset + (base[i] + ky * params.width + kx) * params.xStride, inside);
        }
        for (var c = 0u; c < params.channels; c++) {
          var w : array<f32, TP>;
          for (var j = 0u; j < TP; j++) { // unroll
            w[j] = weight[k + min(channel + j, params.outChannels - 1u)];
          }
          for (var i = 0u; i < TP; i++) { // unroll
            let f = x[start[i] + c];
            for (var j = 0u; j < TP; j++) { // unroll
              sum[i][j] = fma(f, w[j], sum[i][j]);
            }
          }
          k += params.outChannels;
        }
      }
    }
    var worst = 0u;
    for (var i = 0u; i < TP; i++) { // unroll
      for (var j = 0u; j < TP; j++) { // unroll
        let pixel = first + i;
        let co = channel + j;
        if (pixel < pixels && co < params.outChannels) {
          var value = sum[i][j];
          if (params.hasResidual == 1u) { value += residual[params.residualOffset + pixel * params.residualStride + co]; }
          worst = max(worst, bitcast<u32>(value) & EXPONENT);
          if (params.relu == 1u) { value = max(value, 0.0); }
          y[params.yOffset + pixel * params.yStride + co] = value;
        }
      }
    }
    if (worst == EXPONENT) { atomicStore(&flags[params.layer], 1u); }
  }
}

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

// TM pixels by 4 * V output channels an invocation; the LC lanes of a workgroup have the same pixels.
@compute @workgroup_size(LC)
fn forwardVec4(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + V * LC - 1u) / (V * LC);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * TM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = block * V * LC + lane;
  let xFirst = params.x4Offset + group.z * params.xSlice;
  let yFirst = params.y4Offset + group.z * params.ySlice;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var top : array<u32, TM>;
  var left : array<u32, TM>;
  var base : array<u32, TM>;
  var pixel : array<u32, TM>;
  var sum : array<array<vec4f, V>, TM>;
  for (var i = 0u; i < TM; i++) { // unroll
    let at = window(min(first + i, pixels - 1u));
    top[i] = at.top;
    left[i] = at.left;
    base[i] = at.base;
    pixel[i] = at.pixel;
  }
  if (params.hasBias4 == 1u) {
    for (var j = 0u; j < V; j++) { // unroll
      let b = bias4[min(channel + j * LC, outChannels - 1u)];
      for (var i = 0u; i < TM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = group.z * params.weightSlice + block * params.kernelHeight * params.kernelWidth * params.channels * (V * LC) + lane;
  for (var ky = 0u; ky < params.kernelHeight; ky++) {
    for (var kx = 0u; kx < params.kernelWidth; kx++) {
      var start : array<u32, TM>;
      for (var i = 0u; i < TM; i++) { // unroll
        let inside = top[i] + ky < params.height && left[i] + kx < params.width;
        start[i] = select(0u, xFirst + (base[i] + ky * params.width + kx) * params.x4Stride, inside);
      }
      for (var c = 0u; c < channels; c++) {
        var f : array<vec4f, TM>;
        for (var i = 0u; i < TM; i++) { // unroll
          f[i] = x4[start[i] + c];
        }
        for (var q = 0u; q < 4u; q++) { // unroll
          for (var j = 0u; j < V; j++) { // unroll
            let w = weight4[k + (q * V + j) * LC];
            for (var i = 0u; i < TM; i++) { // unroll
              sum[i][j] = fma(vec4f(f[i][q]), w, sum[i][j]);
            }
          }
        }
        k += 4u * V * LC;
      }
    }
  }
  var worst = vec4u(0u);
  for (var i = 0u; i < TM; i++) { // unroll
    if (first + i < pixels) {
      for (var j = 0u; j < V; j++) { // unroll
        if (channel + j * LC < outChannels) {
          if (RESIDUAL == 1u) { sum[i][j] += residual4[params.residual4Offset + pixel[i] * params.residual4Stride + channel + j * LC]; }
          worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
          y4[yFirst + pixel[i] * params.y4Stride + channel + j * LC] = max(sum[i][j], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// forwardVec4 with scalar loads of x.
@compute @workgroup_size(LC)
fn forwardImage(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let outChannels = params.outChannels / 4u;
  let blocks = (outChannels + V * LC - 1u) / (V * LC);
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * TM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = block * V * LC + lane;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var top : array<u32, TM>;
  var left : array<u32, TM>;
  var base : array<u32, TM>;
  var pixel : array<u32, TM>;
  var sum : array<array<vec4f, V>, TM>;
  for (var i = 0u; i < TM; i++) { // unroll
    let at = window(min(first + i, pixels - 1u));
    top[i] = at.top;
    left[i] = at.left;
    base[i] = at.base;
    pixel[i] = at.pixel;
  }
  if (params.hasBias4 == 1u) {
    for (var j = 0u; j < V; j++) { // unroll
      let b = bias4[min(channel + j * LC, outChannels - 1u)];
      for (var i = 0u; i < TM; i++) { // unroll
        sum[i][j] = b;
      }
    }
  }
  var k = block * params.kernelHeight * params.kernelWidth * params.channels * (V * LC) + lane;
  for (var ky = 0u; ky < params.kernelHeight; ky++) {
    for (var kx = 0u; kx < params.kernelWidth; kx++) {
      var start : array<u32, TM>;
      for (var i = 0u; i < TM; i++) { // unroll
        let inside = top[i] + ky < params.height && left[i] + kx < params.width;
        start[i] = select(0u, params.xOffset + (base[i] + ky * params.width + kx) * params.xStride, inside);
      }
      for (var c = 0u; c < params.channels; c++) {
        for (var j = 0u; j < V; j++) { // unroll
          let w = weight4[k + j * LC];
          for (var i = 0u; i < TM; i++) { // unroll
            sum[i][j] = fma(vec4f(x[start[i] + c]), w, sum[i][j]);
          }
        }
        k += V * LC;
      }
    }
  }
  var worst = vec4u(0u);
  for (var i = 0u; i < TM; i++) { // unroll
    if (first + i < pixels) {
      for (var j = 0u; j < V; j++) { // unroll
        if (channel + j * LC < outChannels) {
          if (RESIDUAL == 1u) { sum[i][j] += residual4[params.residual4Offset + pixel[i] * params.residual4Stride + channel + j * LC]; }
          worst = max(worst, bitcast<vec4u>(sum[i][j]) & vec4u(EXPONENT));
          y4[params.y4Offset + pixel[i] * params.y4Stride + channel + j * LC] = max(sum[i][j], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// packed[b, k, j] = weight[k, firstChannel + b * block + j], k = (ky, kx, ci) and zero past the last output channel.
@compute @workgroup_size(LANES)
fn packWeight(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let depth = params.kernelHeight * params.kernelWidth * params.channels;
  for (var i = id.x; i < arrayLength(&packed); i += groups.x * LANES) {
    let k = i / params.block % depth;
    let co = params.firstChannel + i / params.block / depth * params.block + i % params.block;
    packed[i] = select(0.0, weight[k * params.outChannels + min(co, params.outChannels - 1u)], co < params.outChannels);
  }
}

// Weights for the input gradient as a convolution of dy. dx's pixels startY + stepY * v see only the taps ky = padTop, padTop + stepY ...
// (padTop: the first such tap), of which there are kernelHeight; height is the number of taps of the weight itself; the same across.
// packed[b, k, j] = weight[ky, kx, b * block + j, co], k = (ky descending, kx descending, co) and zero past the last input channel.
@compute @workgroup_size(LANES)
fn packGradientWeight(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let depth = params.kernelHeight * params.kernelWidth * params.channels;
  let count = (params.outChannels + params.block - 1u) / params.block * depth * params.block;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let k = i / params.block % depth;
    let ci = i / params.block / depth * params.block + i % params.block;
    let tap = k / params.channels;
    let ky = params.padTop + (params.kernelHeight - 1u - tap / params.kernelWidth) * params.stepY;
    let kx = params.padLeft + (params.kernelWidth - 1u - tap % params.kernelWidth) * params.stepX;
    let start = ((ky * params.width + kx) * params.outChannels + min(ci, params.outChannels - 1u)) * params.channels + k % params.channels;
    packed[i] = select(0.0, weight[start], ci < params.outChannels);
  }
}

// dx[n, iy, ix, ci] = sum over ky, kx, co of dy[n, (iy + padTop - ky) / strideY, ...] * weight[ky, kx, ci, co] where that divides.
@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = (params.channels + TP - 1u) / TP;
  let tiles = params.batch * params.height * params.width * columns;
  for (var tile = id.x; tile < tiles; tile += groups.x * LANES) {
    let pixel = tile / columns;
    let channel = tile % columns * TP;
    let line = pixel / params.width;
    let n = line / params.height;
    var sum : array<f32, TP>;
    for (var ty = params.kernelHeight; ty > 0u; ty--) {
      let v = line % params.height + params.padTop - (ty - 1u);
      if (v >= params.outHeight * params.strideY || v % params.strideY != 0u) { continue; }
      for (var tx = params.kernelWidth; tx > 0u; tx--) {
        let u = pixel % params.width + params.padLeft - (tx - 1u);
        if (u >= params.outWidth * params.strideX || u % params.strideX != 0u) { continue; }
        let start = params.dyOffset + ((n * params.outHeight + v / params.strideY) * params.outWidth + u / params.strideX) * params.dyStride;
        let tap = ((ty - 1u) * params.kernelWidth + tx - 1u) * params.channels;
        for (var co = 0u; co < params.outChannels; co++) {
          for (var j = 0u; j < TP; j++) { // unroll
            let ci = min(channel + j, params.channels - 1u);
            sum[j] = fma(dy[start + co], weight[(tap + ci) * params.outChannels + co], sum[j]);
          }
        }
      }
    }
    for (var j = 0u; j < TP; j++) { // unroll
      if (channel + j < params.channels) { dx[params.dxOffset + pixel * params.dxStride + channel + j] = sum[j]; }
    }
  }
}

// dweight[ky, kx, ci, co] = sum over n, oy, ox of x[n, oy * strideY + ky - padTop, ox * strideX + kx - padLeft, ci] * dy[n, oy, ox, co].
@compute @workgroup_size(LANES)
fn weightGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = (params.outChannels + TP - 1u) / TP;
  let tiles = params.kernelHeight * params.kernelWidth * params.channels * columns;
  for (var tile = id.x; tile < tiles; tile += groups.x * LANES) {
    let row = tile / columns;
    let channel = tile % columns * TP;
    let tap = row / params.channels;
    let top = tap / params.kernelWidth - params.padTop;
    let left = tap % params.kernelWidth - params.padLeft;
    var sum : array<f32, TP>;
    var to = params.dyOffset;
    for (var line = 0u; line < params.batch * params.outHeight; line++) {
      let iy = line % params.outHeight * params.strideY + top;
      let start = params.xOffset + (line / params.outHeight * params.height + iy) * params.width * params.xStride + row % params.channels;
      for (var ox = 0u; ox < params.outWidth; ox++) {
        let ix = ox * params.strideX + left;
        let f = x[select(0u, start + ix * params.xStride, iy < params.height && ix < params.width)];
        for (var j = 0u; j < TP; j++) { // unroll
          sum[j] = fma(f, dy[to + min(channel + j, params.outChannels - 1u)], sum[j]);
        }
        to += params.dyStride;
      }
    }
    for (var j = 0u; j < TP; j++) { // unroll
      if (channel + j < params.outChannels) { dweight[row * params.outChannels + channel + j] = sum[j]; }
    }
  }
}

// dbias[co] = sum of dy over pixels: pixel p belongs to partial sum p % WIDTH, whose tree does not depend on LANES. A workgroup a channel.
@compute @workgroup_size(LANES)
fn biasGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) lane : u32) {
  let co = group.x + group.y * groups.x;
  if (co >= params.outChannels) { return; }
  let pixels = params.batch * params.outHeight * params.outWidth;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var p = i; p < pixels; p += WIDTH) { sum += dy[params.dyOffset + p * params.dyStride + co]; }
    partial[i] = sum;
  }
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { partial[i] += partial[i + stride]; }
    workgroupBarrier();
  }
  if (lane == 0u) { dbias[co] = partial[0]; }
}

// biasGradient, four channels a workgroup.
@compute @workgroup_size(LANES)
fn biasGradient4(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(local_invocation_index) lane : u32) {
  let c = group.x + group.y * groups.x;
  if (c >= params.outChannels / 4u) { return; }
  let pixels = params.batch * params.outHeight * params.outWidth;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = vec4f(0.0);
    for (var p = i; p < pixels; p += WIDTH) { sum += dy4[params.dy4Offset + p * params.dy4Stride + c]; }
    partial4[i] = sum;
  }
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { partial4[i] += partial4[i + stride]; }
    workgroupBarrier();
  }
  if (lane == 0u) { dbias4[c] = partial4[0]; }
}
