// areaCrop: rectangles of images, resized by the mean of all pixels touched, then y = mean * scale + shift.
//
//   y[n, oy, ox, c] = scale * mean of image(x, y)[c] over the pixels of the rectangle that output pixel (ox, oy) touches + shift
//
// Shapes: images: bytes, packed four to a word; placements [batch, 12] f32: left, top, width, height of the rectangle, columns and rows it
// is resized to, first column and row shown, width, height and bytes per pixel of the image, start in words; y [batch, height, width, 3].
// Outside an image: black. Sums are whole numbers, so their order does not matter.

struct Params { batch : u32, height : u32, width : u32, yStride : u32, yOffset : u32, scale : f32, shift : f32 }

const PLACEMENT = 12u;
override LANES : u32 = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> images : array<u32>;
@group(0) @binding(2) var<storage, read> placements : array<f32>;
@group(0) @binding(3) var<storage, read_write> y : array<f32>;

// First and one past the last of `source` lines that line `o` of `count` touches.
fn span(o : u32, source : u32, count : u32) -> vec2i {
  return vec2i(i32(o * source / count), i32(((o + 1u) * source - 1u) / count + 1u));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) id : vec3u, @builtin(num_workgroups) groups : vec3u) {
  let perImage = params.height * params.width;
  for (var i = id.x; i < params.batch * perImage; i += groups.x * LANES) {
    let row = (i / perImage) * PLACEMENT;
    let corner = vec2i(i32(placements[row]), i32(placements[row + 1u]));
    let source = vec2u(u32(placements[row + 2u]), u32(placements[row + 3u]));
    let count = vec2u(u32(placements[row + 4u]), u32(placements[row + 5u]));
    let shown = vec2u(u32(placements[row + 6u]), u32(placements[row + 7u]));
    let size = vec2i(i32(placements[row + 8u]), i32(placements[row + 9u]));
    let pixelBytes = u32(placements[row + 10u]);
    let start = u32(placements[row + 11u]);
    let at = min(shown + vec2u(i % params.width, (i % perImage) / params.width), count - 1u);
    let columns = span(at.x, source.x, count.x);
    let rows = span(at.y, source.y, count.y);
    let right = min(corner.x + columns.y, size.x);
    let bottom = min(corner.y + rows.y, size.y);
    var sum = vec3u();
    for (var py = max(corner.y + rows.x, 0); py < bottom; py++) {
      for (var px = max(corner.x + columns.x, 0); px < right; px++) {
        let byte = u32(py * size.x + px) * pixelBytes;
        let word = start + byte / 4u;
        let shift = (byte % 4u) * 8u;
        var bits = images[word] >> shift;
        if (shift > 8u) { bits |= images[word + 1u] << (32u - shift); }
        sum += vec3u(bits & 255u, (bits >> 8u) & 255u, (bits >> 16u) & 255u);
      }
    }
    let mean = vec3f(sum) / f32((columns.y - columns.x) * (rows.y - rows.x));
    let out = params.yOffset + i * params.yStride;
    y[out] = mean.x * params.scale + params.shift;
    y[out + 1u] = mean.y * params.scale + params.shift;
    y[out + 2u] = mean.z * params.scale + params.shift;
  }
}
