// softmax: y[r, c] = exp(x[r, c] - m) / (sum over j of exp(x[r, j] - m)), m = max over j of x[r, j].
//
// Shapes: all tensors are [rows, columns], f32; a row starts every <tensor>Stride elements. One workgroup a row; counts above
// 65,535 fold into y; of two columns one invocation a row, with the same sum. The largest exponent is 0, so nothing overflows and the sum is at least 1.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, outputStride : u32, outputOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

const WIDTH = 256u;          // virtual width of the reduction tree: fixes the order of the sum
override LANES : u32 = 64u;  // invocations a row; a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> output : array<f32>;
@group(0) @binding(4) var<storage, read> dy : array<f32>;
@group(0) @binding(5) var<storage, read_write> dx : array<f32>;

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

// Largest of partial[0..WIDTH). All lanes must call it.
fn treeMax(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { partial[i] = max(partial[i], partial[i + stride]); }
    workgroupBarrier();
  }
  let largest = partial[0];
  workgroupBarrier();  // the next call overwrites partial
  return largest;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let xStart = params.xOffset + row * params.xStride;
  let yStart = params.yOffset + row * params.yStride;
  for (var i = lane; i < WIDTH; i += LANES) {
    var largest = x[xStart];
    for (var c = i; c < params.columns; c += WIDTH) { largest = max(largest, x[xStart + c]); }
    partial[i] = largest;
  }
  let largest = treeMax(lane);
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; c < params.columns; c += WIDTH) { sum += exp(x[xStart + c] - largest); }
    partial[i] = sum;
  }
  let scale = 1.0 / treeSum(lane);
  for (var c = lane; c < params.columns; c += LANES) { y[yStart + c] = exp(x[xStart + c] - largest) * scale; }
}

// forward of two columns.
@compute @workgroup_size(LANES)
fn forwardPairs(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var row = id.x; row < params.rows; row += groups.x * LANES) {
    let xStart = params.xOffset + row * params.xStride;
    let yStart = params.yOffset + row * params.yStride;
    let largest = max(x[xStart], x[xStart + 1u]);
    let first = exp(x[xStart] - largest);
    let second = exp(x[xStart + 1u] - largest);
    let scale = 1.0 / (first + second);
    y[yStart] = first * scale;
    y[yStart + 1u] = second * scale;
  }
}

// dx = y * (dy - sum over j of y[j] * dy[j]); `output` is the forward pass's y.
@compute @workgroup_size(LANES)
fn inputGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                 @builtin(local_invocation_index) lane : u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let outputStart = params.outputOffset + row * params.outputStride;
  let dyStart = params.dyOffset + row * params.dyStride;
  let dxStart = params.dxOffset + row * params.dxStride;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; c < params.columns; c += WIDTH) { sum = fma(output[outputStart + c], dy[dyStart + c], sum); }
    partial[i] = sum;
  }
  let inner = treeSum(lane);
  for (var c = lane; c < params.columns; c += LANES) {
    dx[dxStart + c] = output[outputStart + c] * (dy[dyStart + c] - inner);
  }
}
