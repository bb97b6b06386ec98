// softmaxCrossEntropy: mean over rows of ln(sum over c of exp(logits[r, c])) - logits[r, label].
//
// Shapes: logits, dlogits [rows, columns] f32, a row every <tensor>Stride elements; labels [rows] i32, outside 0..columns-1: no class; perRow
// [rows, 4]: loss, 1, correct, 0, all 0 without a class; summary [4]: mean loss, rows with a class, correct, 1 / rows. One workgroup a row.

struct Params { rows : u32, columns : u32, logitsStride : u32, logitsOffset : u32, dlogitsStride : u32, dlogitsOffset : u32 }

const WIDTH = 256u;          // virtual width of the trees
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> logits : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read_write> perRow : array<f32>;
@group(0) @binding(4) var<storage, read_write> result : array<f32>;
@group(0) @binding(5) var<storage, read> summary : array<f32>;
@group(0) @binding(6) var<storage, read> dy : array<f32>;
@group(0) @binding(7) var<storage, read_write> dlogits : array<f32>;

var<workgroup> shares : array<f32, WIDTH>;

fn treeMax(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { shares[i] = max(shares[i], shares[i + stride]); }
    workgroupBarrier();
  }
  let largest = shares[0];
  workgroupBarrier();  // the next call overwrites shares
  return largest;
}

// The shape of the tree does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32) -> f32 {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { shares[i] += shares[i + stride]; }
    workgroupBarrier();
  }
  let total = shares[0];
  workgroupBarrier();
  return total;
}

fn largestLogit(lane : u32, start : u32) -> f32 {
  for (var i = lane; i < WIDTH; i += LANES) {
    var largest = logits[start];
    for (var c = i; c < params.columns; c += WIDTH) { largest = max(largest, logits[start + c]); }
    shares[i] = largest;
  }
  return treeMax(lane);
}

fn sumOfExponentials(lane : u32, start : u32, largest : f32) -> f32 {
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = 0.0;
    for (var c = i; c < params.columns; c += WIDTH) { sum += exp(logits[start + c] - largest); }
    shares[i] = sum;
  }
  return treeSum(lane);
}

@compute @workgroup_size(LANES)
fn rowLosses(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
             @builtin(local_invocation_index) lane : u32) {
  let index = group.x + group.y * groups.x;
  let row = min(index, params.rows - 1u);
  let start = params.logitsOffset + row * params.logitsStride;
  let largest = largestLogit(lane, start);
  let sum = sumOfExponentials(lane, start, largest);
  if (index < params.rows && lane == 0u) {
    let label = labels[row];
    if (label < 0 || label >= i32(params.columns)) {
      for (var k = 0u; k < 4u; k++) { perRow[4u * row + k] = 0.0; }
    } else {
      let own = logits[start + u32(label)];
      perRow[4u * row] = log(sum) + (largest - own);
      perRow[4u * row + 1u] = 1.0;
      perRow[4u * row + 2u] = select(0.0, 1.0, own >= largest);
      perRow[4u * row + 3u] = 0.0;
    }
  }
}

var<workgroup> totals : array<f32, 4>;

// One workgroup: each lane sums one of the four numbers over the rows, then the first makes the summary of them.
@compute @workgroup_size(4)
fn combine(@builtin(local_invocation_index) lane : u32) {
  var sum = 0.0;
  for (var r = 0u; r < params.rows; r++) { sum += perRow[4u * r + lane]; }
  totals[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    let factor = select(0.0, 1.0 / max(totals[1], 1.0), totals[1] > 0.0);
    result[0] = totals[0] * factor;
    result[1] = totals[1];
    result[2] = totals[2];
    result[3] = factor;
  }
}

@compute @workgroup_size(1)
fn forward() {
  result[0] = summary[0];
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                 @builtin(local_invocation_index) lane : u32) {
  let index = group.x + group.y * groups.x;
  let row = min(index, params.rows - 1u);
  let start = params.logitsOffset + row * params.logitsStride;
  let largest = largestLogit(lane, start);
  let sum = sumOfExponentials(lane, start, largest);
  let label = labels[row];
  let factor = select(0.0, dy[0] * summary[3], label >= 0 && label < i32(params.columns));
  for (var c = lane; index < params.rows && c < params.columns; c += LANES) {
    let probability = exp(logits[start + c] - largest) / sum;
    dlogits[params.dlogitsOffset + row * params.dlogitsStride + c] = factor * (probability - select(0.0, 1.0, i32(c) == label));
  }
}
