// prelu: y = x where x > 0, slope * x elsewhere, one slope a channel.
//
// Shapes: x, y, dy, dx are [rows, columns], slope, dslope [columns], f32; a row starts every <tensor>Stride elements. Invocations
// stride over the elements; slopeGradient takes one workgroup a channel.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32,
                dxStride : u32, dxOffset : u32, slopeOffset : u32, dslopeOffset : u32,
                x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32 }

const WIDTH = 256u;          // virtual width of the reduction tree: fixes the order of the sum
const STRIP = 16u;           // rows of an invocation of forward4
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> slope : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;
@group(0) @binding(4) var<storage, read> dy : array<f32>;
@group(0) @binding(5) var<storage, read_write> dx : array<f32>;
@group(0) @binding(6) var<storage, read_write> dslope : array<f32>;
@group(0) @binding(7) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(8) var<storage, read> slope4 : array<vec4f>;
@group(0) @binding(9) var<storage, read_write> y4 : array<vec4f>;

var<workgroup> partial : array<f32, WIDTH>;

// Sums partial[0..WIDTH) by a tree whose shape does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { partial[i] += partial[i + stride]; }
    workgroupBarrier();
  }
  return partial[0];
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let value = x[params.xOffset + row * params.xStride + column];
    y[params.yOffset + row * params.yStride + column] = select(slope[params.slopeOffset + column] * value, value, value > 0.0);
  }
}

// forward, four channels at a time: every invocation reads its slopes once, for rows that lie `apart` from each other.
@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  let apart = (params.rows + STRIP - 1u) / STRIP;
  for (var i = id.x; i < apart * columns; i += groups.x * LANES) {
    let first = i / columns;
    let column = i - first * columns;
    let factor = slope4[column];
    for (var row = first; row < params.rows; row += apart) {
      let value = x4[params.x4Offset + row * params.x4Stride + column];
      y4[params.y4Offset + row * params.y4Stride + column] = select(factor * value, value, value > vec4f());
    }
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let value = x[params.xOffset + row * params.xStride + column];
    let d = dy[params.dyOffset + row * params.dyStride + column];
    dx[params.dxOffset + row * params.dxStride + column] = select(slope[params.slopeOffset + column] * d, d, value > 0.0);
  }
}

// dslope[c] = sum over the rows with x <= 0 of x * dy: min(x, 0) * dy, since the others add 0.
@compute @workgroup_size(LANES)
fn slopeGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                 @builtin(local_invocation_index) lane : u32) {
  let column = group.x + group.y * groups.x;
  if (column >= params.columns) { return; }
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var row = i; row < params.rows; row += WIDTH) {
      sum = fma(min(x[params.xOffset + row * params.xStride + column], 0.0), dy[params.dyOffset + row * params.dyStride + column], sum);
    }
    partial[i] = sum;
  }
  let total = treeSum(lane);
  if (lane == 0u) { dslope[params.dslopeOffset + column] = total; }
}
