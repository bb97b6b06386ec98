// l2Pool: Euclidean length of each window; padding counts as zero.
//
//   y[n, oy, ox, c] = sqrt((sum of x^2 over the pixels of the window) + epsilon)
//
// Shapes: x, dx [batch, height, width, channels], y, output, dy [batch, outHeight, outWidth, channels], f32; a pixel starts every
// <tensor>Stride elements. Invocations stride over the output. Sums: each row of the window from left to right, then the rows from
// top to bottom; the gradient adds the windows that hold a pixel in row-major order. A window of length 0 gives no gradient.

struct Params { batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, sizeY : u32, sizeX : u32,
                strideY : u32, strideX : u32, padTop : u32, padLeft : u32, epsilon : f32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, outputStride : u32, outputOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32,
                x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32,
                output4Stride : u32, output4Offset : u32, dy4Stride : u32, dy4Offset : u32, dx4Stride : u32, dx4Offset : u32 }

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
@group(0) @binding(8) var<storage, read> output4 : array<vec4f>;
@group(0) @binding(9) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dx4 : array<vec4f>;
@group(0) @binding(11) var<storage, read_write> quotient4 : array<vec4f>;
@group(0) @binding(12) var<storage, read> share4 : array<vec4f>;

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
    var sum = 0.0;
    for (var iy = ys.x; iy < ys.y; iy++) {
      var row = 0.0;
      for (var ix = xs.x; ix < xs.y; ix++) {
        let value = x[params.xOffset + ((image + iy) * params.width + ix) * params.xStride + channel];
        row = fma(value, value, row);
      }
      sum += row;
    }
    y[params.yOffset + pixel * params.yStride + channel] = sqrt(sum + params.epsilon);
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
    var sum = vec4f();
    for (var iy = ys.x; iy < ys.y; iy++) {
      var row = vec4f();
      for (var ix = xs.x; ix < xs.y; ix++) {
        let value = x4[params.x4Offset + ((image + iy) * params.width + ix) * params.x4Stride + channel];
        row = fma(value, value, row);
      }
      sum += row;
    }
    y4[params.y4Offset + pixel * params.y4Stride + channel] = sqrt(sum + vec4f(params.epsilon));
  }
}

// forward4 of windows of SY x SX pixels with a line of them an invocation: divisions of integers are dear on software adapters, and so one line
// needs them once; loads are, and so each pixel is read once for all windows of the line; loops are, and so pixels outside the image are
// added as zeros.
@compute @workgroup_size(LANES)
fn forwardLine4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let zero = vec4f(f32(1u - min(params.batch, 1u)));  // which compilers do not know: Mesa reorders sums that begin with a product
  for (var i = id.x; i < params.batch * params.outHeight * channels; i += groups.x * LANES) {
    let line = i / channels;
    let channel = i - line * channels;
    let n = line / params.outHeight;
    let top = (line - n * params.outHeight) * params.strideY - params.padTop;  // wrapped below zero
    let image = params.x4Offset + n * params.height * params.width * params.x4Stride + channel;
    var window : array<array<vec4f, SX>, SY>;
    // Columns KEPT.. of the window are new: for the first one all before them are loaded here.
    for (var u = 0u; u < KEPT; u++) { // unroll
      for (var t = 0u; t < SY; t++) { // unroll
        window[t][SX - KEPT + u] = pixelAt(image, top + t, u - params.padLeft);
      }
    }
    for (var ox = 0u; ox < params.outWidth; ox++) {
      for (var t = 0u; t < SY; t++) { // unroll
        for (var u = 0u; u < KEPT; u++) { // unroll
          window[t][u] = window[t][SX - KEPT + u];
        }
        for (var u = 0u; u < SX - KEPT; u++) { // unroll
          window[t][KEPT + u] = pixelAt(image, top + t, ox * params.strideX + KEPT + u - params.padLeft);
        }
      }
      var sum = vec4f();
      for (var t = 0u; t < SY; t++) { // unroll
        var row = zero;
        for (var u = 0u; u < SX; u++) { // unroll
          row = fma(window[t][u], window[t][u], row);
        }
        sum += row;
      }
      y4[params.y4Offset + (line * params.outWidth + ox) * params.y4Stride + channel] = sqrt(sum + vec4f(params.epsilon));
    }
  }
}

// Four channels of a pixel, 0 outside the image.
fn pixelAt(image : u32, iy : u32, ix : u32) -> vec4f {
  let inside = iy < params.height && ix < params.width;
  return select(vec4f(), x4[select(0u, image + (iy * params.width + ix) * params.x4Stride, inside)], inside);
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.height * params.width * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let line = pixel / params.width;
    let oxs = holders(pixel % params.width, params.strideX, params.sizeX, params.padLeft, params.outWidth);
    let oys = holders(line % params.height, params.strideY, params.sizeY, params.padTop, params.outHeight);
    let image = line / params.height * params.outHeight;
    var sum = 0.0;
    for (var oy = oys.x; oy < oys.y; oy++) {
      for (var ox = oxs.x; ox < oxs.y; ox++) {
        let at = (image + oy) * params.outWidth + ox;
        let length = output[params.outputOffset + at * params.outputStride + channel];
        if (length > 0.0) { sum += dy[params.dyOffset + at * params.dyStride + channel] / length; }
      }
    }
    dx[params.dxOffset + pixel * params.dxStride + channel] = x[params.xOffset + pixel * params.xStride + channel] * sum;
  }
}

// inputGradient, four channels at a time, in two steps: dy / length of each window once, then the sums. An invocation of the second
// has a line of pixels: divisions of integers are dear on software adapters, and so one line needs them once.

// quotient[n, oy, ox, c] = dy / output, 0 where the output is.
@compute @workgroup_size(LANES)
fn divide4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  for (var i = id.x; i < params.batch * params.outHeight * channels; i += groups.x * LANES) {
    let line = i / channels;
    let channel = i - line * channels;
    for (var at = line * params.outWidth; at < (line + 1u) * params.outWidth; at++) {
      let length = output4[params.output4Offset + at * params.output4Stride + channel];
      let positive = length > vec4f();
      quotient4[at * channels + channel] =
        select(vec4f(), dy4[params.dy4Offset + at * params.dy4Stride + channel] / select(vec4f(1.0), length, positive), positive);
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
    let oys = holders(line - n * params.height, params.strideY, params.sizeY, params.padTop, params.outHeight);
    // The windows that hold pixel ix, as holders gives them; both ends move with ix.
    var start = 0u;
    var end = 0u;
    for (var ix = 0u; ix < params.width; ix++) {
      while (start * params.strideX + params.sizeX <= ix + params.padLeft) { start++; }
      while (end < params.outWidth && end * params.strideX <= ix + params.padLeft) { end++; }
      var sum = vec4f();
      for (var oy = oys.x; oy < oys.y; oy++) {
        for (var ox = start; ox < end; ox++) { sum += share4[((n * params.outHeight + oy) * params.outWidth + ox) * channels + channel]; }
      }
      let pixel = line * params.width + ix;
      dx4[params.dx4Offset + pixel * params.dx4Stride + channel] = x4[params.x4Offset + pixel * params.x4Stride + channel] * sum;
    }
  }
}
