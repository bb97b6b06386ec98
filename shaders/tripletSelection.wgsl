// tripletSelection: which negative belongs to each anchor-positive pair of a batch.
//
// Shapes: distances [count, count] f32, labels [count] i32, key [4] i32, choice [count, count] i32: choice[a, p] is the chosen negative
// of anchor a and positive p, or NONE (a pair, but no negative fits), or NO_PAIR, or a code for "every negative" (src/ops/tripletSelection.ts).
// SHARES invocations divide the candidates for positives of an anchor. Each goes on to its next positive first and then through all
// negatives, so that neighbours scan together. No workgroup memory: any count fits. Ties go to the lower index.
// Source: Schroff et al. 2015, section 3.2. Random numbers: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

struct Params { count : u32, margin : f32, beyond : u32, within : u32, unordered : u32, easiest : u32, code : i32 }

const NONE = -1;
const NO_PAIR = -2;
const SHARES = 16u;
const CLOSEST = 8u;
const FAR = 3e38;  // beyond every distance
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> distances : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read> key : array<i32>;
@group(0) @binding(4) var<storage, read_write> choice : array<i32>;

// The first pair of anchor a from p on, in steps of SHARES; what lies before it is answered NO_PAIR.
fn nextPair(a : u32, start : u32) -> u32 {
  var p = start;
  while (p < params.count && (p == a || labels[p] != labels[a] || (params.unordered != 0u && p < a))) {
    choice[a * params.count + p] = NO_PAIR;
    p += SHARES;
  }
  return p;
}

// Closest negative beyond the positive. It must lie within the margin (within = 1), or the farthest of all stands in (easiest = 1).
// CLOSEST invocations divide an anchor's candidates; each goes through the negatives once for as many as eight of its positives.
@compute @workgroup_size(LANES)
fn closest(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.count * CLOSEST; i += groups.x * LANES) {
    let a = i / CLOSEST;
    let row = a * params.count;
    let label = labels[a];
    var p = i % CLOSEST;
    while (p < params.count) {
      // The next positives, up to eight; places that stay empty take no negative.
      var place0 = vec4u();
      var place1 = vec4u();
      var positive0 = vec4f(FAR);
      var positive1 = vec4f(FAR);
      var found = 0u;
      for (; p < params.count && found < 8u; p += CLOSEST) {
        if (p == a || labels[p] != label) {
          choice[row + p] = NO_PAIR;
          continue;
        }
        let d = distances[row + p];
        let here0 = vec4u(found) == vec4u(0u, 1u, 2u, 3u);
        let here1 = vec4u(found) == vec4u(4u, 5u, 6u, 7u);
        positive0 = select(positive0, vec4f(d), here0);
        positive1 = select(positive1, vec4f(d), here1);
        place0 = select(place0, vec4u(p), here0);
        place1 = select(place1, vec4u(p), here1);
        found++;
      }
      if (found == 0u) { break; }
      var best0 = vec4f(FAR);
      var best1 = vec4f(FAR);
      var chosen0 = vec4i(NONE);
      var chosen1 = vec4i(NONE);
      var worst = -1.0;
      var easiest = NONE;
      for (var n = 0u; n < params.count; n++) {
        // Below every distance where n is no negative.
        let d = select(-1.0, distances[row + n], labels[n] != label);
        let better0 = (vec4f(d) > positive0) & (vec4f(d) < best0);
        best0 = select(best0, vec4f(d), better0);
        chosen0 = select(chosen0, vec4i(i32(n)), better0);
        let better1 = (vec4f(d) > positive1) & (vec4f(d) < best1);
        best1 = select(best1, vec4f(d), better1);
        chosen1 = select(chosen1, vec4i(i32(n)), better1);
        let farther = d > worst;
        worst = select(worst, d, farther);
        easiest = select(easiest, i32(n), farther);
      }
      if (params.within != 0u) {
        chosen0 = select(vec4i(NONE), chosen0, best0 < positive0 + params.margin);
        chosen1 = select(vec4i(NONE), chosen1, best1 < positive1 + params.margin);
      }
      if (params.easiest != 0u) {
        chosen0 = select(chosen0, vec4i(easiest), chosen0 == vec4i(NONE));
        chosen1 = select(chosen1, vec4i(easiest), chosen1 == vec4i(NONE));
      }
      for (var k = 0u; k < found; k++) {
        if (k < 4u) {
          choice[row + place0[k]] = chosen0[k];
        } else {
          choice[row + place1[k - 4u]] = chosen1[k - 4u];
        }
      }
    }
  }
}

// A random one of the negatives that lie beyond the positive (beyond = 1) and within the margin (within = 1): one pass counts them, the
// next one takes the one that the random number names.
@compute @workgroup_size(LANES)
fn drawn(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let seed = vec2u(bitcast<u32>(key[0]), bitcast<u32>(key[1]));
  for (var i = id.x; i < params.count * SHARES; i += groups.x * LANES) {
    let a = i / SHARES;
    let row = a * params.count;
    let label = labels[a];
    for (var p = nextPair(a, i % SHARES); p < params.count; p = nextPair(a, p + SHARES)) {
      let positive = distances[row + p];
      var candidates = 0u;
      for (var n = 0u; n < params.count; n++) { candidates += select(0u, 1u, labels[n] != label && fits(positive, distances[row + n])); }
      let random = philox(vec4u(bitcast<u32>(key[2]), a, p, bitcast<u32>(key[3])), seed);
      var left = multiplyHigh(random.x, candidates);
      var chosen = NONE;
      for (var n = 0u; n < params.count && chosen == NONE && candidates > 0u; n++) {
        if (labels[n] != label && fits(positive, distances[row + n])) {
          if (left == 0u) { chosen = i32(n); }
          left--;
        }
      }
      choice[row + p] = chosen;
    }
  }
}

fn fits(positive : f32, negative : f32) -> bool {
  return (params.beyond == 0u || negative > positive) && (params.within == 0u || negative < positive + params.margin);
}

// Upper word of a product of two 32-bit words, by halves: no product of two 16-bit numbers and two carries overflows.
fn multiplyHigh(a : u32, b : u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);
}

// Philox4x32-10.
fn philox(counter : vec4u, seed : vec2u) -> vec4u {
  var c = counter;
  var k = seed;
  for (var round = 0u; round < 10u; round++) {
    let high = vec2u(multiplyHigh(0xd2511f53u, c.x), multiplyHigh(0xcd9e8d57u, c.z));
    let low = vec2u(0xd2511f53u * c.x, 0xcd9e8d57u * c.z);
    c = vec4u(high.y ^ c.y ^ k.x, low.y, high.x ^ c.w ^ k.y, low.x);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

@compute @workgroup_size(LANES)
fn every(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.count * params.count; i += groups.x * LANES) {
    let a = i / params.count;
    let p = i % params.count;
    choice[i] = select(NO_PAIR, params.code, a != p && labels[a] == labels[p]);
  }
}

// The farthest positive and the closest negative of each anchor; all its other pairs are left out. One invocation an anchor.
@compute @workgroup_size(LANES)
fn hardest(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var a = id.x; a < params.count; a += groups.x * LANES) {
    let row = a * params.count;
    let label = labels[a];
    var farthest = -1.0;
    var closestNegative = FAR;
    var p = NONE;
    var n = NONE;
    for (var j = 0u; j < params.count; j++) {
      let d = distances[row + j];
      let negative = labels[j] != label;
      let closer = negative && d < closestNegative;
      closestNegative = select(closestNegative, d, closer);
      n = select(n, i32(j), closer);
      let farther = !negative && j != a && d > farthest;
      farthest = select(farthest, d, farther);
      p = select(p, i32(j), farther);
      choice[row + j] = NO_PAIR;
    }
    if (p >= 0) { choice[row + u32(p)] = n; }
  }
}
