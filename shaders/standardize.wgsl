// standardize: each picture to mean 0 and standard deviation 1 over its pixels and channels.
//
//   y[n, i] = (x[n, i] - mean_n) / max(deviation_n, 1 / sqrt(count)),  count = pixels * channels
//
// Shapes: x, y are [batch, pixels, channels], f32, a pixel every <tensor>Stride elements. One workgroup a picture; counts above 65,535 fold into y.
// Differences from the picture's first value are summed, so that a picture of one colour has the mean exactly.
// Source: davidsandberg/facenet, prewhiten.

struct Params { batch : u32, pixels : u32, channels : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32 }

const WIDTH = 256u;          // virtual width of the reduction tree: fixes the order of the sum
override LANES : u32 = 64u;  // invocations a picture; a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;

var<workgroup> partial : array<f32, WIDTH>;

// Sums partial[0..WIDTH) by a tree whose shape does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { partial[i] += partial[i + stride]; }
    workgroupBarrier();
  }
  let total = partial[0];
  workgroupBarrier();  // the next call overwrites partial
  return total;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let image = group.x + group.y * groups.x;
  if (image >= params.batch) { return; }
  let xStart = params.xOffset + image * params.pixels * params.xStride;
  let yStart = params.yOffset + image * params.pixels * params.yStride;
  let channels = params.channels;
  let count = f32(params.pixels * channels);
  let zero = x[xStart];
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var p = i; p < params.pixels; p += WIDTH) {
      for (var c = 0u; c < channels; c++) { sum += x[xStart + p * params.xStride + c] - zero; }
    }
    partial[i] = sum;
  }
  let mean = treeSum(lane) / count;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var p = i; p < params.pixels; p += WIDTH) {
      for (var c = 0u; c < channels; c++) {
        let d = (x[xStart + p * params.xStride + c] - zero) - mean;
        sum = fma(d, d, sum);
      }
    }
    partial[i] = sum;
  }
  let deviation = sqrt(treeSum(lane) / count);
  let scale = 1.0 / max(deviation, 1.0 / sqrt(count));
  for (var p = lane; p < params.pixels; p += LANES) {
    for (var c = 0u; c < channels; c++) {
      y[yStart + p * params.yStride + c] = ((x[xStart + p * params.xStride + c] - zero) - mean) * scale;
    }
  }
}
