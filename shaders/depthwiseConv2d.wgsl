// depthwiseConv2d: every channel convolved (cross-correlated) with a filter of its own, and the gradients.
//
//   y[n, oy, ox, c] = sum over ky, kx of x[n, oy * strideY + ky - padTop, ox * strideX + kx - padLeft, c] * weight[ky, kx, c]
//
// Shapes: x, dx [batch, height, width, channels]; y, dy [batch, outHeight, outWidth, channels]; weight, dweight [kernelHeight, kernelWidth,
// channels], f32; a pixel starts every <tensor>Stride elements (vec4s for tensors named ...4). Taps outside the image are left out.
// Order of every sum: taps in row-major order; the input gradient windows in row-major order; the weight gradient pixels of a line from
// left to right, then the lines from top to bottom. One fma a term. forward4 has the bits of forward.

struct Params { batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, kernelHeight : u32, kernelWidth : u32,
                strideY : u32, strideX : u32, padTop : u32, padLeft : u32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32,
                x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32, dy4Stride : u32, dy4Offset : u32, dx4Stride : u32, dx4Offset : u32 }

override LANES : u32 = 64u;
const WIDE = 2u;    // pixels across of a strip
const STRIP = 16u;  // lines of a strip
const COLUMNS = WIDE + 2u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> weight : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;
@group(0) @binding(4) var<storage, read> dy : array<f32>;
@group(0) @binding(5) var<storage, read_write> dx : array<f32>;
@group(0) @binding(6) var<storage, read_write> dweight : array<f32>;
@group(0) @binding(7) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(8) var<storage, read> weight4 : array<vec4f>;
@group(0) @binding(9) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(10) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(11) var<storage, read_write> dx4 : array<vec4f>;

// First and one past the last tap of window `o` inside an image of `pixels`: none where the window lies in the padding.
fn clip(o : u32, stride : u32, kernel : u32, pad : u32, pixels : u32) -> vec2u {
  let start = o * stride;
  return vec2u(max(start, pad) - start, min(kernel, max(pixels + pad, start) - start));
}

// First and one past the last window that holds the pixel at `i` of the padded image, of `windows`.
fn holders(i : u32, stride : u32, kernel : u32, windows : u32) -> vec2u {
  return vec2u((max(i + 1u, kernel) - kernel + stride - 1u) / stride, min(i / stride + 1u, windows));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.outHeight * params.outWidth * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let line = pixel / params.outWidth;
    let ox = pixel % params.outWidth;
    let oy = line % params.outHeight;
    let kxs = clip(ox, params.strideX, params.kernelWidth, params.padLeft, params.width);
    let kys = clip(oy, params.strideY, params.kernelHeight, params.padTop, params.height);
    let image = line / params.outHeight * params.height;
    var sum = 0.0;
    for (var ky = kys.x; ky < kys.y; ky++) {
      let row = (image + oy * params.strideY + ky - params.padTop) * params.width + ox * params.strideX - params.padLeft;
      for (var kx = kxs.x; kx < kxs.y; kx++) {
        sum = fma(x[params.xOffset + (row + kx) * params.xStride + channel], weight[(ky * params.kernelWidth + kx) * params.channels + channel], sum);
      }
    }
    y[params.yOffset + pixel * params.yStride + channel] = sum;
  }
}

@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let count = params.batch * params.outHeight * params.outWidth * channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % channels;
    let pixel = i / channels;
    let line = pixel / params.outWidth;
    let ox = pixel % params.outWidth;
    let oy = line % params.outHeight;
    let kxs = clip(ox, params.strideX, params.kernelWidth, params.padLeft, params.width);
    let kys = clip(oy, params.strideY, params.kernelHeight, params.padTop, params.height);
    let image = line / params.outHeight * params.height;
    var sum = vec4f();
    for (var ky = kys.x; ky < kys.y; ky++) {
      let row = (image + oy * params.strideY + ky - params.padTop) * params.width + ox * params.strideX - params.padLeft;
      for (var kx = kxs.x; kx < kxs.y; kx++) {
        sum = fma(x4[params.x4Offset + (row + kx) * params.x4Stride + channel], weight4[(ky * params.kernelWidth + kx) * channels + channel], sum);
      }
    }
    y4[params.y4Offset + pixel * params.y4Stride + channel] = sum;
  }
}

// forward4 of 3x3 windows with stride 1: an invocation has WIDE pixels of up to STRIP lines, and goes down line by line. A pixel of the
// input is read once for the three lines of windows that hold it: their sums grow side by side.
@compute @workgroup_size(LANES)
fn forwardStrip4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let across = (params.outWidth + WIDE - 1u) / WIDE;
  let down = (params.outHeight + STRIP - 1u) / STRIP;
  for (var i = id.x; i < params.batch * down * across * channels; i += groups.x * LANES) {
    let strip = i / channels;
    let channel = i - strip * channels;
    let line = strip / across;
    let ox = (strip - line * across) * WIDE;
    let n = line / down;
    let start = (line - n * down) * STRIP;
    let lines = min(STRIP, params.outHeight - start);
    let left = ox - params.padLeft;  // wraps below zero, as `row` does
    var w : array<vec4f, 9>;
    for (var t = 0u; t < 9u; t++) { // unroll
      w[t] = weight4[t * channels + channel];
    }
    var to = params.y4Offset + ((n * params.outHeight + start) * params.outWidth + ox) * params.y4Stride + channel;
    var upper : array<vec4f, WIDE>;
    var middle : array<vec4f, WIDE>;
    for (var ky = 0u; ky < lines + 2u; ky++) {
      let row = start + ky - params.padTop;
      let first = params.x4Offset + ((n * params.height + row) * params.width + left) * params.x4Stride + channel;
      var v : array<vec4f, COLUMNS>;
      for (var c = 0u; c < COLUMNS; c++) { // unroll
        v[c] = x4[select(0u, first + c * params.x4Stride, row < params.height && left + c < params.width)];
      }
      // Said outright: Dawn's SPIR-V keeps what a variable without a value held in the round before.
      var lower : array<vec4f, WIDE>;
      for (var c = 0u; c < WIDE; c++) { // unroll
        lower[c] = vec4f();
      }
      for (var kx = 0u; kx < 3u; kx++) { // unroll
        for (var c = 0u; c < WIDE; c++) { // unroll
          upper[c] = fma(v[c + kx], w[6u + kx], upper[c]);
          middle[c] = fma(v[c + kx], w[3u + kx], middle[c]);
          lower[c] = fma(v[c + kx], w[kx], lower[c]);
        }
      }
      if (ky >= 2u) {
        for (var c = 0u; c < WIDE; c++) { // unroll
          if (ox + c < params.outWidth) { y4[to + c * params.y4Stride] = upper[c]; }
        }
        to += params.outWidth * params.y4Stride;
      }
      for (var c = 0u; c < WIDE; c++) { // unroll
        upper[c] = middle[c];
        middle[c] = lower[c];
      }
    }
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.height * params.width * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let line = pixel / params.width;
    let u = pixel % params.width + params.padLeft;
    let v = line % params.height + params.padTop;
    let oxs = holders(u, params.strideX, params.kernelWidth, params.outWidth);
    let oys = holders(v, params.strideY, params.kernelHeight, params.outHeight);
    let image = line / params.height * params.outHeight;
    var sum = 0.0;
    for (var oy = oys.x; oy < oys.y; oy++) {
      for (var ox = oxs.x; ox < oxs.y; ox++) {
        let tap = (v - oy * params.strideY) * params.kernelWidth + u - ox * params.strideX;
        sum = fma(dy[params.dyOffset + ((image + oy) * params.outWidth + ox) * params.dyStride + channel], weight[tap * params.channels + channel], sum);
      }
    }
    dx[params.dxOffset + pixel * params.dxStride + channel] = sum;
  }
}

@compute @workgroup_size(LANES)
fn inputGradient4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let channels = params.channels / 4u;
  let count = params.batch * params.height * params.width * channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % channels;
    let pixel = i / channels;
    let line = pixel / params.width;
    let u = pixel % params.width + params.padLeft;
    let v = line % params.height + params.padTop;
    let oxs = holders(u, params.strideX, params.kernelWidth, params.outWidth);
    let oys = holders(v, params.strideY, params.kernelHeight, params.outHeight);
    let image = line / params.height * params.outHeight;
    var sum = vec4f();
    for (var oy = oys.x; oy < oys.y; oy++) {
      for (var ox = oxs.x; ox < oxs.y; ox++) {
        let tap = (v - oy * params.strideY) * params.kernelWidth + u - ox * params.strideX;
        sum = fma(dy4[params.dy4Offset + ((image + oy) * params.outWidth + ox) * params.dy4Stride + channel], weight4[tap * channels + channel], sum);
      }
    }
    dx4[params.dx4Offset + pixel * params.dx4Stride + channel] = sum;
  }
}

@compute @workgroup_size(LANES)
fn weightGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.kernelHeight * params.kernelWidth * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let ky = i / params.channels / params.kernelWidth;
    let kx = i / params.channels % params.kernelWidth;
    var total = 0.0;
    for (var line = 0u; line < params.batch * params.outHeight; line++) {
      let v = line % params.outHeight * params.strideY + ky;
      if (v < params.padTop || v >= params.padTop + params.height) { continue; }
      let row = (line / params.outHeight * params.height + v - params.padTop) * params.width;
      var sum = 0.0;
      for (var ox = 0u; ox < params.outWidth; ox++) {
        let u = ox * params.strideX + kx;
        if (u < params.padLeft || u >= params.padLeft + params.width) { continue; }
        sum = fma(x[params.xOffset + (row + u - params.padLeft) * params.xStride + channel],
                  dy[params.dyOffset + (line * params.outWidth + ox) * params.dyStride + channel], sum);
      }
      total += sum;
    }
    dweight[i] = total;
  }
}
