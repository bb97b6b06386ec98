import { FaceNetError } from '../errors.ts';

/** Rows of `dimensions` numbers, one after the other: what `teacher` of the train options takes. */
export interface Targets {
  readonly data: Float32Array;
  readonly dimensions: number;
}

/**
 * Eigenvalues, largest first, and eigenvectors (row i belongs to value i) of a symmetric matrix [n, n], by cyclic Jacobi rotations in
 * float64 (Golub, Van Loan, "Matrix Computations", section 8.5). The sign of a vector is such that its largest component is positive.
 * @throws 'input' for a matrix that is not symmetric or not finite.
 */
export function symmetricEigen(matrix: Float64Array, n: number): { values: Float64Array; vectors: Float64Array } {
  const a = Float64Array.from(matrix);
  const scale = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      if (!(Math.abs((a[i * n + j] as number) - (a[j * n + i] as number)) <= 1e-9 * scale)) {
        throw new FaceNetError(
          'input',
          `eigen: the matrix must be finite and symmetric, got ${a[i * n + j]} and ${a[j * n + i]} at (${i}, ${j}).`,
        );
      }
    }
  }
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) off = Math.max(off, Math.abs(a[i * n + j] as number));
    if (off <= 1e-15 * scale) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q] as number;
        if (apq === 0) continue;
        const theta = ((a[q * n + q] as number) - (a[p * n + p] as number)) / (2 * apq);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) turn(a, k * n + p, k * n + q, c, s);
        for (let k = 0; k < n; k++) turn(a, p * n + k, q * n + k, c, s);
        for (let k = 0; k < n; k++) turn(v, p * n + k, q * n + k, c, s);
      }
    }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort(
    (i, j) => (a[j * n + j] as number) - (a[i * n + i] as number),
  );
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    const row = v.subarray(from * n, (from + 1) * n);
    const largest = row.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    vectors.set(largest < 0 ? row.map((value) => -value) : row, to * n);
  });
  return { values: Float64Array.from(order, (i) => a[i * n + i] as number), vectors };
}

function turn(m: Float64Array, i: number, j: number, c: number, s: number): void {
  const x = m[i] as number;
  const y = m[j] as number;
  m[i] = c * x - s * y;
  m[j] = s * x + c * y;
}

/**
 * Targets for distillation out of a teacher's embeddings: each row to length 1, less the mean, along the principal axes, divided by
 * eigenvalue^power, to length 1 again. Embeddings of faces share a large mean, and a few directions hold most of the
 * variance; a student that regresses to them as they are learns those few first. Power 0.25 is halfway between none and full whitening (0.5).
 * @throws 'input' for fewer rows than two, or numbers that are not finite.
 */
export function whitenedTargets(embeddings: Float32Array, dimensions: number, power = 0.25): Targets {
  const rows = embeddings.length / dimensions;
  if (!(Number.isInteger(rows) && rows >= 2))
    throw new FaceNetError('input', `targets: two rows of ${dimensions} numbers or more are needed, got ${rows}.`);
  if (!embeddings.every(Number.isFinite))
    throw new FaceNetError('input', 'targets: embeddings must be finite, got one that is not.');
  const unit = Float64Array.from(embeddings);
  for (let row = 0; row < rows; row++) toLengthOne(unit.subarray(row * dimensions, (row + 1) * dimensions));
  const mean = new Float64Array(dimensions);
  unit.forEach((value, i) => {
    mean[i % dimensions] = (mean[i % dimensions] as number) + value / rows;
  });
  unit.forEach((value, i) => {
    unit[i] = value - (mean[i % dimensions] as number);
  });
  const covariance = new Float64Array(dimensions * dimensions);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < dimensions; i++) {
      const x = (unit[row * dimensions + i] as number) / rows;
      for (let j = 0; j < dimensions; j++)
        covariance[i * dimensions + j] =
          (covariance[i * dimensions + j] as number) + x * (unit[row * dimensions + j] as number);
    }
  }
  const { values, vectors } = symmetricEigen(covariance, dimensions);
  // Axes without variance (fewer rows than dimensions) carry nothing but rounding.
  const least = (values[0] as number) * 1e-6;
  const data = new Float32Array(rows * dimensions);
  const target = new Float64Array(dimensions);
  for (let row = 0; row < rows; row++) {
    for (let axis = 0; axis < dimensions; axis++) {
      let along = 0;
      for (let i = 0; i < dimensions; i++)
        along += (vectors[axis * dimensions + i] as number) * (unit[row * dimensions + i] as number);
      target[axis] =
        (values[axis] as number) > least ? along / Math.sqrt(Math.sqrt(values[axis] as number)) ** (4 * power) : 0;
    }
    toLengthOne(target);
    data.set(target, row * dimensions);
  }
  return { data, dimensions };
}

function toLengthOne(row: Float64Array): void {
  const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  if (length > 0)
    row.forEach((value, i) => {
      row[i] = value / length;
    });
}
