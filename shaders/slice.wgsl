// slice: the channels [start, start + columns) of x. Runs only where the plan found no way to read them in place.
//
// Shapes: y, dy [rows, columns], x, dx [rows, width], f32; a row starts every <tensor>Stride elements. Invocations stride over the
// output. The gradient is dy in its range and 0 outside.

struct Params { rows : u32, columns : u32, start : u32, width : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32,
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
    y[params.yOffset + row * params.yStride + column] = x[params.xOffset + row * params.xStride + params.start + column];
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.width; i += groups.x * LANES) {
    let row = i / params.width;
    let column = i % params.width;
    var value = 0.0;
    if (column >= params.start && column < params.start + params.columns) {
      value = dy[params.dyOffset + row * params.dyStride + column - params.start];
    }
    dx[params.dxOffset + row * params.dxStride + column] = value;
  }
}
