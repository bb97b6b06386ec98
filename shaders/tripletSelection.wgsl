// tripletSelection: which negative belongs to each anchor-positive pair of a batch.
//
// Shapes: distances [count, count] f32, labels [count] i32, key [4] i32, choice [count, count] i32: choice[a, p] is the chosen negative
// of anchor a and positive p, or NONE (a pair, but no negative fits), or NO_PAIR, or a code for "every negative" (src/ops/tripletSelection.ts).
// One workgroup an anchor: its positives are gathered first, in any order, since each is answered on its own; then each lane takes a
// positive and looks through the anchor's row. Ties go to the lower index.
// Source: Schroff et al. 2015, section 3.2. Random numbers: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

struct Params { count : u32, margin : f32, beyond : u32, within : u32, unordered : u32, easiest : u32, code : i32 }

const NONE = -1;
const NO_PAIR = -2;
const GATHERED = 1024u;      // candidates for positives looked at together
const FAR = 3e38;            // beyond every distance
const WIDTH = 256u;          // virtual width of the trees of `hardest`
override LANES : u32 = 64u;  // a power of two up to WIDTH; changes speed, never the answer

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> distances : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read> key : array<i32>;
@group(0) @binding(4) var<storage, read_write> choice : array<i32>;

var<workgroup> positives : array<u32, GATHERED>;
var<workgroup> found : atomic<u32>;

// Gathers the positives of anchor a among [base, base + GATHERED) and answers NO_PAIR for the others. All lanes must call it.
fn gather(a : u32, base : u32, lane : u32) -> u32 {
  workgroupBarrier();
  if (lane == 0u) { atomicStore(&found, 0u); }
  workgroupBarrier();
  if (a < params.count) {
    for (var p = base + lane; p < min(base + GATHERED, params.count); p += LANES) {
      if (p != a && labels[p] == labels[a] && (params.unordered == 0u || a < p)) {
        positives[atomicAdd(&found, 1u)] = p;
      } else {
        choice[a * params.count + p] = NO_PAIR;
      }
    }
  }
  workgroupBarrier();
  return atomicLoad(&found);
}

// Closest negative beyond the positive. It must lie within the margin (within = 1), or the farthest of all stands in (easiest = 1).
@compute @workgroup_size(LANES)
fn closest(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let a = group.x + group.y * groups.x;
  let row = a * params.count;
  for (var base = 0u; base < params.count; base += GATHERED) {
    let pairs = gather(a, base, lane);
    for (var k = lane; k < pairs; k += LANES) {
      let p = positives[k];
      let label = labels[a];
      let positive = distances[row + p];
      var best = FAR;
      var chosen = NONE;
      for (var n = 0u; n < params.count; n++) {
        let d = distances[row + n];
        if (d > positive && d < best && labels[n] != label) {
          best = d;
          chosen = i32(n);
        }
      }
      if (params.within != 0u && !(best < positive + params.margin)) { chosen = NONE; }
      if (params.easiest != 0u && chosen == NONE) {
        var worst = -1.0;
        for (var n = 0u; n < params.count; n++) {
          let d = distances[row + n];
          if (d > worst && labels[n] != label) {
            worst = d;
            chosen = i32(n);
          }
        }
      }
      choice[row + p] = chosen;
    }
  }
}

// A random one of the negatives that lie beyond the positive (beyond = 1) and within the margin (within = 1).
@compute @workgroup_size(LANES)
fn drawn(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
         @builtin(local_invocation_index) lane : u32) {
  let a = group.x + group.y * groups.x;
  let row = a * params.count;
  for (var base = 0u; base < params.count; base += GATHERED) {
    let pairs = gather(a, base, lane);
    for (var k = lane; k < pairs; k += LANES) {
      let p = positives[k];
      let label = labels[a];
      let positive = distances[row + p];
      var candidates = 0u;
      for (var n = 0u; n < params.count; n++) {
        if (labels[n] != label && fits(positive, distances[row + n])) { candidates++; }
      }
      let random = philox(vec4u(bitcast<u32>(key[2]), a, p, bitcast<u32>(key[3])), vec2u(bitcast<u32>(key[0]), bitcast<u32>(key[1])));
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

var<workgroup> farthest : array<f32, WIDTH>;
var<workgroup> farthestAt : array<u32, WIDTH>;
var<workgroup> nearest : array<f32, WIDTH>;
var<workgroup> nearestAt : array<u32, WIDTH>;

// The farthest positive and the closest negative of each anchor; all its other pairs are left out.
@compute @workgroup_size(LANES)
fn hardest(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u,
           @builtin(local_invocation_index) lane : u32) {
  let a = group.x + group.y * groups.x;
  let inside = a < params.count;
  let row = a * params.count;
  for (var i = lane; i < WIDTH; i += LANES) {
    farthest[i] = -1.0;
    nearest[i] = FAR;
    farthestAt[i] = params.count;
    nearestAt[i] = params.count;
    for (var j = i; inside && j < params.count; j += WIDTH) {
      let d = distances[row + j];
      choice[row + j] = NO_PAIR;
      if (labels[j] != labels[a]) {
        if (d < nearest[i]) {
          nearest[i] = d;
          nearestAt[i] = j;
        }
      } else if (j != a && d > farthest[i]) {
        farthest[i] = d;
        farthestAt[i] = j;
      }
    }
  }
  workgroupBarrier();
  for (var stride = WIDTH / 2u; stride > 0u; stride /= 2u) {
    for (var i = lane; i < stride; i += LANES) {
      let other = i + stride;
      if (farthest[other] > farthest[i] || (farthest[other] == farthest[i] && farthestAt[other] < farthestAt[i])) {
        farthest[i] = farthest[other];
        farthestAt[i] = farthestAt[other];
      }
      if (nearest[other] < nearest[i] || (nearest[other] == nearest[i] && nearestAt[other] < nearestAt[i])) {
        nearest[i] = nearest[other];
        nearestAt[i] = nearestAt[other];
      }
    }
    workgroupBarrier();
  }
  storageBarrier();  // the answers NO_PAIR of all lanes come first
  if (inside && lane == 0u && farthestAt[0] < params.count) {
    choice[row + farthestAt[0]] = select(NONE, i32(nearestAt[0]), nearestAt[0] < params.count);
  }
}
