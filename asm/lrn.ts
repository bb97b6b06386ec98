// lrn: CPU twin of shaders/lrn.wgsl. Threads split the rows. Four channels at a time where beta is 0.75 and the window of all four lies
// inside the row, one at a time elsewhere.
import { power } from './exponential';
import { first, last, madd } from './vector';

/** s of channel `c` of the row at `xr`. */
function spread(xr: usize, c: u32, columns: u32, radius: u32, alphaOverSize: f32, k: f32): f32 {
  const end = min<u32>(c + radius + 1, columns);
  let sum: f32 = 0;
  for (let j = max<u32>(c, radius) - radius; j < end; j++) {
    const value = load<f32>(xr + (<usize>j << 2));
    sum += value * value;
  }
  return k + alphaOverSize * sum;
}

/** s^-beta. */
// @ts-ignore: decorator
@inline
function factor(s: f32, beta: f32): f32 {
  if (beta == <f32>0.75) {
    const r: f32 = <f32>1.0 / sqrt<f32>(s);
    return r * sqrt<f32>(r);
  }
  return power(s, -beta);
}

/** s of the four channels from `at` on; every neighbour exists. */
// @ts-ignore: decorator
@inline
function spread4(at: usize, radius: u32, alphaOverSize: v128, k: v128): v128 {
  let sum = f32x4.splat(0);
  let from = at - (<usize>radius << 2);
  for (let j: u32 = 0; j <= 2 * radius; j++) {
    const value = v128.load(from);
    sum = madd(value, value, sum);
    from += 4;
  }
  return madd(alphaOverSize, sum, k);
}

/** s^-0.75 of four. */
// @ts-ignore: decorator
@inline
function factor4(s: v128): v128 {
  const r = f32x4.div(f32x4.splat(1), f32x4.sqrt(s));
  return f32x4.mul(r, f32x4.sqrt(r));
}

/** One term of a window's sum of squares. */
// @ts-ignore: decorator
@inline
function square(value: v128, sum: v128): v128 {
  return madd(value, value, sum);
}

/** s of the four channels of `here`, whose windows of five reach into the fours before and after. */
// @ts-ignore: decorator
@inline
function spread5(before: v128, here: v128, after: v128, alphaOverSize: v128, k: v128): v128 {
  return madd(alphaOverSize, square(v128.shuffle<f32>(here, after, 2, 3, 4, 5), square(v128.shuffle<f32>(here, after, 1, 2, 3, 4), square(here,
    square(v128.shuffle<f32>(before, here, 3, 4, 5, 6), square(v128.shuffle<f32>(before, here, 2, 3, 4, 5), f32x4.splat(0)))))), k);
}

/** A row of a multiple of four channels, windows of five: what lies outside the row counts as zeros, so that its ends are vectors too. */
function lrnRow5(xr: usize, yr: usize, columns: u32, alphaOverSize: v128, k: v128): void {
  let before = f32x4.splat(0), here = v128.load(xr);
  for (let c: u32 = 4; c <= columns; c += 4) {
    xr += 16;
    const after = c < columns ? v128.load(xr) : f32x4.splat(0);
    v128.store(yr, f32x4.mul(here, factor4(spread5(before, here, after, alphaOverSize, k))));
    yr += 16;
    before = here;
    here = after;
  }
}

export function lrnForward(
  x: usize, xStride: u32, y: usize, yStride: u32, rows: u32, columns: u32, radius: u32, alphaOverSize: f32, beta: f32, k: f32,
  thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  const usual = beta == <f32>0.75;
  const alpha4 = f32x4.splat(alphaOverSize);
  const k4 = f32x4.splat(k);
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const yr = y + ((<usize>r * yStride) << 2);
    if (usual && radius == 2 && columns >= 4 && (columns & 3) == 0) {
      lrnRow5(xr, yr, columns, alpha4, k4);
      continue;
    }
    let c: u32 = 0;
    while (c < columns) {
      const at = <usize>c << 2;
      if (usual && c >= radius && c + 4 + radius <= columns) {
        v128.store(yr + at, f32x4.mul(v128.load(xr + at), factor4(spread4(xr + at, radius, alpha4, k4))));
        c += 4;
      } else {
        store<f32>(yr + at, load<f32>(xr + at) * factor(spread(xr, c, columns, radius, alphaOverSize, k), beta));
        c++;
      }
    }
  }
}

/**
 * The gradient of a row that lrnRow5 serves: dx = dy f - pull x (sum of t over the window), f = s^-0.75 and t = dy x f / s of a channel computed once. t
 * of the four behind are computed before the sums of these.
 */
function lrnGradientRow5(xr: usize, dyr: usize, dxr: usize, columns: u32, alphaOverSize: v128, k: v128, pull: v128): void {
  const zero = f32x4.splat(0);
  const end = xr + (<usize>columns << 2);
  let x0 = v128.load(xr), x1 = columns > 4 ? v128.load(xr, 16) : zero;
  let s = spread5(zero, x0, x1, alphaOverSize, k);
  let f = factor4(s);
  let own = f32x4.mul(v128.load(dyr), f);
  let tBefore = zero, t = f32x4.mul(f32x4.mul(own, x0), f32x4.div(f32x4.splat(1), s));
  for (; xr < end; xr += 16) {
    let ownAfter = zero, tAfter = zero, x2 = zero;
    if (xr + 16 < end) {
      if (xr + 32 < end) x2 = v128.load(xr, 32);
      s = spread5(x0, x1, x2, alphaOverSize, k);
      f = factor4(s);
      ownAfter = f32x4.mul(v128.load(dyr, 16), f);
      tAfter = f32x4.mul(f32x4.mul(ownAfter, x1), f32x4.div(f32x4.splat(1), s));
    }
    let sum = f32x4.add(v128.shuffle<f32>(tBefore, t, 2, 3, 4, 5), v128.shuffle<f32>(tBefore, t, 3, 4, 5, 6));
    sum = f32x4.add(f32x4.add(sum, t), v128.shuffle<f32>(t, tAfter, 1, 2, 3, 4));
    sum = f32x4.add(sum, v128.shuffle<f32>(t, tAfter, 2, 3, 4, 5));
    v128.store(dxr, f32x4.sub(own, f32x4.mul(f32x4.mul(pull, x0), sum)));
    dyr += 16;
    dxr += 16;
    x0 = x1;
    x1 = x2;
    own = ownAfter;
    tBefore = t;
    t = tAfter;
  }
}

export function lrnInputGradient(
  x: usize, xStride: u32, dy: usize, dyStride: u32, dx: usize, dxStride: u32, rows: u32, columns: u32, radius: u32,
  alphaOverSize: f32, beta: f32, k: f32, thread: u32, threads: u32,
): void {
  const end = last(rows, thread, threads);
  const usual = beta == <f32>0.75;
  const alpha4 = f32x4.splat(alphaOverSize);
  const k4 = f32x4.splat(k);
  const pull: f32 = <f32>2.0 * beta * alphaOverSize;
  for (let r = first(rows, thread, threads); r < end; r++) {
    const xr = x + ((<usize>r * xStride) << 2);
    const dyr = dy + ((<usize>r * dyStride) << 2);
    const dxr = dx + ((<usize>r * dxStride) << 2);
    if (usual && radius == 2 && columns >= 4 && (columns & 3) == 0) {
      lrnGradientRow5(xr, dyr, dxr, columns, alpha4, k4, f32x4.splat(pull));
      continue;
    }
    let c: u32 = 0;
    while (c < columns) {
      const at = <usize>c << 2;
      if (usual && c >= 2 * radius && c + 4 + 2 * radius <= columns) {
        let sum = f32x4.splat(0);
        let j = at - (<usize>radius << 2);
        for (let i: u32 = 0; i <= 2 * radius; i++) {
          const s = spread4(xr + j, radius, alpha4, k4);
          sum = madd(f32x4.mul(v128.load(dyr + j), v128.load(xr + j)), f32x4.div(factor4(s), s), sum);
          j += 4;
        }
        const own = f32x4.mul(v128.load(dyr + at), factor4(spread4(xr + at, radius, alpha4, k4)));
        v128.store(dxr + at, f32x4.sub(own, f32x4.mul(f32x4.mul(f32x4.splat(pull), v128.load(xr + at)), sum)));
        c += 4;
      } else {
        let sum: f32 = 0;
        const jEnd = min<u32>(c + radius + 1, columns);
        for (let j = max<u32>(c, radius) - radius; j < jEnd; j++) {
          const s = spread(xr, j, columns, radius, alphaOverSize, k);
          sum += load<f32>(dyr + (<usize>j << 2)) * load<f32>(xr + (<usize>j << 2)) * (factor(s, beta) / s);
        }
        const own: f32 = load<f32>(dyr + at) * factor(spread(xr, c, columns, radius, alphaOverSize, k), beta);
        store<f32>(dxr + at, own - pull * load<f32>(xr + at) * sum);
        c++;
      }
    }
  }
}
