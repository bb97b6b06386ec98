// conv2d with a 3x3 kernel and stride 1 by Winograd's F(2x2, 3x3): 16 products for four outputs instead of 36.
//
//   y tile = A' [ (G g G') * (B' d B) ] A, d the 4x4 pixels under a 2x2 tile of outputs, g the 3x3 weights, summed over channels before A
//
// transformInput writes v[16][tiles][channels]; the tiled kernels of conv2d multiply it by the packed weights, one product a
// component: m[16][tiles][outChannels]; transformOutput adds bias and residual, applies ReLU and writes y. Channels are multiples of 4.
// The weight gradient is G' [ sum over tiles of (B' d B) * (A dy A') ] G: transformInput, transformGradient (z), 16 products over tiles
// (u[16][channels][outChannels]), transformWeightGradient.
// Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.

struct Params {
  batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
  padTop : u32, padLeft : u32, relu : u32, tilesY : u32, tilesX : u32, block : u32, flipped : u32, layer : u32, hasBias : u32,
  xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, residualStride : u32, residualOffset : u32,
  dyStride : u32, dyOffset : u32,
}

override LANES : u32 = 64u;
const RESIDUAL = 0u;  // 1: a residual is added before the activation
const EXPONENT = 0x7f800000u;  // all bits of it are set in NaN and infinity; comparisons may be folded away, bits may not

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<vec4f>;
@group(0) @binding(2) var<storage, read_write> v : array<vec4f>;
@group(0) @binding(3) var<storage, read> m : array<vec4f>;
@group(0) @binding(4) var<storage, read> bias : array<vec4f>;
@group(0) @binding(5) var<storage, read> residual : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y : array<vec4f>;
@group(0) @binding(7) var<storage, read_write> flags : array<atomic<u32>>;
@group(0) @binding(8) var<storage, read> weight : array<f32>;
@group(0) @binding(9) var<storage, read_write> packed : array<f32>;
@group(0) @binding(10) var<storage, read> dy : array<vec4f>;
@group(0) @binding(11) var<storage, read_write> z : array<vec4f>;
@group(0) @binding(12) var<storage, read> u : array<f32>;
@group(0) @binding(13) var<storage, read_write> dweight : array<f32>;

@compute @workgroup_size(LANES)
fn transformInput(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let tiles = params.batch * params.tilesY * params.tilesX;
  for (var i = id.x; i < tiles * channels; i += groups.x * LANES) {
    let tile = i / channels;
    let c = i - tile * channels;
    let line = tile / params.tilesX;
    let n = line / params.tilesY;
    let top = (line - n * params.tilesY) * 2u - params.padTop;
    let left = (tile - line * params.tilesX) * 2u - params.padLeft;
    let base = (n * params.height + top) * params.width + left;
    // Row r is sa * row ra + sb * row rb of d. A loop and signs, not four pieces of code: loads are what takes long to compile; and a bound that
    // compilers do not know, since they unroll loops of four.
    for (var r = 0u; r < 4u * min(params.batch, 1u); r++) {
      let ra = min(r, 1u);
      let rb = select(2u, 3u, r == 3u);
      let sa = select(1.0, -1.0, r == 2u);
      let sb = select(-1.0, 1.0, r == 1u || r == 2u);
      var d : array<vec4f, 4u>;
      for (var s = 0u; s < 4u; s++) { // unroll
        let across = left + s < params.width;
        let a = x[select(0u, params.xOffset + (base + ra * params.width + s) * params.xStride, across && top + ra < params.height) + c];
        let b = x[select(0u, params.xOffset + (base + rb * params.width + s) * params.xStride, across && top + rb < params.height) + c];
        d[s] = sa * a + sb * b;
      }
      let to = (r * 4u * tiles + tile) * channels + c;
      v[to] = d[0] - d[2];
      v[to + tiles * channels] = d[1] + d[2];
      v[to + 2u * tiles * channels] = d[2] - d[1];
      v[to + 3u * tiles * channels] = d[1] - d[3];
    }
  }
}

@compute @workgroup_size(LANES)
fn transformOutput(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.outChannels / 4u;
  let tiles = params.batch * params.tilesY * params.tilesX;
  let floor = vec4f(select(-3.4028234e38, 0.0, params.relu == 1u));
  var worst = vec4u(0u);
  for (var i = id.x; i < tiles * channels; i += groups.x * LANES) {
    let tile = i / channels;
    let c = i - tile * channels;
    // As in transformInput: one piece of code, column by column.
    var t : array<array<vec4f, 2u>, 2u>;
    for (var s = 0u; s < 4u * min(params.batch, 1u); s++) {
      let m0 = m[(s * tiles + tile) * channels + c];
      let m1 = m[((4u + s) * tiles + tile) * channels + c];
      let m2 = m[((8u + s) * tiles + tile) * channels + c];
      let m3 = m[((12u + s) * tiles + tile) * channels + c];
      let first = select(1.0, 0.0, s == 3u);
      let second = select(select(-1.0, 1.0, s == 1u), 0.0, s == 0u);
      t[0][0] += first * (m0 + m1 + m2);
      t[0][1] += second * (m0 + m1 + m2);
      t[1][0] += first * (m1 - m2 - m3);
      t[1][1] += second * (m1 - m2 - m3);
    }
    let line = tile / params.tilesX;
    let n = line / params.tilesY;
    let oy = (line - n * params.tilesY) * 2u;
    let ox = (tile - line * params.tilesX) * 2u;
    var b = vec4f(0.0);
    if (params.hasBias == 1u) { b = bias[c]; }
    for (var r = 0u; r < 2u; r++) { // unroll
      var pair : array<vec4f, 2u>;
      pair[0] = t[r][0] + b;
      pair[1] = t[r][1] + b;
      for (var s = 0u; s < 2u; s++) { // unroll
        if (oy + r < params.outHeight && ox + s < params.outWidth) {
          let pixel = (n * params.outHeight + oy + r) * params.outWidth + ox + s;
          if (RESIDUAL == 1u) { pair[s] += residual[params.residualOffset + pixel * params.residualStride + c]; }
          worst = max(worst, bitcast<vec4u>(pair[s]) & vec4u(EXPONENT));
          y[params.yOffset + pixel * params.yStride + c] = max(pair[s], floor);
        }
      }
    }
  }
  if (any(worst == vec4u(EXPONENT))) { atomicStore(&flags[params.layer], 1u); }
}

// packed[16][b, ci, j] = G g G' of g = weight[., ., ci, b * block + j]; zero past the last output channel. flipped: for the input gradient,
// the weights of tap (2 - ky, 2 - kx), with channels (of dy) and outChannels (of dx) changing places.
@compute @workgroup_size(LANES)
fn packWeight(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = (params.outChannels + params.block - 1u) / params.block * params.channels * params.block;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let ci = i / params.block % params.channels;
    let co = i / params.block / params.channels * params.block + i % params.block;
    let inside = co < params.outChannels;
    let column = min(co, params.outChannels - 1u);
    let first = select(ci * params.outChannels + column, column * params.channels + ci, params.flipped == 1u);
    var t : array<array<f32, 3u>, 4u>;
    for (var s = 0u; s < 3u; s++) { // unroll
      var g : array<f32, 3u>;
      for (var r = 0u; r < 3u; r++) { // unroll
        let tap = select(r * 3u + s, 8u - (r * 3u + s), params.flipped == 1u);
        g[r] = select(0.0, weight[tap * params.channels * params.outChannels + first], inside);
      }
      t[0][s] = g[0];
      t[1][s] = 0.5 * (g[0] + g[2] + g[1]);
      t[2][s] = 0.5 * (g[0] + g[2] - g[1]);
      t[3][s] = g[2];
    }
    for (var r = 0u; r < 4u; r++) { // unroll
      packed[(r * 4u) * count + i] = t[r][0];
      packed[(r * 4u + 1u) * count + i] = 0.5 * (t[r][0] + t[r][2] + t[r][1]);
      packed[(r * 4u + 2u) * count + i] = 0.5 * (t[r][0] + t[r][2] - t[r][1]);
      packed[(r * 4u + 3u) * count + i] = t[r][2];
    }
  }
}

// z[16][tiles][outChannels] = A dy A' of 2x2 tiles of dy; outside y it is zero.
@compute @workgroup_size(LANES)
fn transformGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.outChannels / 4u;
  let tiles = params.batch * params.tilesY * params.tilesX;
  for (var i = id.x; i < tiles * channels; i += groups.x * LANES) {
    let tile = i / channels;
    let c = i - tile * channels;
    let line = tile / params.tilesX;
    let n = line / params.tilesY;
    let oy = (line - n * params.tilesY) * 2u;
    let ox = (tile - line * params.tilesX) * 2u;
    let base = (n * params.outHeight + oy) * params.outWidth + ox;
    var d : array<array<vec4f, 2u>, 2u>;
    for (var r = 0u; r < 2u; r++) { // unroll
      for (var s = 0u; s < 2u; s++) { // unroll
        let inside = oy + r < params.outHeight && ox + s < params.outWidth;
        d[r][s] = dy[select(0u, params.dyOffset + (base + r * params.outWidth + s) * params.dyStride, inside) + c];
      }
    }
    var t : array<array<vec4f, 2u>, 4u>;
    for (var s = 0u; s < 2u; s++) { // unroll
      t[0][s] = d[0][s];
      t[1][s] = d[0][s] + d[1][s];
      t[2][s] = d[0][s] - d[1][s];
      t[3][s] = -d[1][s];
    }
    for (var r = 0u; r < 4u; r++) { // unroll
      let to = (r * 4u * tiles + tile) * channels + c;
      z[to] = t[r][0];
      z[to + tiles * channels] = t[r][0] + t[r][1];
      z[to + 2u * tiles * channels] = t[r][0] - t[r][1];
      z[to + 3u * tiles * channels] = -t[r][1];
    }
  }
}

// dweight[ky, kx, ci, co] = (G' u[., ci, co] G)[ky, kx].
@compute @workgroup_size(LANES)
fn transformWeightGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.channels * params.outChannels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    var t : array<array<f32, 4u>, 3u>;
    for (var s = 0u; s < 4u; s++) { // unroll
      let u0 = u[s * count + i];
      let u1 = u[(4u + s) * count + i];
      let u2 = u[(8u + s) * count + i];
      let u3 = u[(12u + s) * count + i];
      t[0][s] = u0 + 0.5 * (u1 + u2);
      t[1][s] = 0.5 * (u1 - u2);
      t[2][s] = 0.5 * (u1 + u2) + u3;
    }
    for (var r = 0u; r < 3u; r++) { // unroll
      dweight[(r * 3u) * count + i] = t[r][0] + 0.5 * (t[r][1] + t[r][2]);
      dweight[(r * 3u + 1u) * count + i] = 0.5 * (t[r][1] - t[r][2]);
      dweight[(r * 3u + 2u) * count + i] = 0.5 * (t[r][1] + t[r][2]) + t[r][3];
    }
  }
}
