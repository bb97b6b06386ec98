// lrn: local response normalisation across channels.
//
//   y[r, c] = x[r, c] * s[r, c]^-beta,  s[r, c] = k + alphaOverSize * (sum over |j - c| <= radius of x[r, j]^2)
//
// Shapes: x, y, dy, dx are [rows, columns], f32; a row (pixel) starts every <tensor>Stride elements. Invocations stride over the
// elements; sums run over ascending channels. The usual beta 0.75 needs two roots and no power.
// Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3; alpha divided by the window's size as in Caffe and Torch.

struct Params { rows : u32, columns : u32, radius : u32, alphaOverSize : f32, beta : f32, k : f32, xStride : u32, xOffset : u32,
                yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;

// First and last channel of the window around `column`.
fn window(column : u32) -> vec2u {
  return vec2u(max(column, params.radius) - params.radius, min(column + params.radius, params.columns - 1u));
}

// s of one channel; `start` is where its row begins.
fn spread(start : u32, column : u32) -> f32 {
  let range = window(column);
  var sum = 0.0;
  for (var c = range.x; c <= range.y; c++) { sum = fma(x[start + c], x[start + c], sum); }
  return fma(params.alphaOverSize, sum, params.k);
}

// s^-beta; s is positive.
fn factor(s : f32) -> f32 {
  if (params.beta == 0.75) {
    let r = 1.0 / sqrt(s);
    return r * sqrt(r);
  }
  return pow(s, -params.beta);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let start = params.xOffset + row * params.xStride;
    y[params.yOffset + row * params.yStride + column] = x[start + column] * factor(spread(start, column));
  }
}

// dx[c] = dy[c] * s[c]^-beta - 2 * beta * alphaOverSize * x[c] * (sum over the window of dy[j] * x[j] * s[j]^-beta / s[j])
@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let column = i % params.columns;
    let start = params.xOffset + row * params.xStride;
    let dyStart = params.dyOffset + row * params.dyStride;
    let range = window(column);
    var sum = 0.0;
    for (var c = range.x; c <= range.y; c++) {
      let s = spread(start, c);
      sum += dy[dyStart + c] * x[start + c] * (factor(s) / s);
    }
    dx[params.dxOffset + row * params.dxStride + column] =
      dy[dyStart + column] * factor(spread(start, column)) - 2.0 * params.beta * params.alphaOverSize * x[start + column] * sum;
  }
}
