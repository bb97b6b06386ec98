// The closest negative beyond each positive (rule semi-hard of tripletSelection.wgsl, the same choices) for adapters with one subgroup
// size, where a load costs as much as many comparisons (software adapters). One subgroup is a workgroup and has an anchor: each lane loads
// other candidates, hands them to all, and compares them with the POSITIVES positives it has at a time. count is a multiple of 4.

enable subgroups;
diagnostic(off, subgroup_uniformity);  // loops end by subgroupAny, which is the same for all lanes

struct Params { count : u32, margin : f32 }

const NONE = -1;
const NO_PAIR = -2;
const FAR = 3e38;  // beyond every distance
const SG = 8u;         // subgroup size
const POSITIVES = 2u;  // positives of a lane in one pass over the candidates

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> distances : array<f32>;
@group(0) @binding(2) var<storage, read> labels : array<i32>;
@group(0) @binding(3) var<storage, read> distances4 : array<vec4f>;
@group(0) @binding(4) var<storage, read> labels4 : array<vec4i>;
@group(0) @binding(5) var<storage, read_write> choice : array<i32>;

@compute @workgroup_size(SG)
fn closest(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let a = group.x + group.y * groups.x;
  if (a >= params.count) { return; }
  let row = a * params.count;
  let quads = params.count / 4u;
  let row4 = a * quads;
  let label = labels[a];
  var p = lane;
  while (subgroupAny(p < params.count)) {
    var place : array<u32, POSITIVES>;
    var positive : array<f32, POSITIVES>;
    var best : array<f32, POSITIVES>;
    var quad : array<u32, POSITIVES>;
    for (var k = 0u; k < POSITIVES; k++) { // unroll
      while (p < params.count && (p == a || labels[p] != label)) {
        choice[row + p] = NO_PAIR;
        p += SG;
      }
      place[k] = p;
      positive[k] = FAR;
      best[k] = FAR;
      if (p < params.count) { positive[k] = distances[row + p]; }
      p += SG;
    }
    if (!subgroupAny(place[0] < params.count)) { break; }
    for (var q = 0u; q < quads; q += SG) {
      // Behind the end the last four again: they are not closer than they were.
      let at = min(q + lane, quads - 1u);
      let candidates = select(vec4f(-1.0), distances4[row4 + at], labels4[at] != vec4i(label));
      for (var s = 0u; s < SG; s++) { // unroll
        let four = subgroupShuffle(candidates, s);
        for (var k = 0u; k < POSITIVES; k++) { // unroll
          let before = best[k];
          for (var c = 0u; c < 4u; c++) { // unroll
            best[k] = select(best[k], four[c], (four[c] > positive[k]) & (four[c] < best[k]));
          }
          quad[k] = select(quad[k], q + s, best[k] < before);
        }
      }
    }
    for (var k = 0u; k < POSITIVES; k++) { // unroll
      // The first of the four that is a negative at this distance.
      let at = min(quad[k], quads - 1u);
      let hit = (distances4[row4 + at] == vec4f(best[k])) & (labels4[at] != vec4i(label));
      let n = 4u * at + select(select(select(3u, 2u, hit.z), 1u, hit.y), 0u, hit.x);
      if (place[k] < params.count) { choice[row + place[k]] = select(NONE, i32(n), best[k] < FAR && best[k] < positive[k] + params.margin); }
    }
  }
}
