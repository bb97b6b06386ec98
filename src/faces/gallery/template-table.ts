import type { VectorSet } from '../distance.ts';
import type { Entry } from './entry.ts';
import { dequantise, quantise } from './int8.ts';
import type { SearchedVectors } from './search.ts';

export type TemplateKind = 'float32' | 'int8';

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
    const meta = this.#metas[row];
    return {
      id: this.#ids[row]!,
      label: this.#labels[row]!,
      vector: this.vector(row),
      ...(meta && { meta: Object.fromEntries(Object.entries(meta)) }),
    };
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
    this.remove(this.#ids.keys());
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

  #write(row: number, vector: Float32Array): void {
    const d = this.dimensions;
    if (this.kind === 'float32') {
      this.#floats.set(vector, row * d);
      return;
    }
    const { data, scales } = quantise({ data: vector, count: 1, dimensions: d });
    this.#bytes.set(data, row * d);
    this.#scales[row] = scales[0]!;
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

/** The vectors of some rows as one set. */
export function vectorsOf(table: TemplateTable, rows: readonly number[]): VectorSet {
  const data = new Float32Array(rows.length * table.dimensions);
  rows.forEach((row, i) => data.set(table.vector(row), i * table.dimensions));
  return { data, count: rows.length, dimensions: table.dimensions };
}
