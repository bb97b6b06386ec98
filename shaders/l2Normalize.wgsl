// l2Normalize: scale every row of x to unit Euclidean length.
//
//   y[r, c] = x[r, c] / sqrt(max(sum over c of x[r, c]^2, epsilon))
//
// Shapes: x, y, dy, dx are [rows, columns], f32; a row starts every <tensor>Stride elements. One workgroup a row; counts above 65,535 fold into y.
// Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, section 3.1: ||f(x)||2 = 1.

struct Params { rows : u32, columns : u32, epsilon : f32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

const WIDTH = 256u;          // virtual width of the reduction tree: fixes the order of the sum
override LANES : u32 = 64u;  // invocations a row; a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

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

// Sum of squares of the row of x that starts at `start`.
fn squareNorm(lane : u32, start : u32) -> f32 {
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; c < params.columns; c += WIDTH) { sum = fma(x[start + c], x[start + c], sum); }
    partial[i] = sum;
  }
  return treeSum(lane);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let xStart = params.xOffset + row * params.xStride;
  let yStart = params.yOffset + row * params.yStride;
  let scale = 1.0 / sqrt(max(squareNorm(lane, xStart), params.epsilon));
  for (var c = lane; c < params.columns; c += LANES) { y[yStart + c] = x[xStart + c] * scale; }
}

// dx = scale * (dy - x * scale^2 * <x, dy>). Below epsilon the norm is a constant, so the second term vanishes.
@compute @workgroup_size(LANES)
fn inputGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                 @builtin(local_invocation_index) lane : u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let xStart = params.xOffset + row * params.xStride;
  let dyStart = params.dyOffset + row * params.dyStride;
  let dxStart = params.dxOffset + row * params.dxStride;
  let square = squareNorm(lane, xStart);
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; c < params.columns; c += WIDTH) { sum = fma(x[xStart + c], dy[dyStart + c], sum); }
    partial[i] = sum;
  }
  let inner = treeSum(lane);
  let scale = 1.0 / sqrt(max(square, params.epsilon));
  let pull = select(0.0, inner * scale * scale, square > params.epsilon);
  for (var c = lane; c < params.columns; c += LANES) {
    dx[dxStart + c] = scale * (dy[dyStart + c] - x[xStart + c] * pull);
  }
}
