// adamUpdate: m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) g^2; p = p - learningRate (m c1 / (sqrt(s c2) + epsilon) + weightDecay p), in place.
//
// Shapes: updated (the parameter), gradient, moment, secondMoment [elements] f32; settings [8] f32 (updateSettings in
// src/ops/sgdUpdate.ts): 0 learning rate, 1 weight decay, 2 b1, 3 b2, 4 epsilon, 5 c1, 6 c2; gradientScale [1], a factor of the gradient.
// Source: Kingma, Ba, ICLR 2015; Loshchilov, Hutter, ICLR 2019.

struct Params { elements : u32, hasGradientScale : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read_write> updated : array<f32>;
@group(0) @binding(2) var<storage, read> gradient : array<f32>;
@group(0) @binding(3) var<storage, read_write> moment : array<f32>;
@group(0) @binding(4) var<storage, read_write> secondMoment : array<f32>;
@group(0) @binding(5) var<storage, read> settings : array<f32>;
@group(0) @binding(6) var<storage, read> gradientScale : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  var scale = 1.0;
  if (params.hasGradientScale != 0u) { scale = gradientScale[0]; }
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    let p = updated[i];
    let g = gradient[i] * scale;
    let m = settings[2] * moment[i] + (1.0 - settings[2]) * g;
    let s = settings[3] * secondMoment[i] + (1.0 - settings[3]) * g * g;
    moment[i] = m;
    secondMoment[i] = s;
    let denominator = sqrt(s * settings[6]) + settings[4];
    let step = select(0.0, m * settings[5] / max(denominator, 1e-37), denominator > 0.0);
    updated[i] = p - settings[0] * (step + settings[1] * p);
  }
}
