// cosineMargin: logits of a classification head with an additive angular margin.
//
//   y[n, c] = scale * <x[n], weight[c]>, and for the own class c = labels[n] scale * cos(angle + margin)
//
// Shapes: x, dx [batch, columns], weight, dweight [classes, columns] (unit rows), y, dy, dcosines = cosineSlopes [batch, classes], all f32; labels [batch] i32.
// cos(angle + margin) = cos(angle) cosine - sin(angle) sine; past the angle pi - margin it is cos(angle) - beyond.
// Source: Deng et al., "ArcFace", CVPR 2019.

struct Params { batch : u32, classes : u32, columns : u32, scale : f32, cosine : f32, sine : f32, limit : f32, beyond : f32 }

const LEAST_SQUARE = 1e-6;   // of the sine: closer to the class's direction it counts as this
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> weight : array<f32>;
@group(0) @binding(3) var<storage, read> labels : array<i32>;
@group(0) @binding(4) var<storage, read_write> y : array<f32>;
@group(0) @binding(5) var<storage, read> dy : array<f32>;
@group(0) @binding(6) var<storage, read_write> dcosines : array<f32>;
@group(0) @binding(7) var<storage, read> cosineSlopes : array<f32>;
@group(0) @binding(8) var<storage, read_write> dx : array<f32>;
@group(0) @binding(9) var<storage, read_write> dweight : array<f32>;

// One invocation: four images against four classes. Rows past the end repeat the last one and are not stored.
@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let across = (params.classes + 3u) / 4u;
  let blocks = across * ((params.batch + 3u) / 4u);
  for (var block = id.x; block < blocks; block += groups.x * LANES) {
    let n = (block / across) * 4u;
    let c = (block % across) * 4u;
    let image = min(vec4u(n, n + 1u, n + 2u, n + 3u), vec4u(params.batch - 1u)) * params.columns;
    let row = min(vec4u(c, c + 1u, c + 2u, c + 3u), vec4u(params.classes - 1u)) * params.columns;
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var k = 0u; k < params.columns; k++) {
      let w = vec4f(weight[row.x + k], weight[row.y + k], weight[row.z + k], weight[row.w + k]);
      sum0 = fma(vec4f(x[image.x + k]), w, sum0);
      sum1 = fma(vec4f(x[image.y + k]), w, sum1);
      sum2 = fma(vec4f(x[image.z + k]), w, sum2);
      sum3 = fma(vec4f(x[image.w + k]), w, sum3);
    }
    store(n, c, sum0);
    store(n + 1u, c, sum1);
    store(n + 2u, c, sum2);
    store(n + 3u, c, sum3);
  }
}

fn store(n : u32, c : u32, cosines : vec4f) {
  if (n >= params.batch) { return; }
  for (var k = 0u; k < 4u; k++) {
    if (c + k < params.classes) {
      var value = cosines[k];
      if (labels[n] == i32(c + k)) { value = withMargin(value); }
      y[n * params.classes + c + k] = params.scale * value;
    }
  }
}

fn withMargin(value : f32) -> f32 {
  if (value <= params.limit) { return value - params.beyond; }
  return value * params.cosine - sqrt(max(1.0 - value * value, LEAST_SQUARE)) * params.sine;
}

@compute @workgroup_size(LANES)
fn cosineGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.classes; i += groups.x * LANES) {
    let n = i / params.classes;
    let c = i % params.classes;
    var slope = 1.0;
    if (labels[n] == i32(c)) {
      var value = 0.0;
      for (var k = 0u; k < params.columns; k++) { value = fma(x[n * params.columns + k], weight[c * params.columns + k], value); }
      if (value > params.limit) {
        let square = 1.0 - value * value;
        slope = params.cosine + select(0.0, value / sqrt(max(square, LEAST_SQUARE)) * params.sine, square > LEAST_SQUARE);
      }
    }
    dcosines[i] = params.scale * slope * dy[i];
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.batch * params.columns; i += groups.x * LANES) {
    let n = i / params.columns;
    let k = i % params.columns;
    var sum = 0.0;
    for (var c = 0u; c < params.classes; c++) { sum = fma(cosineSlopes[n * params.classes + c], weight[c * params.columns + k], sum); }
    dx[i] = sum;
  }
}

@compute @workgroup_size(LANES)
fn weightGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.classes * params.columns; i += groups.x * LANES) {
    let c = i / params.columns;
    let k = i % params.columns;
    var sum = 0.0;
    for (var n = 0u; n < params.batch; n++) { sum = fma(cosineSlopes[n * params.classes + c], x[n * params.columns + k], sum); }
    dweight[i] = sum;
  }
}
