// tripletLoss: the loss of the selected triplets of a batch, and its gradient with respect to the distances.
//
//   loss = factor * sum over triplets (a, p, n) of max(0, d_ap - d_an + margin), or of ln(1 + exp(scale * (d_ap - d_an)))
//
// Shapes: distances, ddistances [count, count] f32, labels [count] i32, choice [count, count] i32 (tripletSelection), perAnchor [count, 8],
// summary [8] f32 (tripletSummary in src/ops/tripletLoss.ts). All sums run over ascending indices.
// Source: Schroff et al. 2015, equation 3.

struct Params { count : u32, margin : f32, softMargin : u32, scale : f32, reduction : u32 }

const NONE = -1;
const EVERY_NEGATIVE = -3;   // and below: codes for more than one negative
const EVERY_SEMI_HARD = -4;
const SHARES = 4u;           // invocations that divide the columns of an anchor in the gradient
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> distances : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read> choice : array<i32>;
@group(0) @binding(4) var<storage, read_write> perAnchor : array<f32>;
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

// perAnchor[a] = loss, triplets, active, pairs, distances of its pairs, distances to strangers, number of strangers, 0. One invocation an anchor.
@compute @workgroup_size(LANES)
fn anchors(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var a = id.x; a < params.count; a += groups.x * LANES) {
    let row = a * params.count;
    let label = labels[a];
    var sum = vec3f();
    var pairs = 0.0;
    var near = 0.0;
    var far = 0.0;
    var strangers = 0.0;
    var p = 0u;
    loop {
      // Strangers up to the next pair in a loop of their own: software adapters run both sides of an if.
      while (p < params.count) {
        let stranger = labels[p] != label;
        if (!stranger && p != a) { break; }
        far += select(0.0, distances[row + p], stranger);
        strangers += select(0.0, 1.0, stranger);
        p++;
      }
      if (p >= params.count) { break; }
      let d = distances[row + p];
      near += d;
      pairs += 1.0;
      sum += pairLoss(row, label, p, d);
      p++;
    }
    perAnchor[8u * a] = sum.x;
    perAnchor[8u * a + 1u] = sum.y;
    perAnchor[8u * a + 2u] = sum.z;
    perAnchor[8u * a + 3u] = pairs;
    perAnchor[8u * a + 4u] = near;
    perAnchor[8u * a + 5u] = far;
    perAnchor[8u * a + 6u] = strangers;
    perAnchor[8u * a + 7u] = 0.0;
  }
}

// Loss, triplets and active triplets of one pair.
fn pairLoss(row : u32, label : i32, p : u32, positive : f32) -> vec3f {
  let code = choice[row + p];
  if (code >= 0) { return counted(termLoss(positive, distances[row + u32(code)])); }
  var sum = vec3f();
  if (code <= EVERY_NEGATIVE) {
    for (var n = 0u; n < params.count; n++) {
      let negative = distances[row + n];
      if (labels[n] != label && isChosen(code, n, positive, negative)) { sum += counted(termLoss(positive, negative)); }
    }
  }
  return sum;
}

// A triplet's loss, and what it adds to the numbers of triplets and of active ones.
fn counted(loss : f32) -> vec3f {
  return vec3f(loss, 1.0, select(0.0, 1.0, loss > 0.0));
}

var<workgroup> totals : array<f32, 8>;

// One workgroup: each lane sums one of the eight numbers over the anchors, then the first makes the summary of them.
@compute @workgroup_size(8)
fn combine(@builtin(local_invocation_index) lane : u32) {
  var sum = 0.0;
  for (var a = 0u; a < params.count; a++) { sum += perAnchor[8u * a + lane]; }
  totals[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var factor = 1.0;
    if (params.reduction == 1u) { factor = reciprocal(totals[1]); }
    if (params.reduction == 2u) { factor = reciprocal(totals[2]); }
    result[0] = totals[0] * factor;
    result[1] = totals[1];
    result[2] = totals[2];
    result[3] = totals[3];
    result[4] = totals[4] * reciprocal(totals[3]);
    result[5] = totals[5] * reciprocal(totals[6]);
    result[6] = factor;
    result[7] = totals[6];
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

// ddistances[a, p] = factor * dy * sum of slopes of the triplets with this pair; [a, n] minus that of those with this negative.
// SHARES invocations divide the columns of an anchor; each goes through the pairs in order and writes its own columns alone.
@compute @workgroup_size(LANES)
fn distanceGradient(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let factor = dy[0] * summary[6];
  for (var i = id.x; i < params.count * SHARES; i += groups.x * LANES) {
    let a = i / SHARES;
    let own = i % SHARES;
    let row = a * params.count;
    let label = labels[a];
    for (var j = own; j < params.count; j += SHARES) { ddistances[row + j] = 0.0; }
    var p = 0u;
    loop {
      // Most of a row are no pairs: a loop of their own reads their codes and nothing else.
      while (p < params.count && !isNegatives(choice[row + p])) { p++; }
      if (p >= params.count) { break; }
      if (isSelected(a, p)) {
        let code = choice[row + p];
        let positive = distances[row + p];
        if (p % SHARES == own) { ddistances[row + p] = factor * pairSlope(a, p); }
        if (code >= 0) {
          if (u32(code) % SHARES == own) { ddistances[row + u32(code)] -= factor * slope(positive, distances[row + u32(code)]); }
        } else {
          for (var n = own; n < params.count; n += SHARES) {
            let negative = distances[row + n];
            if (labels[n] != label && isChosen(code, n, positive, negative)) { ddistances[row + n] -= factor * slope(positive, negative); }
          }
        }
      }
      p++;
    }
  }
}

// Whether a code names at least one negative.
fn isNegatives(code : i32) -> bool {
  return code >= 0 || code <= EVERY_NEGATIVE;
}

// Whether (a, p) is a pair with at least one negative.
fn isSelected(a : u32, p : u32) -> bool {
  if (p >= params.count || p == a) { return false; }
  return isNegatives(choice[a * params.count + p]) && labels[p] == labels[a];
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
