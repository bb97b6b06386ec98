// What one core gives in WebAssembly: twelve independent chains of multiply-add in registers, and the copy of a buffer far larger than
// any cache. AssemblyScript, compiled by bench/ceilings.ts.

// @ts-ignore: decorator
@inline
function step(a: v128, x: v128, y: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, x, y);
  else return f32x4.add(f32x4.mul(a, x), y);
}

/** `rounds` x 96 operations of four lanes, each a multiplication and an addition that cannot be hoisted. The result keeps them alive. */
export function multiplyAdds(rounds: u32, seed: f32): f32 {
  const x = f32x4.splat(seed), y = f32x4.splat(1 - seed);
  let a = x, b = y, c = x, d = y, e = x, f = y, g = x, h = y, i = x, j = y, k = x, l = y;
  for (let r = rounds * 8; r; r--) {
    a = step(a, x, y); b = step(b, x, y); c = step(c, x, y); d = step(d, x, y); e = step(e, x, y); f = step(f, x, y);
    g = step(g, x, y); h = step(h, x, y); i = step(i, x, y); j = step(j, x, y); k = step(k, x, y); l = step(l, x, y);
  }
  const sum = f32x4.add(
    f32x4.add(f32x4.add(a, b), f32x4.add(c, d)),
    f32x4.add(f32x4.add(f32x4.add(e, f), f32x4.add(g, h)), f32x4.add(f32x4.add(i, j), f32x4.add(k, l))),
  );
  return f32x4.extract_lane(sum, 0);
}

/** Copies `bytes` (a multiple of 64). */
export function copy(from: usize, to: usize, bytes: u32): void {
  for (const end = from + bytes; from < end; from += 64, to += 64) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
    v128.store(to, v128.load(from, 32), 32);
    v128.store(to, v128.load(from, 48), 48);
  }
}
