// adagradUpdate: a = a + g^2; p = p - learningRate (g / (sqrt(a) + epsilon) + weightDecay p), in place.
//
// Shapes: updated (the parameter), gradient, accumulator [elements] f32; settings [8] f32 (updateSettings in src/ops/sgdUpdate.ts):
// 0 learning rate, 1 weight decay, 4 epsilon; gradientScale [1], a factor of the gradient. Invocations stride over the elements.
// Source: Duchi, Hazan, Singer, JMLR 2011.

struct Params { elements : u32, hasGradientScale : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read_write> updated : array<f32>;
@group(0) @binding(2) var<storage, read> gradient : array<f32>;
@group(0) @binding(3) var<storage, read_write> accumulator : array<f32>;
@group(0) @binding(4) var<storage, read> settings : array<f32>;
@group(0) @binding(5) var<storage, read> gradientScale : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  var scale = 1.0;
  if (params.hasGradientScale != 0u) { scale = gradientScale[0]; }
  let learningRate = settings[0];
  let weightDecay = settings[1];
  let epsilon = settings[4];
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    let p = updated[i];
    let g = gradient[i] * scale;
    let a = accumulator[i] + g * g;
    accumulator[i] = a;
    let denominator = sqrt(a) + epsilon;
    let step = select(0.0, g / max(denominator, 1e-37), denominator > 0.0);  // 0 / 0 at a first gradient of 0
    updated[i] = p - learningRate * (step + weightDecay * p);
  }
}
