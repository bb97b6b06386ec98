// sumOfSquares: y = before + sum over all elements of x^2.
//
// Shapes: x, dx [elements] f32; partial [chunks]; before, y, dy, total, limit [1]. A workgroup sums CHUNK elements, then one workgroup
// sums the chunks, both by trees of fixed width: the order depends on the number of elements alone.

struct Params { elements : u32, chunks : u32, hasBefore : u32 }

const CHUNK = 4096u;
const WIDTH = 256u;          // virtual width of the trees
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> partial : array<f32>;
@group(0) @binding(3) var<storage, read> before : array<f32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read> dy : array<f32>;
@group(0) @binding(6) var<storage, read_write> dx : array<f32>;
@group(0) @binding(7) var<storage, read> total : array<f32>;
@group(0) @binding(8) var<storage, read> limit : array<f32>;

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
fn chunks(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
          @builtin(local_invocation_index) lane : u32) {
  let chunk = group.x + group.y * groups.x;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var k = i; k < CHUNK; k += WIDTH) {
      let at = chunk * CHUNK + k;
      if (at < params.elements) { sum = fma(x[at], x[at], sum); }
    }
    shares[i] = sum;
  }
  let square = treeSum(lane);
  if (lane == 0u && chunk < params.chunks) { partial[chunk] = square; }
}

@compute @workgroup_size(LANES)
fn combine(@builtin(local_invocation_index) lane : u32) {
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var k = i; k < params.chunks; k += WIDTH) { sum += partial[k]; }
    shares[i] = sum;
  }
  let square = treeSum(lane);
  if (lane == 0u) {
    var sum = square;
    if (params.hasBefore != 0u) { sum += before[0]; }
    y[0] = sum;
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.elements; i += groups.x * LANES) { dx[i] = 2.0 * x[i] * dy[0]; }
}

@compute @workgroup_size(1)
fn clipScale() {
  let norm = sqrt(total[0]);
  y[0] = select(1.0, limit[0] / max(norm, 1e-37), limit[0] > 0.0 && norm > limit[0]);
}
