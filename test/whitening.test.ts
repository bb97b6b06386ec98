// Principal axes and half-whitened targets for distillation.
// area: training
// on: none
import { describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { symmetricEigen, whitenedTargets } from '../src/train/whitening.ts';

const random = (seed: number) => {
  const source = new Philox(seed, 1);
  return () => source.uniform() - 0.5;
};

describe('eigenvalues of a symmetric matrix', () => {
  test('of [[2, 1], [1, 2]]: 3 along (1, 1), 1 along (1, -1)', () => {
    const { values, vectors } = symmetricEigen(Float64Array.of(2, 1, 1, 2), 2);
    expect([...values]).toEqual([expect.closeTo(3, 14), expect.closeTo(1, 14)]);
    expect(vectors[0]).toBeCloseTo(Math.SQRT1_2, 14);
    expect(vectors[1]).toBeCloseTo(Math.SQRT1_2, 14);
    expect((vectors[2] as number) * (vectors[3] as number)).toBeCloseTo(-0.5, 14);
  });

  test('A v = value v, vectors orthonormal, trace kept, for a matrix of 40', () => {
    const n = 40;
    const next = random(3);
    const a = new Float64Array(n * n);
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = next();
    const { values, vectors } = symmetricEigen(a, n);
    const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
    const vector = (i: number) => vectors.subarray(i * n, (i + 1) * n);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < n; k++)
        expect(dot(a.subarray(k * n, (k + 1) * n), vector(i))).toBeCloseTo(values[i]! * vector(i)[k]!, 12);
      for (let j = 0; j <= i; j++) expect(dot(vector(i), vector(j))).toBeCloseTo(i === j ? 1 : 0, 12);
      if (i > 0) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!);
    }
    expect(values.reduce((sum, value) => sum + value, 0)).toBeCloseTo(
      a.reduce((sum, value, at) => sum + (at % (n + 1) === 0 ? value : 0), 0),
      12,
    );
  });

  test('refuses what is not symmetric', () =>
    expect(() => symmetricEigen(Float64Array.of(1, 2, 3, 4), 2)).toThrow('symmetric'));
});

describe('whitened targets', () => {
  /** Rows with a large mean and variances that fall by half from axis to axis, as embeddings have. */
  const rows = 400;
  const next = random(9);
  const embeddings = Float32Array.from({ length: rows * 8 }, (_, i) => 3 + 2 ** -(i % 8) * next());
  const spectrum = (data: ArrayLike<number>) => {
    const c = new Float64Array(64);
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < 8; i++)
        for (let j = 0; j < 8; j++) c[i * 8 + j]! += (data[row * 8 + i]! * data[row * 8 + j]!) / rows;
    return { c, values: symmetricEigen(c, 8).values };
  };

  test('rows have length 1, axes are uncorrelated before the last normalisation, and the spectrum is flatter the higher the power', () => {
    const ratio = (power: number) => {
      const { data } = whitenedTargets(embeddings, 8, power);
      for (let row = 0; row < rows; row++) expect(Math.hypot(...data.subarray(row * 8, row * 8 + 8))).toBeCloseTo(1, 6);
      const { values } = spectrum(data);
      return values[0]! / values[6]!;
    };
    const [none, half, full] = [ratio(0), ratio(0.25), ratio(0.5)];
    expect(none).toBeGreaterThan(3 * half);
    expect(half).toBeGreaterThan(3 * full);
    expect(full).toBeLessThan(2.5);
  });

  test('few rows leave the empty axes at 0', () => {
    const { data } = whitenedTargets(embeddings.subarray(0, 24), 8);
    expect(data.every(Number.isFinite)).toBe(true);
    for (let row = 0; row < 3; row++)
      expect(Math.max(...data.subarray(row * 8 + 2, row * 8 + 8).map(Math.abs))).toBe(0);
  });

  test('refuses one row, and numbers that are none', () => {
    expect(() => whitenedTargets(embeddings.subarray(0, 8), 8)).toThrow('two rows');
    expect(() => whitenedTargets(Float32Array.of(1, Number.NaN, 1, 2), 2)).toThrow('finite');
  });
});
