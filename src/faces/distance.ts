import { FaceNetError } from '../errors.ts';

/** `count` vectors of `dimensions` numbers, row by row: data.length = count * dimensions. Embeddings are one of these. */
export interface VectorSet {
  readonly data: Float32Array | Float64Array;
  readonly count: number;
  readonly dimensions: number;
}

/** A list of numbers of any kind that can be read by index. */
export type NumberList = Float32Array | Float64Array | readonly number[];

/** How far a unit vector's squared length may be from 1: float32 and int8 rounding pass, vectors never normalised do not. */
const lengthTolerance = 1e-2;

/** No matrix of distances larger than this is made. */
export const largestMatrixBytes = 64 * 2 ** 20;

/**
 * Squared L2 distance, summed in float64 over the differences in index order: never negative, exactly 0 for equal vectors,
 * the same bits for (a, b) and (b, a). In [0, 4] for unit vectors: rounding past 4 is cut. Throws 'mismatch' for different
 * lengths and 'input' when a value is not finite.
 */
export function squaredDistance(a: NumberList, b: NumberList): number {
  if (a.length !== b.length || a.length === 0) {
    throw new FaceNetError(
      'mismatch',
      `distance: both vectors must have the same length above 0, got ${a.length} and ${b.length}. Embed both with one model.`,
    );
  }
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    sum += difference * difference;
  }
  if (!Number.isFinite(sum)) {
    const index = a.findIndex((_: number, i: number) => !Number.isFinite(a[i]! - b[i]!));
    throw new FaceNetError(
      'input',
      `distance: vectors must hold finite numbers, got ${a[index]} and ${b[index]} at index ${index}. Leave this face out.`,
      { index },
    );
  }
  return cut(sum);
}

/** Cuts what rounding puts above 4, the squared distance of opposite unit vectors. Larger values stay: the vectors were not unit. */
function cut(squared: number): number {
  return squared > 4 && squared < 4 + 4 * lengthTolerance ? 4 : squared;
}

/**
 * Checks a set: lengths that fit together, finite values, rows of length 1 within 1 %. Throws 'input' with
 * the row in `.index`. Zero vectors are not unit vectors and so are refused.
 */
export function checkUnitVectors(vectors: VectorSet, subject = 'embeddings'): void {
  const { data, count, dimensions } = vectors;
  if (
    !Number.isInteger(count) ||
    count < 0 ||
    !Number.isInteger(dimensions) ||
    dimensions < 1 ||
    data.length !== count * dimensions
  ) {
    throw new FaceNetError(
      'input',
      `${subject}: data must hold count x dimensions numbers, got ${data.length} for ${count} x ${dimensions}. Pass the object that embed() gave.`,
    );
  }
  for (let row = 0; row < count; row++) {
    let length = 0;
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) length += data[i]! * data[i]!;
    if (!(Math.abs(length - 1) <= lengthTolerance)) {
      throw new FaceNetError(
        'input',
        `${subject}: rows must be unit vectors of finite numbers, got squared length ${length} at row ${row}. Normalise the vectors, or leave this one out.`,
        { index: row },
      );
    }
  }
}

/** Row `index` as a view. */
export function vectorAt({ data, dimensions }: VectorSet, index: number): Float32Array | Float64Array {
  return data.subarray(index * dimensions, (index + 1) * dimensions);
}

/**
 * Squared distances of row `row` of `a` to rows from .. to - 1 of `b`, into `out[0 .. to - from - 1]`. The bits are those of
 * squaredDistance(). Not checked: call checkUnitVectors() once first.
 */
export function distancesToRow(
  a: VectorSet,
  row: number,
  b: VectorSet,
  from: number,
  to: number,
  out: Float32Array | Float64Array,
): void {
  const d = a.dimensions;
  const x = a.data;
  const y = b.data;
  const base = row * d;
  let j = from;
  // Four sums at a time: each keeps its own order, and the additions no longer wait for one another.
  for (; j + 4 <= to; j += 4) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    let p0 = j * d;
    let p1 = p0 + d;
    let p2 = p1 + d;
    let p3 = p2 + d;
    for (let k = base; k < base + d; k++) {
      const value = x[k]!;
      const e0 = value - y[p0++]!;
      const e1 = value - y[p1++]!;
      const e2 = value - y[p2++]!;
      const e3 = value - y[p3++]!;
      s0 += e0 * e0;
      s1 += e1 * e1;
      s2 += e2 * e2;
      s3 += e3 * e3;
    }
    out[j - from] = cut(s0);
    out[j - from + 1] = cut(s1);
    out[j - from + 2] = cut(s2);
    out[j - from + 3] = cut(s3);
  }
  for (; j < to; j++) {
    let sum = 0;
    let p = j * d;
    for (let k = base; k < base + d; k++) {
      const difference = x[k]! - y[p++]!;
      sum += difference * difference;
    }
    out[j - from] = cut(sum);
  }
}

/**
 * Gives squared distances of rows first .. last - 1 to all rows, row by row: (last - first) x count values. May come from a device; only
 * those right of the diagonal are read, and the same values must come when it is asked again.
 */
export type DistanceRows = (first: number, last: number) => ArrayLike<number> | Promise<ArrayLike<number>>;

/** DistanceRows by float64 differences on the host, right of the diagonal only. The block given is overwritten by the next call. */
export function hostRows(vectors: VectorSet): DistanceRows {
  const { count } = vectors;
  let block = new Float64Array(0);
  return (first, last) => {
    if (block.length < (last - first) * count) block = new Float64Array((last - first) * count);
    for (let i = first; i < last; i++)
      distancesToRow(vectors, i, vectors, i, count, block.subarray((i - first) * count + i, (i - first + 1) * count));
    return block;
  };
}

/**
 * All squared distances, a.count rows by b.count columns. With one argument the matrix is symmetric bit for bit, its
 * diagonal 0. Throws 'input' for rows that are no unit vectors, 'mismatch' for different dimensions, 'memory' above 64 MiB.
 */
export function distanceMatrix(a: VectorSet, b: VectorSet = a): Float64Array {
  checkUnitVectors(a);
  if (b !== a) checkUnitVectors(b);
  checkDimensions(a, b);
  const bytes = a.count * b.count * 8;
  if (bytes > largestMatrixBytes) {
    throw new FaceNetError(
      'memory',
      `distance matrix: must stay within ${largestMatrixBytes} bytes, got ${bytes} for ${a.count} x ${b.count}. Use search, clustering or evaluateAllPairs(), which need no matrix.`,
    );
  }
  const matrix = new Float64Array(a.count * b.count);
  for (let i = 0; i < a.count; i++)
    distancesToRow(a, i, b, 0, b.count, matrix.subarray(i * b.count, (i + 1) * b.count));
  return matrix;
}

/**
 * Distance of two sets of images of faces (the frames of two videos): the mean of the squared distances over all pairs,
 * which is how the paper scores YouTube Faces (section 5.7, the first 100 frames of each). Throws 'input' for an empty set.
 */
export function setDistance(a: VectorSet, b: VectorSet): number {
  checkUnitVectors(a);
  checkUnitVectors(b);
  checkDimensions(a, b);
  if (a.count === 0 || b.count === 0) {
    throw new FaceNetError(
      'input',
      `set distance: both sets must hold a face, got ${a.count} and ${b.count}. Leave empty sets out.`,
    );
  }
  const row = new Float64Array(b.count);
  let sum = 0;
  for (let i = 0; i < a.count; i++) {
    distancesToRow(a, i, b, 0, b.count, row);
    for (const distance of row) sum += distance;
  }
  return sum / (a.count * b.count);
}

function checkDimensions(a: VectorSet, b: VectorSet): void {
  if (a.dimensions !== b.dimensions) {
    throw new FaceNetError(
      'mismatch',
      `distance: both sets must have the same dimensions, got ${a.dimensions} and ${b.dimensions}. Embed both with one model.`,
    );
  }
}
