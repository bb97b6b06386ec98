// copy: y = x, in memory of its own.
//
// Shapes: x and y are [rows, columns], f32; a row starts every <tensor>Stride elements. Invocations stride over the elements.
// The gradient is dy itself: no kernel.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    y[params.yOffset + row * params.yStride + column] = x[params.xOffset + row * params.xStride + column];
  }
}
