// channelPad: zeros behind the channels and around the image.
//
//   y[n, oy, ox, c] = x[n, oy - padTop, ox - padLeft, c] where that exists, 0 elsewhere
//
// Shapes: x, dx [batch, height, width, channels], y, dy [batch, outHeight, outWidth, outChannels], f32; a pixel starts every
// <tensor>Stride elements. Invocations stride over the output.

struct Params { batch : u32, height : u32, width : u32, channels : u32, outHeight : u32, outWidth : u32, outChannels : u32,
                padTop : u32, padLeft : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.outHeight * params.outWidth * params.outChannels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.outChannels;
    let pixel = i / params.outChannels;
    // Pixels above and to the left wrap to huge numbers, which are outside as well.
    let ix = pixel % params.outWidth - params.padLeft;
    let line = pixel / params.outWidth;
    let iy = line % params.outHeight - params.padTop;
    let n = line / params.outHeight;
    var value = 0.0;
    if (channel < params.channels && iy < params.height && ix < params.width) {
      value = x[params.xOffset + ((n * params.height + iy) * params.width + ix) * params.xStride + channel];
    }
    y[params.yOffset + pixel * params.yStride + channel] = value;
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.batch * params.height * params.width * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let ox = pixel % params.width + params.padLeft;
    let line = pixel / params.width;
    let oy = line % params.height + params.padTop;
    let n = line / params.height;
    dx[params.dxOffset + pixel * params.dxStride + channel] =
      dy[params.dyOffset + ((n * params.outHeight + oy) * params.outWidth + ox) * params.dyStride + channel];
  }
}
