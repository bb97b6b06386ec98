// Words of two float16.
//
// Halves become floats by moving exponent and fraction to their places in a float, then times 2^112: exact, subnormals included, for finite halves.

/** 2^112. */
export const REBIAS: f32 = reinterpret<f32>(0x77800000);

/** The low halves of four words. */
// @ts-ignore: decorator
@inline
export function low(w: v128, rebias: v128): v128 {
  const magnitude = f32x4.mul(i32x4.shl(v128.and(w, i32x4.splat(0x7fff)), 13), rebias);
  return v128.or(magnitude, i32x4.shl(v128.and(w, i32x4.splat(0x8000)), 16));
}

/** The high halves of four words. */
// @ts-ignore: decorator
@inline
export function high(w: v128, rebias: v128): v128 {
  const magnitude = f32x4.mul(v128.and(i32x4.shr_u(w, 3), i32x4.splat(0x0fffe000)), rebias);
  return v128.or(magnitude, v128.and(w, i32x4.splat(0x80000000)));
}
