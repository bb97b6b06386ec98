// maxPool: largest value of each window; padding does not exist and so never wins.
//
//   y[n, oy, ox, c] = max over the pixels (iy, ix) of the window, iy = oy * strideY - padTop + 0..sizeY - 1, ix likewise
//
// Shapes: x, dx [batch, height, width, channels], y, output, dy [batch, outHeight, outWidth, channels], f32; a pixel starts every
// <tensor>Stride elements. Invocations stride over the output.
// The gradient is gathered: each input pixel sums dy over the windows (oy, then ox ascending) of which it is the first maximum in
// row-major order.

struct Params { batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, sizeY : u32, sizeX : u32,
                strideY : u32, strideX : u32, padTop : u32, padLeft : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
                outputStride : u32, outputOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32,
                x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32,
                dy4Stride : u32, dy4Offset : u32, dx4Stride : u32, dx4Offset : u32 }

override LANES : u32 = 64u;
const SY = 2u;  // window of forwardLine4
const SX = 2u;
const KEPT = 1u;  // columns that its next window has too: SX - strideX, at least 0

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> output : array<f32>;
@group(0) @binding(4) var<storage, read> dy : array<f32>;
@group(0) @binding(5) var<storage, read_write> dx : array<f32>;
@group(0) @binding(6) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(8) var<storage, read_write> found4 : array<vec4u>;
@group(0) @binding(9) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dx4 : array<vec4f>;
@group(0) @binding(11) var<storage, read> firstMaximum4 : array<vec4u>;

// First and one past the last pixel of window `o` inside an image of `pixels`.
fn clip(o : u32, stride : u32, size : u32, pad : u32, pixels : u32) -> vec2u {
  let start = o * stride;
  return vec2u(max(start, pad) - pad, min(start + size - pad, pixels));
}

// First and one past the last window that holds pixel `i`, of `windows`.
fn holders(i : u32, stride : u32, size : u32, pad : u32, windows : u32) -> vec2u {
  let reach = i + pad + 1u;
  return vec2u((max(reach, size) - size + stride - 1u) / stride, min((i + pad) / stride + 1u, windows));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.outHeight * params.outWidth * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let line = pixel / params.outWidth;
    let xs = clip(pixel % params.outWidth, params.strideX, params.sizeX, params.padLeft, params.width);
    let ys = clip(line % params.outHeight, params.strideY, params.sizeY, params.padTop, params.height);
    let image = line / params.outHeight * params.height;
    var largest = x[params.xOffset + ((image + ys.x) * params.width + xs.x) * params.xStride + channel];
    for (var iy = ys.x; iy < ys.y; iy++) {
      for (var ix = xs.x; ix < xs.y; ix++) {
        largest = max(largest, x[params.xOffset + ((image + iy) * params.width + ix) * params.xStride + channel]);
      }
    }
    y[params.yOffset + pixel * params.yStride + channel] = largest;
  }
}

// forward, four channels at a time.
@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let count = params.batch * params.outHeight * params.outWidth * channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % channels;
    let pixel = i / channels;
    let line = pixel / params.outWidth;
    let xs = clip(pixel % params.outWidth, params.strideX, params.sizeX, params.padLeft, params.width);
    let ys = clip(line % params.outHeight, params.strideY, params.sizeY, params.padTop, params.height);
    let image = line / params.outHeight * params.height;
    var largest = x4[params.x4Offset + ((image + ys.x) * params.width + xs.x) * params.x4Stride + channel];
    for (var iy = ys.x; iy < ys.y; iy++) {
      for (var ix = xs.x; ix < xs.y; ix++) {
        largest = max(largest, x4[params.x4Offset + ((image + iy) * params.width + ix) * params.x4Stride + channel]);
      }
    }
    y4[params.y4Offset + pixel * params.y4Stride + channel] = largest;
  }
}

// forward4 of windows of SY x SX pixels with a line of them an invocation: divisions of integers are dear on software adapters, and so one line
// needs them once; loads are, and so each pixel is read once for all windows of the line; loops are, and so taps outside the image are moved to
// the last pixel inside, which the window has anyway.
@compute @workgroup_size(LANES)
fn forwardLine4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  for (var i = id.x; i < params.batch * params.outHeight * channels; i += groups.x * LANES) {
    let line = i / channels;
    let channel = i - line * channels;
    let n = line / params.outHeight;
    let top = (line - n * params.outHeight) * params.strideY;
    let image = params.x4Offset + n * params.height * params.width * params.x4Stride + channel;
    var rows : array<u32, SY>;
    for (var t = 0u; t < SY; t++) { // unroll
      rows[t] = image + min(max(top + t, params.padTop) - params.padTop, params.height - 1u) * params.width * params.x4Stride;
    }
    var window : array<array<vec4f, SX>, SY>;
    for (var u = 0u; u < KEPT; u++) { // unroll
      for (var t = 0u; t < SY; t++) { // unroll
        window[t][SX - KEPT + u] = x4[rows[t] + column(u)];
      }
    }
    for (var ox = 0u; ox < params.outWidth; ox++) {
      for (var t = 0u; t < SY; t++) { // unroll
        for (var u = 0u; u < KEPT; u++) { // unroll
          window[t][u] = window[t][SX - KEPT + u];
        }
        for (var u = 0u; u < SX - KEPT; u++) { // unroll
          window[t][KEPT + u] = x4[rows[t] + column(ox * params.strideX + KEPT + u)];
        }
      }
      var largest = vec4f(-3.4028234e38);
      for (var u = 0u; u < SX; u++) { // unroll
        for (var t = 0u; t < SY; t++) { // unroll
          largest = max(largest, window[t][u]);
        }
      }
      y4[params.y4Offset + (line * params.outWidth + ox) * params.y4Stride + channel] = largest;
    }
  }
}

// Where column `at` of a padded line begins, that of the nearest pixel inside.
fn column(at : u32) -> u32 {
  return min(max(at, params.padLeft) - params.padLeft, params.width - 1u) * params.x4Stride;
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.height * params.width * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let ix = pixel % params.width;
    let line = pixel / params.width;
    let iy = line % params.height;
    let n = line / params.height;
    let value = x[params.xOffset + pixel * params.xStride + channel];
    let oxs = holders(ix, params.strideX, params.sizeX, params.padLeft, params.outWidth);
    let oys = holders(iy, params.strideY, params.sizeY, params.padTop, params.outHeight);
    var sum = 0.0;
    for (var oy = oys.x; oy < oys.y; oy++) {
      for (var ox = oxs.x; ox < oxs.y; ox++) {
        let at = (n * params.outHeight + oy) * params.outWidth + ox;
        if (value != output[params.outputOffset + at * params.outputStride + channel]) { continue; }
        let xs = clip(ox, params.strideX, params.sizeX, params.padLeft, params.width);
        let ys = clip(oy, params.strideY, params.sizeY, params.padTop, params.height);
        var first = true;
        for (var qy = ys.x; qy <= iy && first; qy++) {
          let end = select(xs.y, ix, qy == iy);
          for (var qx = xs.x; qx < end && first; qx++) {
            first = x[params.xOffset + ((n * params.height + qy) * params.width + qx) * params.xStride + channel] != value;
          }
        }
        if (first) { sum += dy[params.dyOffset + at * params.dyStride + channel]; }
      }
    }
    dx[params.dxOffset + pixel * params.dxStride + channel] = sum;
  }
}

// inputGradient, four channels at a time, in two steps: each window's first maximum, then each pixel's windows of which it is that.
// An invocation has a line of pixels: divisions of integers are dear on software adapters, and so one line needs them once.

// firstMaximum[n, oy, ox, c]: the pixel (iy * width + ix) that holds the maximum of the window, the first in row-major order.
@compute @workgroup_size(LANES)
fn findMaximum4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  for (var i = id.x; i < params.batch * params.outHeight * channels; i += groups.x * LANES) {
    let line = i / channels;
    let channel = i - line * channels;
    let n = line / params.outHeight;
    let ys = clip(line - n * params.outHeight, params.strideY, params.sizeY, params.padTop, params.height);
    let image = params.x4Offset + n * params.height * params.width * params.x4Stride + channel;
    for (var ox = 0u; ox < params.outWidth; ox++) {
      let xs = clip(ox, params.strideX, params.sizeX, params.padLeft, params.width);
      var at = ys.x * params.width + xs.x;
      var largest = x4[image + at * params.x4Stride];
      var found = vec4u(at);
      for (var iy = ys.x; iy < ys.y; iy++) {
        for (var ix = xs.x; ix < xs.y; ix++) {
          at = iy * params.width + ix;
          let value = x4[image + at * params.x4Stride];
          let larger = value > largest;
          largest = select(largest, value, larger);
          found = select(found, vec4u(at), larger);
        }
      }
      found4[(line * params.outWidth + ox) * channels + channel] = found;
    }
  }
}

@compute @workgroup_size(LANES)
fn inputGradient4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  for (var i = id.x; i < params.batch * params.height * channels; i += groups.x * LANES) {
    let line = i / channels;
    let channel = i - line * channels;
    let n = line / params.height;
    let iy = line - n * params.height;
    let oys = holders(iy, params.strideY, params.sizeY, params.padTop, params.outHeight);
    // The windows that hold pixel ix, as holders gives them; both ends move with ix.
    var start = 0u;
    var end = 0u;
    for (var ix = 0u; ix < params.width; ix++) {
      while (start * params.strideX + params.sizeX <= ix + params.padLeft) { start++; }
      while (end < params.outWidth && end * params.strideX <= ix + params.padLeft) { end++; }
      let own = vec4u(iy * params.width + ix);
      var sum = vec4f();
      for (var oy = oys.x; oy < oys.y; oy++) {
        for (var ox = start; ox < end; ox++) {
          let at = (n * params.outHeight + oy) * params.outWidth + ox;
          let first = firstMaximum4[at * channels + channel] == own;
          sum += select(vec4f(), dy4[params.dy4Offset + at * params.dy4Stride + channel], first);
        }
      }
      dx4[params.dx4Offset + (line * params.width + ix) * params.dx4Stride + channel] = sum;
    }
  }
}
