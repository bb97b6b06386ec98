// sgdUpdate: v = momentum v + g; p = p - learningRate (v + weightDecay p), in place. Without a velocity v = g.
//
// Shapes: updated (the parameter), gradient, velocity [elements] f32; settings [8] f32 (updateSettings in src/ops/sgdUpdate.ts):
// 0 learning rate, 1 weight decay, 2 momentum; gradientScale [1], a factor of the gradient. Invocations stride over the elements.

struct Params { elements : u32, hasGradientScale : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read_write> updated : array<f32>;
@group(0) @binding(2) var<storage, read> gradient : array<f32>;
@group(0) @binding(3) var<storage, read_write> velocity : array<f32>;
@group(0) @binding(4) var<storage, read> settings : array<f32>;
@group(0) @binding(5) var<storage, read> gradientScale : array<f32>;

fn factor() -> f32 {
  if (params.hasGradientScale == 0u) { return 1.0; }
  return gradientScale[0];
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let scale = factor();
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    let p = updated[i];
    updated[i] = p - settings[0] * (gradient[i] * scale + settings[1] * p);
  }
}

@compute @workgroup_size(LANES)
fn momentum(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let scale = factor();
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    let p = updated[i];
    let v = settings[2] * velocity[i] + gradient[i] * scale;
    velocity[i] = v;
    updated[i] = p - settings[0] * (v + settings[1] * p);
  }
}
