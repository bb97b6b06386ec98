// globalAveragePool: mean over all pixels of an image.
//
//   y[n, c] = (sum over p of x[n, p, c]) / pixels
//
// Shapes: x, dx [batch, pixels, channels], y, dy [batch, channels], f32; a pixel (or row) starts every <tensor>Stride elements.
// Invocations stride over the output. Sums: blocks of 64 pixels in order, then the blocks in order, so that a large map does not
// lose its last bits.

struct Params { batch : u32, pixels : u32, channels : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

const BLOCK = 64u;
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.channels; i += groups.x * LANES) {
    let n = i / params.channels;
    let channel = i % params.channels;
    var sum = 0.0;
    for (var start = 0u; start < params.pixels; start += BLOCK) {
      var block = 0.0;
      for (var p = start; p < min(start + BLOCK, params.pixels); p++) {
        block += x[params.xOffset + (n * params.pixels + p) * params.xStride + channel];
      }
      sum += block;
    }
    y[params.yOffset + n * params.yStride + channel] = sum / f32(params.pixels);
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.pixels * params.channels; i += groups.x * LANES) {
    let pixel = i / params.channels;
    let channel = i % params.channels;
    dx[params.dxOffset + pixel * params.dxStride + channel] =
      dy[params.dyOffset + pixel / params.pixels * params.dyStride + channel] / f32(params.pixels);
  }
}
