// distillation: mean over rows of the squared distance between x and teacher.
//
// Shapes: x, teacher, dx [rows, columns] f32, a row every <tensor>Stride elements; perRow [rows]; y, dy [1]. One workgroup a row.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, teacherStride : u32, teacherOffset : u32, dxStride : u32, dxOffset : u32 }

const WIDTH = 256u;          // virtual width of the trees
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> teacher : array<f32>;
@group(0) @binding(3) var<storage, read_write> perRow : array<f32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read> dy : array<f32>;
@group(0) @binding(6) var<storage, read_write> dx : array<f32>;

var<workgroup> shares : array<f32, WIDTH>;

// Sums shares[0..WIDTH) by a tree whose shape does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { shares[i] += shares[i + stride]; }
    workgroupBarrier();
  }
  return shares[0];
}

@compute @workgroup_size(LANES)
fn rowDistances(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                @builtin(local_invocation_index) lane : u32) {
  let row = group.x + group.y * groups.x;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; row < params.rows && c < params.columns; c += WIDTH) {
      let d = x[params.xOffset + row * params.xStride + c] - teacher[params.teacherOffset + row * params.teacherStride + c];
      sum = fma(d, d, sum);
    }
    shares[i] = sum;
  }
  let distance = treeSum(lane);
  if (row < params.rows && lane == 0u) { perRow[row] = distance; }
}

@compute @workgroup_size(LANES)
fn mean(@builtin(local_invocation_index) lane : u32) {
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var r = i; r < params.rows; r += WIDTH) { sum += perRow[r]; }
    shares[i] = sum;
  }
  let total = treeSum(lane);
  if (lane == 0u) { y[0] = total / f32(params.rows); }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let factor = 2.0 * dy[0] / f32(params.rows);
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let c = i % params.columns;
    dx[params.dxOffset + row * params.dxStride + c] =
      factor * (x[params.xOffset + row * params.xStride + c] - teacher[params.teacherOffset + row * params.teacherStride + c]);
  }
}
