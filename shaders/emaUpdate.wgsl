// emaUpdate: a = a + (1 - share that stays) (value - a), in place.
//
// Shapes: updated (the average), value [elements] f32; settings [8] f32 (updateSettings in src/ops/sgdUpdate.ts): 7 the share.

struct Params { elements : u32 }

override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read_write> updated : array<f32>;
@group(0) @binding(2) var<storage, read> value : array<f32>;
@group(0) @binding(3) var<storage, read> settings : array<f32>;

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  for (var i = id.x; i < params.elements; i += groups.x * LANES) {
    updated[i] = updated[i] + (1.0 - settings[7]) * (value[i] - updated[i]);
  }
}
