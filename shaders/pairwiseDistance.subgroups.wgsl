// pairwiseDistance by register tiles that subgroups feed: for adapters with one subgroup size, where a load costs as much as many fmas
// (software adapters). Sums, their order and the bits are those of pairwiseDistance.wgsl. a and b are bound as vec4s: columns, strides
// and offsets are multiples of 4. One subgroup is a workgroup; SG is its size.

enable subgroups;

struct Params { aRows : u32, bRows : u32, columns : u32, aStride : u32, aOffset : u32, bStride : u32, bOffset : u32 }

const SG = 8u;  // subgroup size
const RM = 2u;  // rows of a of a tile: lane l loads those of number l, l + SG ...
const RN = 1u;  // rows of b of a lane
const RA = (RM + SG - 1u) / SG;
// 1: b is a, and tiles are squares, RM = RN * SG: those below the diagonal are not computed but written with their mirror images.
const SYMMETRIC = 0u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> a : array<vec4f>;
@group(0) @binding(2) var<storage, read> b : array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;

@compute @workgroup_size(SG)
fn forward(@builtin(workgroup_id) group : vec3u, @builtin(num_workgroups) groups : vec3u, @builtin(subgroup_invocation_id) lane : u32) {
  let columns = params.columns / 4u;
  let blocks = (params.bRows + RN * SG - 1u) / (RN * SG);
  let tile = group.x + group.y * groups.x;
  var down = tile / blocks;
  var right = tile % blocks;
  if (SYMMETRIC == 1u) {
    // Row r of the upper triangle has blocks - r tiles: with row blocks - 1 - r it fills a line of blocks + 1.
    down = tile / (blocks + 1u);
    right = down + tile % (blocks + 1u);
    if (right >= blocks) {
      right = right - 1u - down;
      if (2u * down + 1u == blocks) { return; }  // the middle row has no partner
      down = blocks - 1u - down;
    }
  }
  let first = down * RM;
  if (first >= params.aRows) { return; }
  let column = right * RN * SG + lane;
  var row : array<u32, RA>;
  var other : array<u32, RN>;
  var sum : array<array<f32, RN>, RM>;
  for (var r = 0u; r < RA; r++) { // unroll
    row[r] = params.aOffset + min(first + min(r * SG + lane, RM - 1u), params.aRows - 1u) * params.aStride;
  }
  for (var j = 0u; j < RN; j++) { // unroll
    other[j] = params.bOffset + min(column + j * SG, params.bRows - 1u) * params.bStride;
  }
  for (var c = 0u; c < columns; c++) {
    var g : array<vec4f, RA>;
    var o : array<vec4f, RN>;
    for (var r = 0u; r < RA; r++) { // unroll
      g[r] = a[row[r] + c];
    }
    for (var j = 0u; j < RN; j++) { // unroll
      o[j] = b[other[j] + c];
    }
    for (var i = 0u; i < RM; i++) { // unroll
      let f = subgroupShuffle(g[i / SG], i % SG);
      for (var j = 0u; j < RN; j++) { // unroll
        let d = f - o[j];
        sum[i][j] = fma(d.w, d.w, fma(d.z, d.z, fma(d.y, d.y, fma(d.x, d.x, sum[i][j]))));
      }
    }
  }
  for (var i = 0u; i < RM; i++) { // unroll
    for (var j = 0u; j < RN; j++) { // unroll
      if (first + i < params.aRows && column + j * SG < params.bRows) { y[(first + i) * params.bRows + column + j * SG] = sum[i][j]; }
    }
  }
  if (SYMMETRIC == 1u && down != right) {
    for (var i = 0u; i < RM; i++) { // unroll
      for (var j = 0u; j < RN; j++) { // unroll
        if (first + i < params.aRows && column + j * SG < params.bRows) { y[(column + j * SG) * params.bRows + first + i] = sum[i][j]; }
      }
    }
  }
}
