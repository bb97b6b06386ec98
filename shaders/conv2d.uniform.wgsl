// conv2d by tiles whose packed weights are a uniform buffer of 64 KiB: for adapters in software that compile by LLVM. There a load from a
// storage buffer is a loop over the lanes, with a test of mask and bounds for each; one from a uniform buffer is straight code, and where
// the index is a constant it is one scalar for all lanes.
//
// The sums, their order and the layouts are those of conv2d.wgsl, the bits too. Tensors are bound as vec4s; <tensor>Stride and
// <tensor>Offset are in vec4s. One subgroup is a workgroup; SG is its size.
//
//   forwardUniform  forwardChannels of conv2d.subgroups.wgsl: CM pixels by 4 * SG channels
//   forwardRows     a first layer: 3x3 windows of images of three channels with nothing on the left, a line of a multiple of four pixels. A lane
//                   has PX pixels of ROWS lines, all 4 * CO output channels, and goes down line by line; PX * STRIDE is a multiple of four.

enable subgroups;

struct Params {
  batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
  kernelHeight : u32, kernelWidth : u32, strideY : u32, strideX : u32, padTop : u32, padLeft : u32, relu : u32,
  gridHeight : u32, gridWidth : u32, stepY : u32, stepX : u32, startY : u32, startX : u32,
  firstChannel : u32, partChannels : u32,  // output channels whose weights are bound
  layer : u32, hasBias : u32,
  xStride : u32, xOffset : u32, imageOffset : u32, yStride : u32, yOffset : u32, residualStride : u32, residualOffset : u32,
}

const SG = 8u;  // subgroup size
const CM = 2u;  // pixels of a tile
const PX = 4u;
const CO = 1u;
const STRIDE = 1u;
const ROWS = 8u;
const KEPT = 3u - STRIDE;  // lines that two windows of a strip, one above the other, share
const RESIDUAL = 0u;  // 1: a residual is added before the activation
const EXPONENT = 0x7f800000u;  // all bits of it are set in NaN and infinity; comparisons may be folded away, bits may not
const CP = (CM + SG - 1u) / SG;                       // pixels a lane of forwardUniform loads a step
const V = (((PX - 1u) * STRIDE + 3u) * 3u + 3u) / 4u;  // vec4s of a line of the image that PX pixels see

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<vec4f>;
@group(0) @binding(2) var<storage, read> image : array<vec4f>;
@group(0) @binding(3) var<uniform> weight : array<vec4f, 4096>;
@group(0) @binding(4) var<storage, read> bias : array<vec4f>;
@group(0) @binding(5) var<storage, read> residual : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y : array<vec4f>;
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
fn forwardUniform(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let pixels = params.batch * params.gridHeight * params.gridWidth;
  let channels = params.channels / 4u;
  let outChannels = params.outChannels / 4u;
  let blocks = (params.partChannels / 4u + SG - 1u) / SG;
  let tile = group.x + group.y * groups.x;
  let first = tile / blocks * CM;
  if (first >= pixels) { return; }
  let block = tile % blocks;
  let channel = params.firstChannel / 4u + block * SG + lane;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  // Lane l looks after the windows of pixels l, l + SG, ... of the tile.
  var top : array<u32, CP>;
  var left : array<u32, CP>;
  var base : array<u32, CP>;
  var pixel : array<u32, CP>;
  var sum : array<vec4f, CM>;
  for (var r = 0u; r < CP; r++) { // unroll
    let at = window(min(first + min(r * SG + lane, CM - 1u), pixels - 1u));
    top[r] = at.top;
    left[r] = at.left;
    base[r] = at.base;
    pixel[r] = at.pixel;
  }
  if (params.hasBias == 1u) {
    let b = bias[min(channel, outChannels - 1u)];
    for (var i = 0u; i < CM; i++) { // unroll
      sum[i] = b;
    }
  }
  var k = block * params.kernelHeight * params.kernelWidth * params.channels * SG + lane;
  // One loop over the window: each loop around the sums costs software adapters a copy of them all.
  var ky = 0u;
  var kx = 0u;
  for (var tap = 0u; tap < params.kernelHeight * params.kernelWidth; tap++) {
    var start : array<u32, CP>;
    for (var r = 0u; r < CP; r++) { // unroll
      let inside = top[r] + ky < params.height && left[r] + kx < params.width;
      start[r] = select(0u, params.xOffset + (base[r] + ky * params.width + kx) * params.xStride, inside);
    }
    for (var c = 0u; c < channels; c++) {
      var g : array<vec4f, CP>;
      var b : array<vec4f, 4>;
      for (var r = 0u; r < CP; r++) { // unroll
        g[r] = x[start[r] + c];
      }
      for (var q = 0u; q < 4u; q++) { // unroll
        b[q] = weight[k + q * SG];
      }
      for (var i = 0u; i < CM; i++) { // unroll
        let f = subgroupShuffle(g[i / SG], i % SG);
        var s = sum[i];
        for (var q = 0u; q < 4u; q++) { // unroll
          s = fma(vec4f(f[q]), b[q], s);
        }
        sum[i] = s;
      }
      k += 4u * SG;
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
  if (channel < outChannels) {
    for (var i = 0u; i < CM; i++) { // unroll
      if (RESIDUAL == 1u) { sum[i] += residual[params.residualOffset + to[i] * params.residualStride + channel]; }
      worst = max(worst, bitcast<vec4u>(sum[i]) & vec4u(EXPONENT));
      y[params.yOffset + to[i] * params.yStride + channel] = max(sum[i], floor);
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// Where vec4 `word` of line `row` of the image lies, 0 (the block of zeros) where that is outside.
fn wordAt(first : u32, row : u32, word : u32) -> u32 {
  let words = params.width * 3u / 4u;
  return select(0u, first + row * words + word, row < params.height && word < words);
}

@compute @workgroup_size(SG)
fn forwardRows(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let across = (params.outWidth + PX - 1u) / PX;
  let down = (params.outHeight + ROWS - 1u) / ROWS;
  let strips = params.batch * across * down;
  let own = (group.x + group.y * groups.x) * SG + lane;
  let strip = min(own, strips - 1u);
  let line = strip / across;
  let ox = (strip - line * across) * PX;
  let n = line / down;
  let start = (line - n * down) * ROWS;
  let end = select(0u, params.outHeight, own < strips);
  let first = params.imageOffset + n * params.height * (params.width * 3u / 4u);
  let word = ox * STRIDE * 3u / 4u;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var b : array<vec4f, CO>;
  if (params.hasBias == 1u) {
    for (var j = 0u; j < CO; j++) { // unroll
      b[j] = bias[j];
    }
  }
  var seen : array<array<vec4f, V>, 3>;
  for (var ky = 0u; ky < KEPT; ky++) { // unroll
    for (var v = 0u; v < V; v++) { // unroll
      seen[ky + STRIDE][v] = image[wordAt(first, start * STRIDE - params.padTop + ky, word + v)];
    }
  }
  var worst = vec4u(0u);
  for (var o = 0u; o < ROWS; o++) {
    let oy = start + o;
    for (var ky = 0u; ky < KEPT; ky++) { // unroll
      for (var v = 0u; v < V; v++) { // unroll
        seen[ky][v] = seen[ky + STRIDE][v];
      }
    }
    for (var ky = 0u; ky < STRIDE; ky++) { // unroll
      for (var v = 0u; v < V; v++) { // unroll
        seen[ky + KEPT][v] = image[wordAt(first, oy * STRIDE - params.padTop + ky + KEPT, word + v)];
      }
    }
    for (var j = 0u; j < CO; j++) { // unroll
      var sum : array<vec4f, PX>;
      for (var p = 0u; p < PX; p++) { // unroll
        sum[p] = b[j];
      }
      for (var ky = 0u; ky < 3u; ky++) { // unroll
        for (var t = 0u; t < 9u; t++) { // unroll
          let w = weight[(ky * 9u + t) * CO + j];
          for (var p = 0u; p < PX; p++) { // unroll
            sum[p] = fma(vec4f(seen[ky][(p * STRIDE * 3u + t) / 4u][(p * STRIDE * 3u + t) % 4u]), w, sum[p]);
          }
        }
      }
      for (var p = 0u; p < PX; p++) { // unroll
        if (oy < end && ox + p < params.outWidth) {
          worst = max(worst, bitcast<vec4u>(sum[p]) & vec4u(EXPONENT));
          y[params.yOffset + ((n * params.outHeight + oy) * params.outWidth + ox + p) * params.yStride + j] = max(sum[p], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}
