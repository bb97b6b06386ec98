// add: y = a + b.
//
// Shapes: all tensors are [rows, columns], f32; a row starts every <tensor>Stride elements. Invocations stride over the elements.
// The gradient of both inputs is dy itself: no kernel.

struct Params { rows : u32, columns : u32, aStride : u32, aOffset : u32, bStride : u32, bOffset : u32, yStride : u32, yOffset : u32,
                a4Stride : u32, a4Offset : u32, b4Stride : u32, b4Offset : u32, y4Stride : u32, y4Offset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> a : array<f32>;
@group(0) @binding(2) var<storage, read> b : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;
@group(0) @binding(4) var<storage, read> a4 : array<vec4f>;
@group(0) @binding(5) var<storage, read> b4 : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y4 : array<vec4f>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    y[params.yOffset + row * params.yStride + column] =
      a[params.aOffset + row * params.aStride + column] + b[params.bOffset + row * params.bStride + column];
  }
}

// forward, four channels at a time.
@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.rows * columns; i += groups.x * LANES) {
    let row = i / columns;
    let column = i % columns;
    y4[params.y4Offset + row * params.y4Stride + column] =
      a4[params.a4Offset + row * params.a4Stride + column] + b4[params.b4Offset + row * params.b4Stride + column];
  }
}
