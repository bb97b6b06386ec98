// pairwiseDistance: squared Euclidean distance of every row of a to every row of b.
//
//   y[i, j] = sum over c of (a[i, c] - b[j, c])^2
//
// Shapes: a [aRows, columns], b [bRows, columns], y [aRows, bRows], f32. Differences, not the expanded square: never negative,
// exactly 0 for equal rows, and y[i, j] = y[j, i] bit for bit when a = b, since each sum runs over ascending c.
// Source: Schroff et al. 2015, section 3.1.

struct Params { aRows : u32, bRows : u32, columns : u32, aStride : u32, aOffset : u32, bStride : u32, bOffset : u32,
                pointRows : u32, otherRows : u32, rowStep : u32, columnStep : u32, symmetric : u32,
                pointsStride : u32, pointsOffset : u32, othersStride : u32, othersOffset : u32, elements : u32 }

const WIDTH = 256u;          // pairs looked at together in `gradient`
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> a : array<f32>;
@group(0) @binding(2) var<storage, read> b : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;
@group(0) @binding(4) var<storage, read> points : array<f32>;
@group(0) @binding(5) var<storage, read> others : array<f32>;
@group(0) @binding(6) var<storage, read> dy : array<f32>;
@group(0) @binding(7) var<storage, read_write> dpoints : array<f32>;
@group(0) @binding(8) var<storage, read> x : array<f32>;
@group(0) @binding(9) var<storage, read> output : array<f32>;
@group(0) @binding(10) var<storage, read_write> dx : array<f32>;

// One invocation: four rows of a against four of b. Rows past the end repeat the last one and are not stored.
@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let across = (params.bRows + 3u) / 4u;
  let blocks = across * ((params.aRows + 3u) / 4u);
  for (var block = id.x; block < blocks; block += groups.x * LANES) {
    let i = (block / across) * 4u;
    let j = (block % across) * 4u;
    let row = params.aOffset + min(vec4u(i, i + 1u, i + 2u, i + 3u), vec4u(params.aRows - 1u)) * params.aStride;
    let column = params.bOffset + min(vec4u(j, j + 1u, j + 2u, j + 3u), vec4u(params.bRows - 1u)) * params.bStride;
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var c = 0u; c < params.columns; c++) {
      let other = vec4f(b[column.x + c], b[column.y + c], b[column.z + c], b[column.w + c]);
      let d0 = a[row.x + c] - other;
      let d1 = a[row.y + c] - other;
      let d2 = a[row.z + c] - other;
      let d3 = a[row.w + c] - other;
      sum0 = fma(d0, d0, sum0);
      sum1 = fma(d1, d1, sum1);
      sum2 = fma(d2, d2, sum2);
      sum3 = fma(d3, d3, sum3);
    }
    store(i, j, sum0);
    store(i + 1u, j, sum1);
    store(i + 2u, j, sum2);
    store(i + 3u, j, sum3);
  }
}

fn store(i : u32, j : u32, sum : vec4f) {
  if (i >= params.aRows) { return; }
  let at = i * params.bRows + j;
  y[at] = sum.x;
  if (j + 1u < params.bRows) { y[at + 1u] = sum.y; }
  if (j + 2u < params.bRows) { y[at + 2u] = sum.z; }
  if (j + 3u < params.bRows) { y[at + 3u] = sum.w; }
}

var<workgroup> counts : array<u32, WIDTH>;
var<workgroup> partner : array<u32, WIDTH>;
var<workgroup> weight : array<f32, WIDTH>;

// dpoints[i] = 2 sum over j of w_ij (points[i] - others[j]), w_ij = dy[i, j], or dy[i, j] + dy[j, i] for a set with itself.
// One workgroup a row. The pairs with w != 0 are gathered in ascending j, WIDTH candidates at a time, then each lane adds them up
// for its columns: few pairs cost little, and the order of the sum depends on nothing but j.
@compute @workgroup_size(LANES)
fn gradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
            @builtin(local_invocation_index) lane : u32) {
  let i = group.x + group.y * groups.x;
  let inside = i < params.pointRows;
  let start = params.pointsOffset + i * params.pointsStride;
  let share = WIDTH / LANES;
  for (var base = 0u; base < params.otherRows; base += WIDTH) {
    var count = 0u;
    for (var k = 0u; k < share; k++) {
      if (inside && pairWeight(i, base + lane * share + k) != 0.0) { count++; }
    }
    counts[lane] = count;
    workgroupBarrier();
    var at = 0u;
    var total = 0u;
    for (var l = 0u; l < LANES; l++) {
      if (l == lane) { at = total; }
      total += counts[l];
    }
    for (var k = 0u; k < share; k++) {
      let j = base + lane * share + k;
      let w = pairWeight(i, j);
      if (inside && w != 0.0) {
        partner[at] = params.othersOffset + j * params.othersStride;
        weight[at] = 2.0 * w;
        at++;
      }
    }
    workgroupBarrier();
    if (inside) {
      for (var c = lane; c < params.columns; c += LANES) {
        var sum = 0.0;
        if (base > 0u) { sum = dpoints[i * params.columns + c]; }
        let point = points[start + c];
        for (var k = 0u; k < total; k++) { sum = fma(weight[k], point - others[partner[k] + c], sum); }
        dpoints[i * params.columns + c] = sum;
      }
    }
    workgroupBarrier();  // the next round overwrites the lists
  }
}

fn pairWeight(i : u32, j : u32) -> f32 {
  if (i >= params.pointRows || j >= params.otherRows) { return 0.0; }
  var w = dy[i * params.rowStep + j * params.columnStep];
  if (params.symmetric != 0u) { w += dy[j * params.rowStep + i * params.columnStep]; }
  return w;
}

@compute @workgroup_size(LANES)
fn squareRoot(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.elements; i += groups.x * LANES) { y[i] = sqrt(x[i]); }
}

// 0 at distance 0, where the derivative of a root does not exist.
@compute @workgroup_size(LANES)
fn squareRootGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    let distance = output[i];
    dx[i] = select(0.0, 0.5 * dy[i] / max(distance, 1e-30), distance > 0.0);
  }
}
