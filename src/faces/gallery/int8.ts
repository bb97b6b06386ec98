import { FaceNetError } from '../../errors.ts';
import { checkUnitVectors, squaredDistance, type VectorSet, vectorAt } from '../distance.ts';
import { evaluateAllPairs } from '../evaluation/all-pairs.ts';

/**
 * Templates of one byte a number (the paper, section 4: 128 bytes without loss of accuracy). The largest number of a vector becomes 127 or
 * -127; `scales` brings a row back to length 1, so the bytes alone say everything: 128 bytes a face of 128 dimensions.
 */
export interface Int8Vectors {
  readonly data: Int8Array;
  /** 1 / length of each row of bytes. */
  readonly scales: Float32Array;
  readonly count: number;
  readonly dimensions: number;
}

/** Rounds unit vectors to bytes. Throws 'input' for rows that are no unit vectors. */
export function quantise(vectors: VectorSet): Int8Vectors {
  checkUnitVectors(vectors);
  const { count, dimensions } = vectors;
  const data = new Int8Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    const vector = vectorAt(vectors, row);
    let largest = 0;
    for (const value of vector) largest = Math.max(largest, Math.abs(value));
    for (let i = 0; i < dimensions; i++) data[row * dimensions + i] = Math.round((vector[i]! * 127) / largest);
  }
  return { data, scales: int8Scales(data, count, dimensions), count, dimensions };
}

/** The scales that belong to rows of bytes. Throws 'input' for a row of zeros. */
export function int8Scales(data: Int8Array, count: number, dimensions: number): Float32Array {
  const scales = new Float32Array(count);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) square += data[i]! * data[i]!;
    if (square === 0)
      throw new FaceNetError(
        'input',
        `int8 templates: rows must not be zero, got zeros at row ${row}. Embed this face again.`,
        { index: row },
      );
    scales[row] = 1 / Math.sqrt(square);
  }
  return scales;
}

/** The unit vectors that the bytes stand for. */
export function dequantise({ data, scales, count, dimensions }: Int8Vectors): Float32Array {
  const vectors = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) vectors[i] = data[i]! * scales[row]!;
  }
  return vectors;
}

export interface Int8Loss {
  /** Squared distance of a vector from its rounded self. */
  readonly meanDistance: number;
  readonly largestDistance: number;
  /** VAL at each FAR with float32 vectors and with int8 ones on both sides of every pair. Empty without labels. */
  readonly valAtFar: { readonly targetFar: number; readonly float32: number; readonly int8: number }[];
  readonly bytes: { readonly float32: number; readonly int8: number };
}

/** Measures what rounding to bytes costs on faces of one's own; with labels also in VAL at FAR over all pairs. */
export async function int8Loss(
  vectors: VectorSet,
  labels?: ArrayLike<number | string>,
  fars: readonly number[] = [1e-1, 1e-2, 1e-3],
): Promise<Int8Loss> {
  if (vectors.count === 0)
    throw new FaceNetError('input', 'int8 loss: needs at least one vector, got none. Embed some faces first.');
  const rounded: VectorSet = {
    data: dequantise(quantise(vectors)),
    count: vectors.count,
    dimensions: vectors.dimensions,
  };
  let sum = 0;
  let largest = 0;
  for (let row = 0; row < vectors.count; row++) {
    const distance = squaredDistance(vectorAt(vectors, row), vectorAt(rounded, row));
    sum += distance;
    largest = Math.max(largest, distance);
  }
  const [before, after] = labels
    ? [
        await evaluateAllPairs(vectors, labels, { fars, intervals: false }),
        await evaluateAllPairs(rounded, labels, { fars, intervals: false }),
      ]
    : [null, null];
  return {
    meanDistance: sum / vectors.count,
    largestDistance: largest,
    valAtFar: before
      ? before.valAtFar.map(({ targetFar, val }, i) => ({ targetFar, float32: val, int8: after!.valAtFar[i]!.val }))
      : [],
    bytes: { float32: 4 * vectors.dimensions, int8: vectors.dimensions },
  };
}
