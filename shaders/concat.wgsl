// concat: one part x into the channels [start, start + columns) of y. Runs once a part, and only where the plan found no way to
// have the part written there in the first place.
//
// Shapes: x [rows, columns], y [rows, all channels], f32; a row starts every <tensor>Stride elements. Invocations stride over x.

struct Params { rows : u32, columns : u32, start : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    y[params.yOffset + row * params.yStride + params.start + column] = x[params.xOffset + row * params.xStride + column];
  }
}
