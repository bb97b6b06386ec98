// pairwiseDistance: squared Euclidean distance of every row of a to every row of b.
//
//   y[i, j] = sum over c of (a[i, c] - b[j, c])^2
//
// Shapes: a [aRows, columns], b [bRows, columns], y [aRows, bRows], f32. Differences, not the expanded square: never negative,
// exactly 0 for equal rows, and y[i, j] = y[j, i] bit for bit when a = b, since each sum runs over ascending c.
// Source: Schroff et al. 2015, section 3.1.

struct Params { aRows : u32, bRows : u32, columns : u32, aStride : u32, aOffset : u32, bStride : u32, bOffset : u32,
                pointRows : u32, otherRows : u32, rowStep : u32, columnStep : u32, symmetric : u32,
                points4Stride : u32, points4Offset : u32, others4Stride : u32, others4Offset : u32, pointsStride : u32, pointsOffset : u32, othersStride : u32, othersOffset : u32, elements : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> a : array<f32>;
@group(0) @binding(2) var<storage, read> b : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;
@group(0) @binding(4) var<storage, read> points : array<f32>;
@group(0) @binding(5) var<storage, read> others : array<f32>;
@group(0) @binding(6) var<storage, read> dy : array<f32>;
@group(0) @binding(11) var<storage, read_write> list : array<f32>;
@group(0) @binding(12) var<storage, read> pairs : array<f32>;
@group(0) @binding(13) var<storage, read> points4 : array<vec4f>;
@group(0) @binding(14) var<storage, read> others4 : array<vec4f>;
@group(0) @binding(15) var<storage, read_write> dpoints4 : array<vec4f>;
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

// Lists for each row i the pairs with w_ij != 0 in ascending j, as j, 2 w_ij; a 0 in place of a weight ends a list that is not full.
// w_ij = dy[i, j], or dy[i, j] + dy[j, i] for a set with itself. One invocation a row.
@compute @workgroup_size(LANES)
fn gather(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.pointRows; i += groups.x * LANES) {
    var at = 2u * i * params.otherRows;
    for (var j = 0u; j < params.otherRows; j++) {
      var w = dy[i * params.rowStep + j * params.columnStep];
      if (params.symmetric != 0u) { w += dy[j * params.rowStep + i * params.columnStep]; }
      if (w != 0.0) {
        list[at] = f32(j);
        list[at + 1u] = 2.0 * w;
        at += 2u;
      }
    }
    if (at < 2u * (i + 1u) * params.otherRows) { list[at + 1u] = 0.0; }
  }
}

// dpoints[i] = 2 sum over j of w_ij (points[i] - others[j]), over the listed pairs. One invocation: four columns of a row.
@compute @workgroup_size(LANES)
fn gradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let across = (params.columns + 3u) / 4u;
  for (var q = id.x; q < params.pointRows * across; q += groups.x * LANES) {
    let i = q / across;
    let c = 4u * (q % across);
    // Columns past the end repeat the last one and are not stored.
    let column = min(vec4u(c, c + 1u, c + 2u, c + 3u), vec4u(params.columns - 1u));
    let own = params.pointsOffset + i * params.pointsStride + column;
    let point = vec4f(points[own.x], points[own.y], points[own.z], points[own.w]);
    var sum = vec4f();
    for (var k = 2u * i * params.otherRows; k < 2u * (i + 1u) * params.otherRows; k += 2u) {
      let weight = pairs[k + 1u];
      if (weight == 0.0) { break; }
      let at = params.othersOffset + u32(pairs[k]) * params.othersStride + column;
      sum = fma(vec4f(weight), point - vec4f(others[at.x], others[at.y], others[at.z], others[at.w]), sum);
    }
    let to = i * params.columns + c;
    dpoints[to] = sum.x;
    if (c + 1u < params.columns) { dpoints[to + 1u] = sum.y; }
    if (c + 2u < params.columns) { dpoints[to + 2u] = sum.z; }
    if (c + 3u < params.columns) { dpoints[to + 3u] = sum.w; }
  }
}

// gradient, sixteen columns an invocation, where columns are a multiple of that: the list is read a quarter as often.
@compute @workgroup_size(LANES)
fn gradient16(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let across = params.columns / 16u;
  for (var q = id.x; q < params.pointRows * across; q += groups.x * LANES) {
    let i = q / across;
    let c = 4u * (q % across);
    let own = params.points4Offset + i * params.points4Stride + c;
    let point0 = points4[own];
    let point1 = points4[own + 1u];
    let point2 = points4[own + 2u];
    let point3 = points4[own + 3u];
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var k = 2u * i * params.otherRows; k < 2u * (i + 1u) * params.otherRows; k += 2u) {
      let weight = vec4f(pairs[k + 1u]);
      if (weight.x == 0.0) { break; }
      let at = params.others4Offset + u32(pairs[k]) * params.others4Stride + c;
      sum0 = fma(weight, point0 - others4[at], sum0);
      sum1 = fma(weight, point1 - others4[at + 1u], sum1);
      sum2 = fma(weight, point2 - others4[at + 2u], sum2);
      sum3 = fma(weight, point3 - others4[at + 3u], sum3);
    }
    let to = i * params.columns / 4u + c;
    dpoints4[to] = sum0;
    dpoints4[to + 1u] = sum1;
    dpoints4[to + 2u] = sum2;
    dpoints4[to + 3u] = sum3;
  }
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
