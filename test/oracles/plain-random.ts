/** Deterministic 32-bit generator for tests (xorshift with a Weyl step): `next(n)` is an integer in 0..n-1. */
export function generator(seed: number): (limit: number) => number {
  let x = seed | 1;
  let w = 0;
  return (limit) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    w = (w + 0x9e3779b9) | 0;
    return ((x + w) >>> 0) % limit;
  };
}
