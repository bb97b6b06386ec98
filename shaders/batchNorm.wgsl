// batchNorm: normalisation by channel, with given statistics or with those of the batch.
//
//   y[r, c] = (x[r, c] - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c]
//
// Shapes: x, y, dy, dx are [groups * rows, columns], f32: each group of rows has statistics of its own. statistics [2 groups, columns]:
// for each group mean and variance; sums [2 groups, columns]: for each group sum of dy and sum of dy * (x normalised).
// Sums run over chunks of CHUNK rows in order, then over the chunks by a tree of fixed width: the order depends on the shape alone.
// Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015.

struct Params { rows : u32, columns : u32, groups : u32, chunks : u32, row : u32, epsilon : f32, momentum : f32, factor : f32,
                xStride : u32, xOffset : u32, yStride : u32, yOffset : u32, dyStride : u32, dyOffset : u32, dxStride : u32, dxOffset : u32,
                x4Stride : u32, x4Offset : u32, y4Stride : u32, y4Offset : u32, dy4Stride : u32, dy4Offset : u32,
                dx4Stride : u32, dx4Offset : u32, hasGamma : u32, hasBeta : u32 }

const CHUNK = 256u;          // rows of a chunk
const STRIP = 16u;           // rows of an invocation of the kernels by four channels, which read statistics once
const WIDTH = 256u;          // virtual width of the tree over chunks
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> x : array<f32>;
@group(0) @binding(2) var<storage, read> mean : array<f32>;
@group(0) @binding(3) var<storage, read> variance : array<f32>;
@group(0) @binding(4) var<storage, read> gamma : array<f32>;
@group(0) @binding(5) var<storage, read> beta : array<f32>;
@group(0) @binding(6) var<storage, read_write> y : array<f32>;
@group(0) @binding(7) var<storage, read> statistics : array<f32>;
@group(0) @binding(8) var<storage, read_write> partial : array<f32>;
@group(0) @binding(9) var<storage, read> dy : array<f32>;
@group(0) @binding(10) var<storage, read_write> dx : array<f32>;
@group(0) @binding(11) var<storage, read> sums : array<f32>;
@group(0) @binding(12) var<storage, read_write> result : array<f32>;
@group(0) @binding(13) var<storage, read_write> updated : array<f32>;
@group(0) @binding(14) var<storage, read> x4 : array<vec4f>;
@group(0) @binding(15) var<storage, read> statistics4 : array<vec4f>;
@group(0) @binding(16) var<storage, read> gamma4 : array<vec4f>;
@group(0) @binding(17) var<storage, read> beta4 : array<vec4f>;
@group(0) @binding(18) var<storage, read_write> y4 : array<vec4f>;
@group(0) @binding(19) var<storage, read> dy4 : array<vec4f>;
@group(0) @binding(20) var<storage, read> sums4 : array<vec4f>;
@group(0) @binding(21) var<storage, read_write> dx4 : array<vec4f>;
@group(0) @binding(22) var<storage, read_write> partial4 : array<vec4f>;

// 1 / sqrt(variance + epsilon); 0 for a constant channel without epsilon, so that nothing becomes infinite.
fn inverseDeviation(spread : f32) -> f32 {
  let square = spread + params.epsilon;
  return select(0.0, 1.0 / sqrt(max(square, 1e-37)), square > 0.0);
}

fn inverseDeviation4(spread : vec4f) -> vec4f {
  let square = spread + params.epsilon;
  return select(vec4f(), vec4f(1.0) / sqrt(max(square, vec4f(1e-37))), square > vec4f());
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let c = i % params.columns;
    var scale = inverseDeviation(variance[c]);
    if (params.hasGamma != 0u) { scale *= gamma[c]; }
    var shift = 0.0;
    if (params.hasBeta != 0u) { shift = beta[c]; }
    y[params.yOffset + row * params.yStride + c] = (x[params.xOffset + row * params.xStride + c] - mean[c]) * scale + shift;
  }
}

@compute @workgroup_size(LANES)
fn stack(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var c = id.x; c < params.columns; c += groups.x * LANES) {
    result[c] = mean[c];
    result[params.columns + c] = variance[c];
  }
}

@compute @workgroup_size(LANES)
fn frozenInputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.groups * params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let c = i % params.columns;
    var scale = inverseDeviation(statistics[(2u * (row / params.rows) + 1u) * params.columns + c]);
    if (params.hasGamma != 0u) { scale *= gamma[c]; }
    dx[params.dxOffset + row * params.dxStride + c] = dy[params.dyOffset + row * params.dyStride + c] * scale;
  }
}

// Mean and sum of squared deviations of one column over one chunk: partial[(group, chunk), 0 or 1, column].
@compute @workgroup_size(LANES)
fn chunkStatistics(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.groups * params.chunks * params.columns; i += groups.x * LANES) {
    let chunk = i / params.columns;
    let c = i % params.columns;
    let first = (chunk / params.chunks) * params.rows + (chunk % params.chunks) * CHUNK;
    let count = chunkRows(chunk);
    var sum = 0.0;
    for (var r = 0u; r < count; r++) { sum += x[params.xOffset + (first + r) * params.xStride + c]; }
    let average = sum / f32(count);
    var square = 0.0;
    for (var r = 0u; r < count; r++) {
      let deviation = x[params.xOffset + (first + r) * params.xStride + c] - average;
      square = fma(deviation, deviation, square);
    }
    partial[2u * chunk * params.columns + c] = average;
    partial[(2u * chunk + 1u) * params.columns + c] = square;
  }
}

// chunkStatistics, four columns at a time.
@compute @workgroup_size(LANES)
fn chunkStatistics4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.groups * params.chunks * columns; i += groups.x * LANES) {
    let chunk = i / columns;
    let c = i % columns;
    let count = chunkRows(chunk);
    let start = params.x4Offset + ((chunk / params.chunks) * params.rows + (chunk % params.chunks) * CHUNK) * params.x4Stride + c;
    var sum = vec4f();
    for (var r = 0u; r < count; r++) { sum += x4[start + r * params.x4Stride]; }
    let average = sum / f32(count);
    var square = vec4f();
    for (var r = 0u; r < count; r++) {
      let deviation = x4[start + r * params.x4Stride] - average;
      square = fma(deviation, deviation, square);
    }
    partial4[2u * chunk * columns + c] = average;
    partial4[(2u * chunk + 1u) * columns + c] = square;
  }
}

// Rows of a chunk: the last of a group may be shorter.
fn chunkRows(chunk : u32) -> u32 {
  return min(CHUNK, params.rows - (chunk % params.chunks) * CHUNK);
}

var<workgroup> shares : array<f32, WIDTH>;

// Strides of the tree over shares begin here: half the smallest power of two that holds all chunks, WIDTH / 2 at most. The shares past the
// chunks are zeros, which change no sum.
fn firstStride() -> u32 {
  var stride = WIDTH / 2u;
  while (stride >= params.chunks) { stride /= 2u; }
  return stride;
}

// Sums the shares by a tree whose shape does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32, first : u32) -> f32 {
  workgroupBarrier();
  for (var stride = first; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { shares[i] += shares[i + stride]; }
    workgroupBarrier();
  }
  let total = shares[0];
  workgroupBarrier();  // the next call overwrites shares
  return total;
}

// Combines the chunks of one group and column: mean = sum of n_k mean_k / n, then the squared deviations about it.
@compute @workgroup_size(LANES)
fn statisticsOfChunks(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                      @builtin(local_invocation_index) lane : u32) {
  let index = group.x + group.y * groups.x;
  let inside = index < params.groups * params.columns;
  let g = min(index / params.columns, params.groups - 1u);
  let c = index % params.columns;
  let first = firstStride();
  for (var i = lane; i < max(2u * first, 1u); i += LANES) {
    var sum = 0.0;
    for (var k = i; k < params.chunks; k += WIDTH) {
      let chunk = g * params.chunks + k;
      sum = fma(f32(chunkRows(chunk)), partial[2u * chunk * params.columns + c], sum);
    }
    shares[i] = sum;
  }
  let average = treeSum(lane, first) / f32(params.rows);
  for (var i = lane; i < max(2u * first, 1u); i += LANES) {
    var sum = 0.0;
    for (var k = i; k < params.chunks; k += WIDTH) {
      let chunk = g * params.chunks + k;
      let deviation = partial[2u * chunk * params.columns + c] - average;
      sum += fma(f32(chunkRows(chunk)) * deviation, deviation, partial[(2u * chunk + 1u) * params.columns + c]);
    }
    shares[i] = sum;
  }
  let square = treeSum(lane, first);
  if (inside && lane == 0u) {
    result[2u * g * params.columns + c] = average;
    result[(2u * g + 1u) * params.columns + c] = square / f32(params.rows);
  }
}

@compute @workgroup_size(LANES)
fn normalise(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.groups * params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let c = i % params.columns;
    let at = 2u * (row / params.rows) * params.columns + c;
    let scale = inverseDeviation(statistics[at + params.columns]) * gamma[c];
    y[params.yOffset + row * params.yStride + c] = (x[params.xOffset + row * params.xStride + c] - statistics[at]) * scale + beta[c];
  }
}

// normalise, four columns at a time.
@compute @workgroup_size(LANES)
fn normalise4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  let strips = (params.rows + STRIP - 1u) / STRIP;
  for (var i = id.x; i < params.groups * strips * columns; i += groups.x * LANES) {
    let strip = i / columns;
    let c = i % columns;
    let g = strip / strips;
    let first = (strip % strips) * STRIP;
    let average = statistics4[2u * g * columns + c];
    let scale = inverseDeviation4(statistics4[(2u * g + 1u) * columns + c]) * gamma4[c];
    let shift = beta4[c];
    let end = g * params.rows + min(first + STRIP, params.rows);
    for (var row = g * params.rows + first; row < end; row++) {
      y4[params.y4Offset + row * params.y4Stride + c] = (x4[params.x4Offset + row * params.x4Stride + c] - average) * scale + shift;
    }
  }
}

// Sum of dy and of dy * (x normalised) of one column over one chunk.
@compute @workgroup_size(LANES)
fn chunkSums(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.groups * params.chunks * params.columns; i += groups.x * LANES) {
    let chunk = i / params.columns;
    let c = i % params.columns;
    let g = chunk / params.chunks;
    let first = g * params.rows + (chunk % params.chunks) * CHUNK;
    let average = statistics[2u * g * params.columns + c];
    let inverse = inverseDeviation(statistics[(2u * g + 1u) * params.columns + c]);
    let count = chunkRows(chunk);
    var sum = 0.0;
    var product = 0.0;
    for (var r = 0u; r < count; r++) {
      let slope = dy[params.dyOffset + (first + r) * params.dyStride + c];
      sum += slope;
      product = fma(slope, (x[params.xOffset + (first + r) * params.xStride + c] - average) * inverse, product);
    }
    partial[2u * chunk * params.columns + c] = sum;
    partial[(2u * chunk + 1u) * params.columns + c] = product;
  }
}

// chunkSums, four columns at a time.
@compute @workgroup_size(LANES)
fn chunkSums4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  for (var i = id.x; i < params.groups * params.chunks * columns; i += groups.x * LANES) {
    let chunk = i / columns;
    let c = i % columns;
    let g = chunk / params.chunks;
    let first = g * params.rows + (chunk % params.chunks) * CHUNK;
    let average = statistics4[2u * g * columns + c];
    let inverse = inverseDeviation4(statistics4[(2u * g + 1u) * columns + c]);
    let end = first + chunkRows(chunk);
    var sum = vec4f();
    var product = vec4f();
    for (var row = first; row < end; row++) {
      let slope = dy4[params.dy4Offset + row * params.dy4Stride + c];
      sum += slope;
      product = fma(slope, (x4[params.x4Offset + row * params.x4Stride + c] - average) * inverse, product);
    }
    partial4[2u * chunk * columns + c] = sum;
    partial4[(2u * chunk + 1u) * columns + c] = product;
  }
}

@compute @workgroup_size(LANES)
fn sumsOfChunks(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                @builtin(local_invocation_index) lane : u32) {
  let index = group.x + group.y * groups.x;
  let inside = index < params.groups * params.columns;
  let g = min(index / params.columns, params.groups - 1u);
  let c = index % params.columns;
  let first = firstStride();
  for (var row = 0u; row < 2u; row++) {
    for (var i = lane; i < max(2u * first, 1u); i += LANES) {
      var sum = 0.0;
      for (var k = i; k < params.chunks; k += WIDTH) { sum += partial[(2u * (g * params.chunks + k) + row) * params.columns + c]; }
      shares[i] = sum;
    }
    let total = treeSum(lane, first);
    if (inside && lane == 0u) { result[(2u * g + row) * params.columns + c] = total; }
  }
}

@compute @workgroup_size(LANES)
fn inputGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.groups * params.rows * params.columns; i += groups.x * LANES) {
    let row = i / params.columns;
    let c = i % params.columns;
    let at = 2u * (row / params.rows) * params.columns + c;
    let inverse = inverseDeviation(statistics[at + params.columns]);
    let normalised = (x[params.xOffset + row * params.xStride + c] - statistics[at]) * inverse;
    let share = 1.0 / f32(params.rows);
    let slope = dy[params.dyOffset + row * params.dyStride + c];
    dx[params.dxOffset + row * params.dxStride + c] =
      gamma[c] * inverse * (slope - sums[at] * share - normalised * (sums[at + params.columns] * share));
  }
}

// inputGradient, four columns at a time.
@compute @workgroup_size(LANES)
fn inputGradient4(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let columns = params.columns / 4u;
  let strips = (params.rows + STRIP - 1u) / STRIP;
  let share = 1.0 / f32(params.rows);
  for (var i = id.x; i < params.groups * strips * columns; i += groups.x * LANES) {
    let strip = i / columns;
    let c = i % columns;
    let g = strip / strips;
    let first = (strip % strips) * STRIP;
    let at = 2u * g * columns + c;
    let average = statistics4[at];
    let inverse = inverseDeviation4(statistics4[at + columns]);
    let scale = gamma4[c] * inverse;
    let sum = sums4[at] * share;
    let product = sums4[at + columns] * share;
    let end = g * params.rows + min(first + STRIP, params.rows);
    for (var row = g * params.rows + first; row < end; row++) {
      let normalised = (x4[params.x4Offset + row * params.x4Stride + c] - average) * inverse;
      dx4[params.dx4Offset + row * params.dx4Stride + c] =
        scale * (dy4[params.dy4Offset + row * params.dy4Stride + c] - sum - normalised * product);
    }
  }
}

@compute @workgroup_size(LANES)
fn parameterGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var c = id.x; c < params.columns; c += groups.x * LANES) {
    var sum = 0.0;
    for (var g = 0u; g < params.groups; g++) { sum += sums[(2u * g + params.row) * params.columns + c]; }
    result[c] = sum;
  }
}

@compute @workgroup_size(LANES)
fn runningAverage(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var c = id.x; c < params.columns; c += groups.x * LANES) {
    var sum = 0.0;
    for (var g = 0u; g < params.groups; g++) { sum += statistics[(2u * g + params.row) * params.columns + c]; }
    let batch = params.factor * sum / f32(params.groups);
    updated[c] = updated[c] + params.momentum * (batch - updated[c]);
  }
}
