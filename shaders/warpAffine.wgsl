// warpAffine: an aligned crop of each image, by bilinear sampling, then y = byte * scale + shift.
//
//   y[n, oy, ox, c] = scale_c * mean over samples of image(a ox' + b oy' + tx, c ox' + d oy' + ty)[c] + shift_c
//
// Shapes: images: bytes, packed four to a word; placements [batch, 12] f32: start in words, width, height, bytes per pixel, a, b, tx,
// c, d, ty, unused, unused; y [batch, height, width, 3]. Integer coordinates are pixel centres. `samples` x `samples` points are
// spread over each output pixel. Outside an image: black, or its nearest pixel (edge = 1).

struct Params { batch : u32, height : u32, width : u32, edge : u32, samples : u32, yStride : u32, yOffset : u32,
                scale0 : f32, scale1 : f32, scale2 : f32, shift0 : f32, shift1 : f32, shift2 : f32 }

const PLACEMENT = 12u;
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> images : array<u32>;
@group(0) @binding(2) var<storage, read> placements : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;

struct Source { start : u32, width : i32, height : i32, pixelBytes : u32 }

// RGB of pixel (px, py), 0..255. A pixel of three bytes may lie across two words.
fn pixel(source : Source, px : i32, py : i32) -> vec3f {
  let x = clamp(px, 0, source.width - 1);
  let y = clamp(py, 0, source.height - 1);
  if (params.edge == 0u && (x != px || y != py)) { return vec3f(); }
  let byte = u32(y * source.width + x) * source.pixelBytes;
  let word = source.start + byte / 4u;
  let shift = (byte % 4u) * 8u;
  var bits = images[word] >> shift;
  if (shift > 8u) { bits |= images[word + 1u] << (32u - shift); }
  return vec3f(f32(bits & 255u), f32((bits >> 8u) & 255u), f32((bits >> 16u) & 255u));
}

fn bilinear(source : Source, at : vec2f) -> vec3f {
  // Beyond one pixel outside nothing changes any more; also keeps huge coordinates inside the range of i32.
  let p = clamp(at, vec2f(-2.0), vec2f(f32(source.width) + 1.0, f32(source.height) + 1.0));
  let corner = floor(p);
  let part = p - corner;
  let x = i32(corner.x);
  let y = i32(corner.y);
  let top = mix(pixel(source, x, y), pixel(source, x + 1, y), part.x);
  let bottom = mix(pixel(source, x, y + 1), pixel(source, x + 1, y + 1), part.x);
  return mix(top, bottom, part.y);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let perImage = params.height * params.width;
  for (var i = id.x; i < params.batch * perImage; i += groups.x * LANES) {
    let row = (i / perImage) * PLACEMENT;
    let oy = f32((i % perImage) / params.width);
    let ox = f32(i % params.width);
    let source = Source(u32(placements[row]), i32(placements[row + 1u]), i32(placements[row + 2u]), u32(placements[row + 3u]));
    let step = 1.0 / f32(params.samples);
    var sum = vec3f();
    for (var sy = 0u; sy < params.samples; sy++) {
      let v = oy + ((f32(sy) + 0.5) * step - 0.5);
      for (var sx = 0u; sx < params.samples; sx++) {
        let u = ox + ((f32(sx) + 0.5) * step - 0.5);
        sum += bilinear(source, vec2f(
          placements[row + 4u] * u + placements[row + 5u] * v + placements[row + 6u],
          placements[row + 7u] * u + placements[row + 8u] * v + placements[row + 9u]));
      }
    }
    let mean = sum * (step * step);
    let at = params.yOffset + i * params.yStride;
    y[at] = mean.x * params.scale0 + params.shift0;
    y[at + 1u] = mean.y * params.scale1 + params.shift1;
    y[at + 2u] = mean.z * params.scale2 + params.shift2;
  }
}
