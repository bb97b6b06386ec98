// scaleShift: y[r, c] = x[r, c] * scale[c] + shift[c].
//
// Shapes: x, y, dy, dx are [rows, columns], scale, shift [columns], f32; a row starts every <tensor>Stride elements. Invocations stride
// over the elements. The gradient is dy * scale.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32,
                dxStride : u32, dxOffset : u32, scaleOffset : u32, shiftOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> scale : array<f32>;
@group(0) @binding(3) var<storage, read> shift : array<f32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read> dy : array<f32>;
@group(0) @binding(6) var<storage, read_write> dx : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    y[params.yOffset + row * params.yStride + column] =
      fma(x[params.xOffset + row * params.xStride + column], scale[params.scaleOffset + column], shift[params.shiftOffset + column]);
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    dx[params.dxOffset + row * params.dxStride + column] =
      dy[params.dyOffset + row * params.dyStride + column] * scale[params.scaleOffset + column];
  }
}
