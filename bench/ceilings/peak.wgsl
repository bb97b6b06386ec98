// What an adapter gives: independent chains of multiply-add in registers, and the copy of a buffer. Run by bench/ceilings.ts.
struct Params {
  rounds: u32,
  count: u32,
  seed: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> target_: array<vec4f>;

@compute @workgroup_size(64)
fn multiplyAdds(@builtin(global_invocation_id) id: vec3u) {
  let x = vec4f(params.seed);
  let y = vec4f(1.0 - params.seed) + f32(id.x & 1u) * 0.0009765625;
  var a = x;
  var b = y;
  var c = x + y;
  var d = x - y;
  var e = x * 0.5;
  var f = y * 0.5;
  var g = x * 0.25;
  var h = y * 0.25;
  for (var r = 0u; r < params.rounds; r++) {
    a = fma(a, x, y);
    b = fma(b, x, y);
    c = fma(c, x, y);
    d = fma(d, x, y);
    e = fma(e, x, y);
    f = fma(f, x, y);
    g = fma(g, x, y);
    h = fma(h, x, y);
  }
  target_[id.x % params.count] = a + b + c + d + e + f + g + h;
}

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x; i < params.count; i += groups.x * 64u) {
    target_[i] = source[i];
  }
}
