/** A seeded stream of uniform values in (-1, 1), each exactly representable in f32. */
export function uniform(seed: number): () => number {
  let state = Math.imul(seed + 1, 2654435761) >>> 0;
  const next = () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 3266489917) >>> 0;
    return (state ^ (state >>> 13)) >>> 0;
  };
  for (let i = 0; i < 8; i++) next();
  return () => (2 * ((next() >>> 8) + 0.5)) / 2 ** 24 - 1;
}

/** Largest |actual - expected| as a fraction of the larger of `magnitude` and the largest |expected|. NaN or a wrong length gives Infinity and can never pass. */
export function worstError(actual: ArrayLike<number>, expected: ArrayLike<number>, magnitude = 0): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let largest = magnitude;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((actual[i] as number) - (expected[i] as number));
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
    largest = Math.max(largest, Math.abs(expected[i] as number));
  }
  return worst / (largest || 1);
}
