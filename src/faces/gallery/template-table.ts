import { FaceNetError } from '../../errors.ts';
import { checkUnitVectors, type VectorSet } from '../distance.ts';
import type { Entry } from './entry.ts';
import { dequantise, int8Scales, quantise } from './int8.ts';
import type { FloatVectors, SearchedVectors } from './search.ts';

export type TemplateKind = 'float32' | 'int8';

/** Rows that are read at once: what is made of them in between stays small. */
const BLOCK = 1024;

/**
 * The entries of a gallery in memory: rows in order of insertion, vectors behind one another, so that they can be searched as they lie.
 * Removed rows leave no gap and no trace: the rows behind move up and what they leave is overwritten with zeros.
 */
export class TemplateTable {
  readonly dimensions: number;
  readonly kind: TemplateKind;
  readonly #ids: string[] = [];
  readonly #labels: string[] = [];
  readonly #metas: (Record<string, string> | undefined)[] = [];
  readonly #rowOfId = new Map<string, number>();
  /** Rows of each person, in order; people in order of their first row. */
  #rowsOfLabel = new Map<string, number[]>();
  #floats: Float32Array;
  #bytes: Int8Array;
  #scales: Float32Array;

  constructor(dimensions: number, kind: TemplateKind) {
    this.dimensions = dimensions;
    this.kind = kind;
    this.#floats = new Float32Array(0);
    this.#bytes = new Int8Array(0);
    this.#scales = new Float32Array(0);
  }

  get size(): number {
    return this.#ids.length;
  }

  get people(): number {
    return this.#rowsOfLabel.size;
  }

  labels(): IterableIterator<string> {
    return this.#rowsOfLabel.keys();
  }

  rowsOf(label: string): readonly number[] {
    return this.#rowsOfLabel.get(label) ?? [];
  }

  rowOf(id: string): number | undefined {
    return this.#rowOfId.get(id);
  }

  label(row: number): string {
    return this.#labels[row]!;
  }

  id(row: number): string {
    return this.#ids[row]!;
  }

  /** A copy of a row's vector. */
  vector(row: number): Float32Array {
    const d = this.dimensions;
    if (this.kind === 'float32') return this.#floats.slice(row * d, (row + 1) * d);
    const scale = this.#scales[row]!;
    return Float32Array.from({ length: d }, (_, i) => this.#bytes[row * d + i]! * scale);
  }

  /** A copy of a whole row. */
  entry(row: number): Entry {
    return { ...this.texts(row), vector: this.vector(row) };
  }

  /** A copy of what is known of a row beside its vector. */
  texts(row: number): Omit<Entry, 'vector'> {
    const meta = this.#metas[row];
    const texts = { id: this.#ids[row]!, label: this.#labels[row]! };
    return meta ? { ...texts, meta: Object.fromEntries(Object.entries(meta)) } : texts;
  }

  /** Copies of rows, all by default, as they lie in memory. */
  numbers(rows?: readonly number[]): Float32Array | Int8Array {
    const d = this.dimensions;
    const all = this.kind === 'float32' ? this.#floats : this.#bytes;
    if (!rows) return all.slice(0, this.size * d);
    const copy = this.kind === 'float32' ? new Float32Array(rows.length * d) : new Int8Array(rows.length * d);
    rows.forEach((row, i) => copy.set(all.subarray(row * d, (row + 1) * d), i * d));
    return copy;
  }

  /** All rows as they lie in memory: views, valid until the next change. */
  searched(): SearchedVectors {
    const [count, dimensions] = [this.size, this.dimensions];
    if (this.kind === 'float32') return { data: this.#floats.subarray(0, count * dimensions), count, dimensions };
    return {
      data: this.#bytes.subarray(0, count * dimensions),
      scales: this.#scales.subarray(0, count),
      count,
      dimensions,
    };
  }

  /** What a vector becomes when this table keeps it. */
  kept(vector: Float32Array): Float32Array {
    return this.kind === 'float32'
      ? vector.slice()
      : dequantise(quantise({ data: vector, count: 1, dimensions: vector.length }));
  }

  /** The row of a person's template with these numbers, if there is one. */
  find(label: string, vector: Float32Array): number | undefined {
    return this.rowsOf(label).find((row) => this.#isVector(row, vector));
  }

  /**
   * Adds entries at the end; one with a known id replaces the old one in its place. Gives the first row whose vector is another now,
   * Infinity when none is.
   */
  put(entries: Iterable<Entry>): number {
    let first = Number.POSITIVE_INFINITY;
    let relabelled = false;
    for (const { id, label, vector, meta } of entries) {
      const known = this.#rowOfId.get(id);
      const row = known ?? this.size;
      if (known === undefined) {
        this.#reserve(row + 1);
        this.#ids.push(id);
        this.#labels.push(label);
        this.#metas.push(meta);
        this.#rowOfId.set(id, row);
        this.#addToLabel(label, row);
      } else {
        relabelled ||= this.#labels[row] !== label;
        this.#labels[row] = label;
        this.#metas[row] = meta;
        if (this.#isVector(row, vector)) continue;
      }
      this.#write(row, vector);
      first = Math.min(first, row);
    }
    if (relabelled) this.#indexLabels();
    return first;
  }

  /**
   * Holds these rows and no others; all at once, for many are read from files. Texts are the caller's to check, ids differ from one another.
   * Throws 'input' with its index for a row that is no unit vector; then nothing has changed.
   */
  replaceAll(entries: readonly Omit<Entry, 'vector'>[], vectors: Float32Array | Int8Array): void {
    const [count, d] = [entries.length, this.dimensions];
    const fresh = new TemplateTable(d, this.kind);
    fresh.#reserve(count);
    for (let row = 0; row < count; row += BLOCK) {
      const end = Math.min(count, row + BLOCK);
      const numbers = vectors.subarray(row * d, end * d);
      try {
        fresh.#writeRows(row, { data: floatsOf(numbers, d), count: end - row, dimensions: d });
      } catch (error) {
        if (!(error instanceof FaceNetError) || error.index === undefined) throw error;
        throw new FaceNetError(error.code, error.message, { cause: error, index: row + error.index });
      }
    }
    this.clear();
    [this.#floats, this.#bytes, this.#scales] = [fresh.#floats, fresh.#bytes, fresh.#scales];
    entries.forEach(({ id, label, meta }, row) => {
      this.#ids.push(id);
      this.#labels.push(label);
      this.#metas.push(meta);
      this.#rowOfId.set(id, row);
    });
    this.#indexLabels();
  }

  /** Removes rows; those behind move up. Gives the first row that changed. */
  remove(rows: Iterable<number>): number {
    const gone = new Set(rows);
    const d = this.dimensions;
    let to = 0;
    let first = this.size;
    for (let row = 0; row < this.#labels.length; row++) {
      if (gone.has(row)) {
        first = Math.min(first, row);
        this.#rowOfId.delete(this.#ids[row]!);
        continue;
      }
      if (to !== row) {
        this.#ids[to] = this.#ids[row]!;
        this.#labels[to] = this.#labels[row]!;
        this.#metas[to] = this.#metas[row];
        this.#rowOfId.set(this.#ids[to]!, to);
        this.#floats.copyWithin(to * d, row * d, (row + 1) * d);
        this.#bytes.copyWithin(to * d, row * d, (row + 1) * d);
        this.#scales.copyWithin(to, row, row + 1);
      }
      to++;
    }
    for (const list of [this.#ids, this.#labels, this.#metas]) list.length = to;
    this.#floats.fill(0, to * d);
    this.#bytes.fill(0, to * d);
    this.#scales.fill(0, to);
    this.#indexLabels();
    return first;
  }

  clear(): void {
    for (const list of [this.#ids, this.#labels, this.#metas]) list.length = 0;
    for (const numbers of [this.#floats, this.#bytes, this.#scales]) numbers.fill(0);
    this.#rowOfId.clear();
    this.#rowsOfLabel = new Map();
  }

  #isVector(row: number, vector: Float32Array): boolean {
    return this.vector(row).every((value, i) => value === vector[i]);
  }

  #addToLabel(label: string, row: number): void {
    const rows = this.#rowsOfLabel.get(label);
    if (rows) rows.push(row);
    else this.#rowsOfLabel.set(label, [row]);
  }

  #indexLabels(): void {
    this.#rowsOfLabel = new Map();
    this.#labels.forEach((label, row) => this.#addToLabel(label, row));
  }

  #write(row: number, data: Float32Array): void {
    this.#writeRows(row, { data, count: 1, dimensions: this.dimensions });
  }

  #writeRows(first: number, vectors: FloatVectors): void {
    const at = first * this.dimensions;
    if (this.kind === 'float32') {
      checkUnitVectors(vectors, 'template');
      this.#floats.set(vectors.data, at);
      return;
    }
    const { data, scales } = quantise(vectors);
    this.#bytes.set(data, at);
    this.#scales.set(scales, first);
  }

  /** Room for so many rows; grows by halves, and wipes what it leaves. */
  #reserve(rows: number): void {
    const d = this.dimensions;
    const capacity = (this.kind === 'float32' ? this.#floats : this.#bytes).length / d;
    if (rows <= capacity) return;
    const next = Math.max(rows, Math.ceil(capacity * 1.5), 16);
    if (this.kind === 'float32') {
      const grown = new Float32Array(next * d);
      grown.set(this.#floats);
      this.#floats.fill(0);
      this.#floats = grown;
    } else {
      const [bytes, scales] = [new Int8Array(next * d), new Float32Array(next)];
      bytes.set(this.#bytes);
      scales.set(this.#scales);
      this.#bytes.fill(0);
      this.#bytes = bytes;
      this.#scales = scales;
    }
  }
}

/** Rows of bytes as the unit vectors that they stand for. */
function floatsOf(numbers: Float32Array | Int8Array, dimensions: number): Float32Array {
  if (numbers instanceof Float32Array) return numbers;
  const count = numbers.length / dimensions;
  return dequantise({ data: numbers, scales: int8Scales(numbers, count, dimensions), count, dimensions });
}

/** The vectors of some rows as one set. */
export function vectorsOf(table: TemplateTable, rows: readonly number[]): VectorSet {
  const data = new Float32Array(rows.length * table.dimensions);
  rows.forEach((row, i) => data.set(table.vector(row), i * table.dimensions));
  return { data, count: rows.length, dimensions: table.dimensions };
}
