// maxout: y[r, c] = max over p of x[r, p * columns + c].
//
// Shapes: x, dx [rows, pieces * columns], y, dy [rows, columns], f32; a row starts every <tensor>Stride elements. Invocations stride
// over y. The gradient goes to the first piece that holds the maximum.

struct Params { rows : u32, columns : u32, pieces : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let start = params.xOffset + row * params.xStride + column;
    var largest = x[start];
    for (var p = 1u; p < params.pieces; p++) { largest = max(largest, x[start + p * params.columns]); }
    y[params.yOffset + row * params.yStride + column] = largest;
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let start = params.xOffset + row * params.xStride + column;
    var winner = 0u;
    for (var p = 1u; p < params.pieces; p++) {
      if (x[start + p * params.columns] > x[start + winner * params.columns]) { winner = p; }
    }
    let d = dy[params.dyOffset + row * params.dyStride + column];
    let dxStart = params.dxOffset + row * params.dxStride + column;
    for (var p = 0u; p < params.pieces; p++) { dx[dxStart + p * params.columns] = select(0.0, d, p == winner); }
  }
}
