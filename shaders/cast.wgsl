// cast: y = x * scale + min, from integers to floats; fromF16: y = x.
//
// Shapes: x, y are [rows, columns], y f32; a row of y starts every yStride elements. x is dense: i32, or bytes packed four to a word,
// the first in the lowest bits. Halves lie two to a word, the first in its low half: x [rows, columns] words, y dense, twice as many.
// Invocations stride over the elements of x.

struct Params { rows : u32, columns : u32, scale : f32, min : f32, xOffset : u32, yStride : u32, yOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<u32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;

@compute @workgroup_size(LANES)
fn fromU8(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let at = params.xOffset + i;
    let byte = extractBits(x[at / 4u], at % 4u * 8u, 8u);
    y[params.yOffset + i / params.columns * params.yStride + i % params.columns] = fma(f32(byte), params.scale, params.min);
  }
}

@compute @workgroup_size(LANES)
fn fromI32(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let value = f32(bitcast<i32>(x[params.xOffset + i]));
    y[params.yOffset + i / params.columns * params.yStride + i % params.columns] = fma(value, params.scale, params.min);
  }
}

@compute @workgroup_size(LANES)
fn fromF16(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let pair = unpack2x16float(x[params.xOffset + i]);
    y[params.yOffset + 2u * i] = pair.x;
    y[params.yOffset + 2u * i + 1u] = pair.y;
  }
}
