// avgPool: mean of each window over the pixels that exist, or over those of the padded image (countPadding).
//
//   y[n, oy, ox, c] = (sum over the pixels of the window) / divisor
//
// Shapes: x, dx [batch, height, width, channels], y, dy [batch, outHeight, outWidth, channels], f32; a pixel starts every
// <tensor>Stride elements. Invocations stride over the output. Sums: each row of the window from left to right, then the rows from
// top to bottom; the gradient adds the windows that hold a pixel in row-major order.

struct Params { batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, sizeY : u32, sizeX : u32,
                strideY : u32, strideX : u32, padTop : u32, padLeft : u32, padBottom : u32, padRight : u32, countPadding : u32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

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

// Pixels that window (oy, ox) is divided by: what lies in the image, or in the padded image.
fn divisor(oy : u32, ox : u32) -> f32 {
  if (params.countPadding != 0u) {
    return f32((min(oy * params.strideY + params.sizeY, params.padTop + params.height + params.padBottom) - oy * params.strideY)
             * (min(ox * params.strideX + params.sizeX, params.padLeft + params.width + params.padRight) - ox * params.strideX));
  }
  let ys = clip(oy, params.strideY, params.sizeY, params.padTop, params.height);
  let xs = clip(ox, params.strideX, params.sizeX, params.padLeft, params.width);
  return f32((ys.y - ys.x) * (xs.y - xs.x));
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
    let xs = clip(ox, params.strideX, params.sizeX, params.padLeft, params.width);
    let ys = clip(oy, params.strideY, params.sizeY, params.padTop, params.height);
    let image = line / params.outHeight * params.height;
    var sum = 0.0;
    for (var iy = ys.x; iy < ys.y; iy++) {
      var row = 0.0;
      for (var ix = xs.x; ix < xs.y; ix++) {
        row += x[params.xOffset + ((image + iy) * params.width + ix) * params.xStride + channel];
      }
      sum += row;
    }
    y[params.yOffset + pixel * params.yStride + channel] = sum / divisor(oy, ox);
  }
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
        sum += dy[params.dyOffset + ((image + oy) * params.outWidth + ox) * params.dyStride + channel] / divisor(oy, ox);
      }
    }
    dx[params.dxOffset + pixel * params.dxStride + channel] = sum;
  }
}
