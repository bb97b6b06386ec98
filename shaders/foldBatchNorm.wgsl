// foldBatchNorm: the weights and bias of a convolution with the batch normalisation behind it folded in.
//
//   foldedWeight: y[r, c] = weight[r, c] * gamma[c] / sqrt(variance[c] + epsilon)
//   foldedBias:   y[c]    = (bias[c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c]
//
// Shapes: weight and its y are [rows, columns], all others [columns]; f32, dense. Invocations stride over the elements.

struct Params { rows : u32, columns : u32, epsilon : f32, hasBias : u32, hasGamma : u32, hasBeta : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> weight : array<f32>;
@group(0) @binding(2) var<storage, read> mean : array<f32>;
@group(0) @binding(3) var<storage, read> variance : array<f32>;
@group(0) @binding(4) var<storage, read> bias : array<f32>;
@group(0) @binding(5) var<storage, read> gamma : array<f32>;
@group(0) @binding(6) var<storage, read> beta : array<f32>;
@group(0) @binding(7) var<storage, read_write> y : array<f32>;

fn factor(c : u32) -> f32 {
  var numerator = 1.0;
  if (params.hasGamma == 1u) { numerator = gamma[c]; }
  return numerator / sqrt(variance[c] + params.epsilon);
}

@compute @workgroup_size(LANES)
fn foldedWeight(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    y[i] = weight[i] * factor(i % params.columns);
  }
}

@compute @workgroup_size(LANES)
fn foldedBias(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var c = id.x; c < params.columns; c += groups.x * LANES) {
    var centred = -mean[c];
    if (params.hasBias == 1u) { centred += bias[c]; }
    var shift = 0.0;
    if (params.hasBeta == 1u) { shift = beta[c]; }
    y[c] = fma(centred, factor(c), shift);
  }
}
