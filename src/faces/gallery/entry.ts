import { FaceNetError } from '../../errors.ts';

/** One template of one person. Several entries may bear one label. */
export interface Entry {
  readonly id: string;
  readonly label: string;
  /** A unit vector. */
  readonly vector: Float32Array;
  readonly meta?: Record<string, string>;
}

/** The longest label, in UTF-16 units. */
export const longestLabel = 4096;

/**
 * A label is kept code point for code point and is one person. Throws 'input' for one that is empty, blank, too long, holds NUL or half a
 * surrogate pair. Error texts never repeat a label.
 */
export function checkLabel(label: unknown): asserts label is string {
  const refuse = (rule: string, got: string) =>
    new FaceNetError('input', `label: ${rule}, got ${got}. Give the person another name.`);
  if (typeof label !== 'string') throw refuse('must be a text', typeof label);
  if (label.trim() === '') throw refuse('must not be empty or blank', `${label.length} blank characters`);
  if (label.length > longestLabel) throw refuse(`must have at most ${longestLabel} characters`, `${label.length}`);
  if (label.includes('\0')) throw refuse('must not hold the character NUL', `one at ${label.indexOf('\0')}`);
  const half = label.search(/\p{Surrogate}/u);
  if (half >= 0) throw refuse('must be well-formed Unicode', `half a surrogate pair at ${half}`);
}

/** Copies meta data. Throws 'input' unless keys and values are texts. */
export function checkedMeta(meta: unknown): Record<string, string> | undefined {
  if (meta === undefined) return undefined;
  if (typeof meta !== 'object' || meta === null || Array.isArray(meta)) {
    throw new FaceNetError(
      'input',
      `meta: must be an object of texts, got ${meta === null ? 'null' : typeof meta}. Give { key: 'text' }.`,
    );
  }
  const pairs = Object.entries(meta as Record<string, unknown>);
  for (const [, value] of pairs) {
    if (typeof value !== 'string')
      throw new FaceNetError('input', `meta: values must be texts, got ${typeof value}. Give { key: 'text' }.`);
  }
  // fromEntries defines keys such as __proto__ like any other.
  return Object.fromEntries(pairs as [string, string][]);
}

/**
 * Reads a template that went through JSON: a list of numbers, or the object { "0": ..., "1": ... } that JSON.stringify makes of a
 * Float32Array. Throws 'input' naming both lengths or the first bad index.
 */
export function templateFromJson(value: unknown, dimensions: number): Float32Array {
  const refuse = (rule: string, got: string, index?: number) =>
    new FaceNetError(
      'input',
      `template: ${rule}, got ${got}. Give the ${dimensions} numbers of an embedding.`,
      index === undefined ? {} : { index },
    );
  if (typeof value !== 'object' || value === null)
    throw refuse('must be a list of numbers', value === null ? 'null' : typeof value);
  const list = Array.isArray(value) || ArrayBuffer.isView(value) ? (value as unknown as ArrayLike<unknown>) : null;
  const length = list ? list.length : Object.keys(value).length;
  if (length !== dimensions) throw refuse(`must hold ${dimensions} numbers`, `${length}`);
  const vector = new Float32Array(dimensions);
  for (let i = 0; i < dimensions; i++) {
    const number = list ? list[i] : Object.hasOwn(value, i) ? (value as Record<number, unknown>)[i] : undefined;
    if (typeof number !== 'number' || !Number.isFinite(number))
      throw refuse(
        `must hold a finite number at index ${i}`,
        number === null ? 'null' : typeof number === 'number' ? String(number) : typeof number,
        i,
      );
    vector[i] = number;
  }
  return vector;
}

/** The vector with length 1, or null when it has no direction (zero, or not finite). */
export function normalised(vector: ArrayLike<number>): Float32Array | null {
  let square = 0;
  for (let i = 0; i < vector.length; i++) square += vector[i]! * vector[i]!;
  const length = Math.sqrt(square);
  if (!(length > 1e-9) || !Number.isFinite(length)) return null;
  return Float32Array.from(vector, (value) => value / length);
}
