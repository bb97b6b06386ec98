// lrn: local response normalisation across channels.
//
//   y[r, c] = x[r, c] * s[r, c]^-beta,  s[r, c] = k + alphaOverSize * (sum over |j - c| <= radius of x[r, j]^2)
//
// Shapes: x, y, dy, dx are [rows, columns], f32; a row (pixel) starts every <tensor>Stride elements. Invocations stride over the
// elements; sums run over ascending channels. The usual beta 0.75 needs two roots and no power.
// Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3; alpha divided by the window's size as in Caffe and Torch.

struct Params { rows : u32, columns : u32, radius : u32, alphaOverSize : f32, beta : f32, k : f32, xStride : u32, xOffset : u32,
                yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32, x4Stride : u32, x4Offset : u32,
                y4Stride : u32, y4Offset : u32,
                dy4Stride : u32, dy4Offset : u32, dx4Stride : u32, dx4Offset : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read_write> y : array<f32>;
@group(0) @binding(3) var<storage, read> dy : array<f32>;
@group(0) @binding(4) var<storage, read_write> dx : array<f32>;
@group(0) @binding(5) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(7) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dx4 : array<vec4f>;

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

// The four channels of vec4 `column` of the row of x at `start`; 0 beyond the row, which changes no sum.
fn four(start : u32, column : i32) -> vec4f {
  if (column < 0 || u32(column) >= params.columns / 4u) { return vec4f(); }
  return x4[start + u32(column)];
}

// Sums, for each of the channels in `own`, of the five channels around it, ascending.
fn aroundSquares(left : vec4f, own : vec4f, right : vec4f) -> vec4f {
  let v0 = vec4f(left.zw, own.xy);
  let v1 = vec4f(left.w, own.xyz);
  let v3 = vec4f(own.yzw, right.x);
  let v4 = vec4f(own.zw, right.xy);
  return fma(v4, v4, fma(v3, v3, fma(own, own, fma(v1, v1, v0 * v0))));
}

// s of four channels.
fn spread4(left : vec4f, own : vec4f, right : vec4f) -> vec4f {
  return fma(vec4f(params.alphaOverSize), aroundSquares(left, own, right), vec4f(params.k));
}

// s^-0.75.
fn factor4(s : vec4f) -> vec4f {
  let r = vec4f(1.0) / sqrt(s);
  return r * sqrt(r);
}

// forward, four channels at a time, for windows of five channels (radius 2) and beta 0.75.
@compute @workgroup_size(LANES)
fn forward4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.rows * columns; i += groups.x * LANES) {
    let row = i / columns;
    let column = i32(i % columns);
    let start = params.x4Offset + row * params.x4Stride;
    let own = four(start, column);
    y4[params.y4Offset + row * params.y4Stride + u32(column)] = own * factor4(spread4(four(start, column - 1), own, four(start, column + 1)));
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

// inputGradient, four channels at a time, for windows of five channels and beta 0.75.
@compute @workgroup_size(LANES)
fn inputGradient4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.rows * columns; i += groups.x * LANES) {
    let row = i / columns;
    let column = i32(i % columns);
    let start = params.x4Offset + row * params.x4Stride;
    let dyStart = params.dy4Offset + row * params.dy4Stride;
    let far = four(start, column - 2);
    let left = four(start, column - 1);
    let own = four(start, column);
    let right = four(start, column + 1);
    let beyond = four(start, column + 2);
    let d = dy4[dyStart + u32(column)];
    let s = spread4(left, own, right);
    let f = factor4(s);
    // Terms of the sum for the channels here and on either side.
    let t = d * own * (f / s);
    var tLeft = vec4f();
    var tRight = vec4f();
    if (column > 0) {
      let sLeft = spread4(far, left, own);
      tLeft = dy4[dyStart + u32(column) - 1u] * left * (factor4(sLeft) / sLeft);
    }
    if (u32(column) + 1u < columns) {
      let sRight = spread4(own, right, beyond);
      tRight = dy4[dyStart + u32(column) + 1u] * right * (factor4(sRight) / sRight);
    }
    let sum = vec4f(tLeft.zw, t.xy) + vec4f(tLeft.w, t.xyz) + t + vec4f(t.yzw, tRight.x) + vec4f(t.zw, tRight.xy);
    dx4[params.dx4Offset + row * params.dx4Stride + u32(column)] = d * f - 2.0 * params.beta * params.alphaOverSize * own * sum;
  }
}

// forward4 and inputGradient4 with a row for each invocation, which then reads each number once: for adapters whose loads are dear and
// whose lanes are few.
@compute @workgroup_size(LANES)
fn forwardRow4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = i32(params.columns / 4u);
  for (var row = id.x; row < params.rows; row += groups.x * LANES) {
    let start = params.x4Offset + row * params.x4Stride;
    let to = params.y4Offset + row * params.y4Stride;
    var left = vec4f();
    var own = x4[start];
    for (var column = 0; column < columns; column++) {
      let right = four(start, column + 1);
      y4[to + u32(column)] = own * factor4(spread4(left, own, right));
      left = own;
      own = right;
    }
  }
}

@compute @workgroup_size(LANES)
fn inputGradientRow4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = i32(params.columns / 4u);
  for (var row = id.x; row < params.rows; row += groups.x * LANES) {
    let start = params.x4Offset + row * params.x4Stride;
    let dyStart = params.dy4Offset + row * params.dy4Stride;
    let to = params.dx4Offset + row * params.dx4Stride;
    var own = x4[start];
    var right = four(start, 1);
    var d = dy4[dyStart];
    var s = spread4(vec4f(), own, right);
    var f = factor4(s);
    var tLeft = vec4f();
    var t = d * own * (f / s);
    for (var column = 0; column < columns; column++) {
      let beyond = four(start, column + 2);
      var dRight = vec4f();
      if (column + 1 < columns) { dRight = dy4[dyStart + u32(column) + 1u]; }
      let sRight = spread4(own, right, beyond);
      let fRight = factor4(sRight);
      let tRight = dRight * right * (fRight / sRight);
      let sum = vec4f(tLeft.zw, t.xy) + vec4f(tLeft.w, t.xyz) + t + vec4f(t.yzw, tRight.x) + vec4f(t.zw, tRight.xy);
      dx4[to + u32(column)] = d * f - 2.0 * params.beta * params.alphaOverSize * own * sum;
      tLeft = t;
      t = tRight;
      f = fRight;
      d = dRight;
      own = right;
      right = beyond;
    }
  }
}
