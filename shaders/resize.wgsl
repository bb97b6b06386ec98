// resize: one direction of an image resize, or its gradient (the transposed map): every output line is a weighted sum of lines.
//
//   y[n, o, p, c] = sum over t of band[o, 1 + t] * x[n, band[o, 0] + t, p, c], t ascending
//
// Shapes: x [images, lines, pixels, channels], y [images, outLines, pixels, channels], band [outLines, 1 + taps], f32; a pixel of x and y
// starts every <tensor>Stride elements. A line is a row of the image, or (with pixels = 1) one pixel of a row. Invocations stride
// over y.

struct Params { images : u32, lines : u32, outLines : u32, pixels : u32, channels : u32, taps : u32, xStride : u32, xOffset : u32,
                yStride : u32, yOffset : u32, bandOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> band : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let count = params.images * params.outLines * params.pixels * params.channels;
  for (var i = id.x; i < count; i += groups.x * LANES) {
    let channel = i % params.channels;
    let pixel = i / params.channels;
    let line = pixel / params.pixels;
    let at = params.bandOffset + line % params.outLines * (params.taps + 1u);
    let first = (line / params.outLines * params.lines + u32(band[at])) * params.pixels + pixel % params.pixels;
    var sum = 0.0;
    for (var t = 0u; t < params.taps; t++) {
      sum = fma(band[at + 1u + t], x[params.xOffset + (first + t * params.pixels) * params.xStride + channel], sum);
    }
    y[params.yOffset + pixel * params.yStride + channel] = sum;
  }
}
