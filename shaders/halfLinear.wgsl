// halfLinear: y[n, o] = activation(bias[o] + sum over i of x[n, i] * weight[i, o]), weights in float16, two to a word.
//
// Shapes: x [batch, positions, channels], feature i = p * channels + c is channel c of position p, a position starts every xStride elements;
// weight [positions * channels, outputs / 2] words, output 2 w in the low half of word w; bias [outputs]; y [batch, outputs].
// Order of every sum: its index ascending, one fma a term; y starts from the bias. An invocation computes the two outputs of a word.

struct Params { batch : u32, positions : u32, channels : u32, outputs : u32, relu : u32, layer : u32, hasBias : u32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> weight : array<u32>;
@group(0) @binding(3) var<storage, read> bias : array<f32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read_write> flags : array<atomic<u32>>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let words = params.outputs / 2u;
  for (var i = id.x; i < params.batch * words; i += groups.x * LANES) {
    let n = i / words;
    let w = i % words;
    var sum = vec2f();
    if (params.hasBias == 1u) { sum = vec2f(bias[2u * w], bias[2u * w + 1u]); }
    var k = w;
    for (var p = n * params.positions; p < (n + 1u) * params.positions; p++) {
      let start = params.xOffset + p * params.xStride;
      for (var c = 0u; c < params.channels; c++) {
        sum = fma(vec2f(x[start + c]), unpack2x16float(weight[k]), sum);
        k += words;
      }
    }
    // NaN or infinity, told by its bits before the activation.
    let bits = bitcast<vec2u>(sum) & vec2u(0x7f800000u);
    if (bits.x == 0x7f800000u || bits.y == 0x7f800000u) { atomicStore(&flags[params.layer], 1u); }
    if (params.relu == 1u) { sum = max(sum, vec2f()); }
    let at = params.yOffset + n * params.yStride + 2u * w;
    y[at] = sum.x;
    y[at + 1u] = sum.y;
  }
}
