// relu: y = max(x, 0).
//
// Shapes: all tensors are [rows, columns], f32; a row starts every <tensor>Stride elements. Invocations stride over the elements.
// The gradient reads the output: y > 0 exactly where x > 0.

struct Params { rows : u32, columns : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, outputStride : u32, outputOffset : u32,
                dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32, x4Stride : u32, x4Offset : u32,
                y4Stride : u32, y4Offset : u32,
                output4Stride : u32, output4Offset : u32, dy4Stride : u32, dy4Offset : u32, dx4Stride : u32, dx4Offset : u32 }

const STRIP = 16u;  // rows of an invocation of forward4
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> output : array<f32>;
@group(0) @binding(4) var<storage, read> dy : array<f32>;
@group(0) @binding(5) var<storage, read_write> dx : array<f32>;
@group(0) @binding(6) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(8) var<storage, read> output4 : array<vec4f>;
@group(0) @binding(9) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dx4 : array<vec4f>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    y[params.yOffset + row * params.yStride + column] = max(x[params.xOffset + row * params.xStride + column], 0.0);
  }
}

// forward, four channels at a time, in rows that lie `apart` from each other.
@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  let apart = (params.rows + STRIP - 1u) / STRIP;
  for (var i = id.x; i < apart * columns; i += groups.x * LANES) {
    let first = i / columns;
    let column = i - first * columns;
    for (var row = first; row < params.rows; row += apart) {
      y4[params.y4Offset + row * params.y4Stride + column] = max(x4[params.x4Offset + row * params.x4Stride + column], vec4f());
    }
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let positive = output[params.outputOffset + row * params.outputStride + column] > 0.0;
    dx[params.dxOffset + row * params.dxStride + column] = select(0.0, dy[params.dyOffset + row * params.dyStride + column], positive);
  }
}

// inputGradient, four channels at a time.
@compute @workgroup_size(LANES)
fn inputGradient4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.rows * columns; i += groups.x * LANES) {
    let row = i / columns;
    let column = i % columns;
    let positive = output4[params.output4Offset + row * params.output4Stride + column] > vec4f();
    dx4[params.dx4Offset + row * params.dx4Stride + column] = select(vec4f(), dy4[params.dy4Offset + row * params.dy4Stride + column], positive);
  }
}
