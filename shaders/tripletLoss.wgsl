// tripletLoss: the loss of the selected triplets of a batch, and its gradient with respect to the distances.
//
//   loss = factor * sum over triplets (a, p, n) of max(0, d_ap - d_an + margin), or of ln(1 + exp(scale * (d_ap - d_an)))
//
// Shapes: distances, ddistances [count, count] f32, labels [count] i32, choice [count, count] i32 (tripletSelection), perAnchor [count, 8],
// summary [8] f32 (tripletSummary in src/ops/tripletLoss.ts). One workgroup an anchor. All sums have a fixed order.
// Source: Schroff et al. 2015, equation 3.

struct Params { count : u32, margin : f32, softMargin : u32, scale : f32, reduction : u32 }

const NONE = -1;
const EVERY_NEGATIVE = -3;   // and below: codes for more than one negative
const EVERY_SEMI_HARD = -4;
const WIDTH = 256u;          // virtual width of the trees, and pairs gathered together in the gradient
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> distances : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read> choice : array<i32>;
@group(0) @binding(4) var<storage, read_write> perAnchor : array<vec4f>;
@group(0) @binding(5) var<storage, read_write> result : array<f32>;
@group(0) @binding(6) var<storage, read> summary : array<f32>;
@group(0) @binding(7) var<storage, read> dy : array<f32>;
@group(0) @binding(8) var<storage, read_write> ddistances : array<f32>;

// ln(1 + e) for 0 <= e <= 1 by 2 atanh(e / (2 + e)); the terms left out are below 2^-26 of it.
fn logOnePlus(e : f32) -> f32 {
  let t = e / (2.0 + e);
  let q = t * t;
  return 2.0 * t * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q / 13.0))))));
}

fn termLoss(positive : f32, negative : f32) -> f32 {
  if (params.softMargin == 0u) { return max(positive - negative + params.margin, 0.0); }
  let z = params.scale * (positive - negative);
  return max(z, 0.0) + logOnePlus(exp(-abs(z)));
}

// Derivative of termLoss by the positive distance; by the negative one it is the same with the other sign.
fn slope(positive : f32, negative : f32) -> f32 {
  if (params.softMargin == 0u) { return select(0.0, 1.0, positive - negative + params.margin > 0.0); }
  let z = params.scale * (positive - negative);
  let e = exp(-abs(z));
  return params.scale * select(e, 1.0, z >= 0.0) / (1.0 + e);
}

// Whether the code of a pair stands for this negative (n is of another label than the anchor).
fn isChosen(code : i32, n : u32, positive : f32, negative : f32) -> bool {
  return code == i32(n) || code == EVERY_NEGATIVE
    || (code == EVERY_SEMI_HARD && negative > positive && negative < positive + params.margin);
}

var<workgroup> shares : array<vec4f, WIDTH>;

// Sums shares[0..WIDTH) by a tree whose shape does not depend on LANES. All lanes must call it.
fn treeSum(lane : u32) -> vec4f {
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) { shares[i] += shares[i + stride]; }
    workgroupBarrier();
  }
  let total = shares[0];
  workgroupBarrier();  // the next call overwrites shares
  return total;
}

// perAnchor[a] = (loss, triplets, active, pairs), (distances of its pairs, distances to strangers, number of strangers, 0).
@compute @workgroup_size(LANES)
fn anchors(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let a = group.x + group.y * groups.x;
  let inside = a < params.count;
  let row = a * params.count;
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = vec4f();
    for (var p = i; inside && p < params.count; p += WIDTH) {
      if (p == a || labels[p] != labels[a]) { continue; }
      sum.w += 1.0;
      let code = choice[row + p];
      let positive = distances[row + p];
      if (code >= 0) {
        sum += vec4f(counted(termLoss(positive, distances[row + u32(code)])), 0.0);
      } else if (code <= EVERY_NEGATIVE) {
        for (var n = 0u; n < params.count; n++) {
          let negative = distances[row + n];
          if (labels[n] != labels[a] && isChosen(code, n, positive, negative)) { sum += vec4f(counted(termLoss(positive, negative)), 0.0); }
        }
      }
    }
    shares[i] = sum;
  }
  let losses = treeSum(lane);
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = vec4f();
    for (var j = i; inside && j < params.count; j += WIDTH) {
      let d = distances[row + j];
      if (labels[j] != labels[a]) { sum += vec4f(0.0, d, 1.0, 0.0); } else if (j != a) { sum.x += d; }
    }
    shares[i] = sum;
  }
  let means = treeSum(lane);
  if (inside && lane == 0u) {
    perAnchor[2u * a] = losses;
    perAnchor[2u * a + 1u] = means;
  }
}

// A triplet's loss, and what it adds to the numbers of triplets and of active ones.
fn counted(loss : f32) -> vec3f {
  return vec3f(loss, 1.0, select(0.0, 1.0, loss > 0.0));
}

// One workgroup: sums over the anchors, then the numbers of the summary.
@compute @workgroup_size(LANES)
fn combine(@builtin(local_invocation_index) lane : u32) {
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = vec4f();
    for (var a = i; a < params.count; a += WIDTH) { sum += perAnchor[2u * a]; }
    shares[i] = sum;
  }
  let losses = treeSum(lane);
  for (var i = lane; i < WIDTH; i += LANES) {
    var sum = vec4f();
    for (var a = i; a < params.count; a += WIDTH) { sum += perAnchor[2u * a + 1u]; }
    shares[i] = sum;
  }
  let means = treeSum(lane);
  if (lane == 0u) {
    var factor = 1.0;
    if (params.reduction == 1u) { factor = reciprocal(losses.y); }
    if (params.reduction == 2u) { factor = reciprocal(losses.z); }
    result[0] = losses.x * factor;
    result[1] = losses.y;
    result[2] = losses.z;
    result[3] = losses.w;
    result[4] = means.x * reciprocal(losses.w);
    result[5] = means.y * reciprocal(means.z);
    result[6] = factor;
    result[7] = means.z;
  }
}

// 1 / count; 0 of nothing, so that a mean over no triplets is 0.
fn reciprocal(count : f32) -> f32 {
  return select(0.0, 1.0 / max(count, 1.0), count > 0.0);
}

@compute @workgroup_size(1)
fn forward() {
  result[0] = summary[0];
}

var<workgroup> counts : array<u32, WIDTH>;
var<workgroup> codes : array<i32, WIDTH>;
var<workgroup> positives : array<f32, WIDTH>;

// ddistances[a, p] = factor * dy * sum of slopes of the triplets with this pair; [a, n] minus that of those with this negative.
// The pairs are gathered in ascending order, WIDTH candidates at a time; then each lane looks through them for its columns.
@compute @workgroup_size(LANES)
fn distanceGradient(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
                    @builtin(local_invocation_index) lane : u32) {
  let a = group.x + group.y * groups.x;
  let inside = a < params.count;
  let row = a * params.count;
  let factor = dy[0] * summary[6];
  let share = WIDTH / LANES;
  for (var j = lane; inside && j < params.count; j += LANES) { ddistances[row + j] = factor * pairSlope(a, j); }
  for (var base = 0u; base < params.count; base += WIDTH) {
    var count = 0u;
    for (var k = 0u; k < share; k++) {
      if (inside && isSelected(a, base + lane * share + k)) { count++; }
    }
    counts[lane] = count;
    workgroupBarrier();
    var at = 0u;
    var pairs = 0u;
    for (var l = 0u; l < LANES; l++) {
      if (l == lane) { at = pairs; }
      pairs += counts[l];
    }
    for (var k = 0u; k < share; k++) {
      let p = base + lane * share + k;
      if (inside && isSelected(a, p)) {
        codes[at] = choice[row + p];
        positives[at] = distances[row + p];
        at++;
      }
    }
    workgroupBarrier();
    for (var n = lane; inside && pairs > 0u && n < params.count; n += LANES) {
      if (labels[n] == labels[a]) { continue; }
      let negative = distances[row + n];
      var sum = 0.0;
      for (var k = 0u; k < pairs; k++) {
        if (isChosen(codes[k], n, positives[k], negative)) { sum += slope(positives[k], negative); }
      }
      ddistances[row + n] -= factor * sum;
    }
    workgroupBarrier();  // the next round overwrites the lists
  }
}

// Whether (a, p) is a pair with at least one negative.
fn isSelected(a : u32, p : u32) -> bool {
  if (p >= params.count || p == a || labels[p] != labels[a]) { return false; }
  let code = choice[a * params.count + p];
  return code >= 0 || code <= EVERY_NEGATIVE;
}

// Sum of slopes of the triplets with the pair (a, p); 0 if it is none.
fn pairSlope(a : u32, p : u32) -> f32 {
  if (!isSelected(a, p)) { return 0.0; }
  let row = a * params.count;
  let code = choice[row + p];
  let positive = distances[row + p];
  if (code >= 0) { return slope(positive, distances[row + u32(code)]); }
  var sum = 0.0;
  for (var n = 0u; n < params.count; n++) {
    let negative = distances[row + n];
    if (labels[n] != labels[a] && isChosen(code, n, positive, negative)) { sum += slope(positive, negative); }
  }
  return sum;
}
