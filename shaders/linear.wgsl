// linear: y[n, o] = activation(bias[o] + sum over i of x[n, i] * weight[i, o]), and its gradients.
//
// Shapes: x, dx [batch, positions, channels], feature i = p * channels + c is channel c of position p, a position starts every
// <tensor>Stride elements; weight [positions * channels, outputs]; bias [outputs]; y, dy [batch, outputs].
// Order of every sum: its index ascending, one fma a term; y starts from the bias.

struct Params { batch : u32, positions : u32, channels : u32, outputs : u32, relu : u32, layer : u32, hasBias : u32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> weight : array<f32>;
@group(0) @binding(3) var<storage, read> bias : array<f32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read> dy : array<f32>;
@group(0) @binding(6) var<storage, read_write> dx : array<f32>;
@group(0) @binding(7) var<storage, read_write> dweight : array<f32>;
@group(0) @binding(8) var<storage, read_write> dbias : array<f32>;
@group(0) @binding(9) var<storage, read_write> flags : array<atomic<u32>>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.outputs; i += groups.x * LANES) {
    let n = i / params.outputs;
    let o = i % params.outputs;
    var sum = 0.0;
    if (params.hasBias == 1u) { sum = bias[o]; }
    var k = o;
    for (var p = n * params.positions; p < (n + 1u) * params.positions; p++) {
      let start = params.xOffset + p * params.xStride;
      for (var c = 0u; c < params.channels; c++) {
        sum = fma(x[start + c], weight[k], sum);
        k += params.outputs;
      }
    }
    // NaN or infinity, told by its bits before the activation.
    if ((bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u) { atomicStore(&flags[params.layer], 1u); }
    if (params.relu == 1u) { sum = max(sum, 0.0); }
    y[params.yOffset + n * params.yStride + o] = sum;
  }
}

// dx[n, i] = sum over o of dy[n, o] * weight[i, o].
@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let features = params.positions * params.channels;
  for (var i = id.x; i < params.batch * features; i += groups.x * LANES) {
    let start = params.dyOffset + i / features * params.dyStride;
    let k = i % features * params.outputs;
    var sum = 0.0;
    for (var o = 0u; o < params.outputs; o++) { sum = fma(dy[start + o], weight[k + o], sum); }
    dx[params.dxOffset + i / params.channels * params.dxStride + i % params.channels] = sum;
  }
}

// dweight[i, o] = sum over n of x[n, i] * dy[n, o].
@compute @workgroup_size(LANES)
fn weightGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.positions * params.channels * params.outputs; i += groups.x * LANES) {
    let o = i % params.outputs;
    let feature = i / params.outputs;
    let start = params.xOffset + feature / params.channels * params.xStride + feature % params.channels;
    var sum = 0.0;
    for (var n = 0u; n < params.batch; n++) {
      sum = fma(x[start + n * params.positions * params.xStride], dy[params.dyOffset + n * params.dyStride + o], sum);
    }
    dweight[i] = sum;
  }
}

// dbias[o] = sum over n of dy[n, o].
@compute @workgroup_size(LANES)
fn biasGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var o = id.x; o < params.outputs; o += groups.x * LANES) {
    var sum = 0.0;
    for (var n = 0u; n < params.batch; n++) { sum += dy[params.dyOffset + n * params.dyStride + o]; }
    dbias[o] = sum;
  }
}
