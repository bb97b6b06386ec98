// augment: blur, colour and a painted rectangle, by numbers of each picture.
//
//   b = (1 - blur) x + blur * mean of the 3x3 pixels around;  y = matrix * b + offset;  inside the rectangle y = fill
//
// Shapes: x, y are [batch, height, width, 3], f32, a pixel every <tensor>Stride elements; controls [batch, 20] (src/ops/augment.ts).
// Invocations stride over the pixels.

struct Params { batch : u32, height : u32, width : u32, xStride : u32, xOffset : u32, yStride : u32, yOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> controls : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;

fn pixel(n : u32, row : i32, column : i32) -> vec3f {
  let r = u32(clamp(row, 0i, i32(params.height) - 1i));
  let c = u32(clamp(column, 0i, i32(params.width) - 1i));
  let at = params.xOffset + ((n * params.height + r) * params.width + c) * params.xStride;
  return vec3f(x[at], x[at + 1u], x[at + 2u]);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.height * params.width; i += groups.x * LANES) {
    let column = i % params.width;
    let row = (i / params.width) % params.height;
    let n = i / (params.width * params.height);
    let k = n * 20u;
    var value = pixel(n, i32(row), i32(column));
    let blur = controls[k + 12u];
    if (blur > 0.0) {
      var sum = vec3f(0.0);
      for (var dy = -1i; dy <= 1i; dy++) {
        for (var dx = -1i; dx <= 1i; dx++) { sum += pixel(n, i32(row) + dy, i32(column) + dx); }
      }
      value = (1.0 - blur) * value + blur * (sum / 9.0);
    }
    var colour = vec3f(controls[k + 9u], controls[k + 10u], controls[k + 11u]);
    colour += value.x * vec3f(controls[k], controls[k + 3u], controls[k + 6u]);
    colour += value.y * vec3f(controls[k + 1u], controls[k + 4u], controls[k + 7u]);
    colour += value.z * vec3f(controls[k + 2u], controls[k + 5u], controls[k + 8u]);
    let at = vec2f(f32(column), f32(row));
    if (at.x >= controls[k + 13u] && at.x < controls[k + 15u] && at.y >= controls[k + 14u] && at.y < controls[k + 16u]) {
      colour = vec3f(controls[k + 17u], controls[k + 18u], controls[k + 19u]);
    }
    let to = params.yOffset + i * params.yStride;
    y[to] = colour.x;
    y[to + 1u] = colour.y;
    y[to + 2u] = colour.z;
  }
}
