// Exponential functions for the twins. Own polynomials: the compiler's Mathf keeps tables in static data, which the kernels may not have.

/** Reads x only where exp(x) is a normal float; smaller results are 0. */
const LEAST: f32 = -87.3;

/** exp(x) per lane for x <= 88, relative error below 4 * 2^-24; 0 below -87.3, where the result is under 1.3e-38. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, the first with zeros in its last bits so that n times it is exact.
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504)));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693145752)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(1.42860677e-6)));
  // Taylor's series to r^7; the rest is below 6e-9.
  let p = f32x4.splat(1.0 / 5040.0);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 720.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 120.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 24.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 6.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.5));
  p = f32x4.add(f32x4.mul(f32x4.mul(p, r), r), f32x4.add(r, f32x4.splat(1)));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return v128.and(f32x4.mul(p, power), f32x4.ge(x, f32x4.splat(LEAST)));
}

/** base^exponent for base > 0, correctly rounded but for a few cases: computed in f64. Infinity and 0 beyond the range of f32. */
export function power(base: f32, exponent: f32): f32 {
  // base = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(t), t = (m - 1) / (m + 1), |t| < 0.172.
  const bits = reinterpret<i64>(<f64>base);
  const e = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const m = reinterpret<f64>(bits - (e << 52));
  const t = (m - 1.0) / (m + 1.0);
  const q = t * t;
  const series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0)))));
  const logarithm = <f64>e * 0.6931471805599453 + 2.0 * t * series;
  const x = min<f64>(max<f64>(logarithm * <f64>exponent, -700.0), 700.0);
  const n = nearest<f64>(x * 1.4426950408889634);
  const r = x - n * 0.6931471805599453;
  let p = 1.0 + r * (1.0 / 9.0);
  for (let k: f64 = 8.0; k > 0.0; k -= 1.0) p = 1.0 + r * p / k;
  return <f32>(p * reinterpret<f64>((<i64>n + 1023) << 52));
}
