import type { VectorSet } from '../distance.ts';
import type { Int8Vectors } from './int8.ts';

/** Rows of a search: row numbers and squared distances, nearest first, equal distances by row. */
export interface Nearest {
  readonly rows: Uint32Array;
  readonly distances: Float64Array;
}

/** Vectors of float32 numbers. */
export interface FloatVectors extends VectorSet {
  readonly data: Float32Array;
}

export type SearchedVectors = VectorSet | Int8Vectors;

/** Finds the nearest of many vectors, exactly. On the host hostSearch(), on a device deviceSearch(). */
export interface VectorSearch {
  /** The rows to search, of length 1 or less (but for rounding); called before the first search and after every change. Rows before `firstChanged` are as they were. */
  load(vectors: SearchedVectors, firstChanged: number): void | Promise<void>;
  /** The k nearest rows; fewer when there are fewer. Equal distances by row. */
  nearest(query: Float32Array, k: number): Nearest | Promise<Nearest>;
  /** The same for each of several queries at once, where that is faster. */
  nearestOfMany?(queries: FloatVectors, k: number): Promise<Nearest[]>;
  /** Frees what was loaded; called when the gallery closes. */
  close?(): Promise<void>;
}

/** A plain search by float64 differences: one pass, a heap of k. */
export function hostSearch(): VectorSearch {
  let searched: SearchedVectors = { data: new Float32Array(0), count: 0, dimensions: 1 };
  return {
    load(vectors) {
      searched = vectors;
    },
    nearest: (query, k) => nearestRows(query, searched, k),
  };
}

/** The k rows nearest to a query, by float64 differences. Equal distances by row. k may exceed the number of rows. */
export function nearestRows(query: Float32Array, vectors: SearchedVectors, k: number): Nearest {
  const best = new NearestHeap(Math.min(k, vectors.count));
  for (let row = 0; row < vectors.count; row++) best.offer(row, rowDistance(query, vectors, row, best.limit));
  return best.sorted();
}

/** Squared distance to a row, or some number above `limit` as soon as it is certain to exceed it. The value cut at 4 is that of unit vectors. */
export function rowDistance(
  query: Float32Array,
  vectors: SearchedVectors,
  row: number,
  limit = Number.POSITIVE_INFINITY,
): number {
  const { data, dimensions } = vectors;
  const scale = 'scales' in vectors ? vectors.scales[row]! : 1;
  let sum = 0;
  let k = 0;
  for (let i = row * dimensions; k < dimensions; ) {
    // In steps of 32 numbers: sums only grow, so most rows are given up early.
    const to = Math.min(k + 32, dimensions);
    for (; k < to; k++, i++) {
      const difference = query[k]! - data[i]! * scale;
      sum += difference * difference;
    }
    if (sum > limit) return sum;
  }
  return sum > 4 && sum < 4.04 ? 4 : sum;
}

/** Keeps the k smallest of the distances offered; of equal ones the lowest rows. */
export class NearestHeap {
  readonly #k: number;
  readonly #rows: number[] = [];
  readonly #distances: number[] = [];

  constructor(k: number) {
    this.#k = k;
  }

  /** Distances above this are of no use any more. */
  get limit(): number {
    return this.#rows.length < this.#k ? Number.POSITIVE_INFINITY : (this.#distances[0] ?? Number.NEGATIVE_INFINITY);
  }

  offer(row: number, distance: number): void {
    if (this.#rows.length < this.#k) {
      this.#rows.push(row);
      this.#distances.push(distance);
      this.#rise(this.#rows.length - 1);
    } else if (this.#k > 0 && this.#isNearer(row, distance, 0)) {
      this.#rows[0] = row;
      this.#distances[0] = distance;
      this.#sink();
    }
  }

  sorted(): Nearest {
    const order = this.#rows
      .map((_, i) => i)
      .sort((i, j) => this.#distances[i]! - this.#distances[j]! || this.#rows[i]! - this.#rows[j]!);
    return {
      rows: Uint32Array.from(order, (i) => this.#rows[i]!),
      distances: Float64Array.from(order, (i) => this.#distances[i]!),
    };
  }

  #isNearer(row: number, distance: number, than: number): boolean {
    return distance < this.#distances[than]! || (distance === this.#distances[than]! && row < this.#rows[than]!);
  }

  #swap(i: number, j: number): void {
    [this.#rows[i], this.#rows[j]] = [this.#rows[j]!, this.#rows[i]!];
    [this.#distances[i], this.#distances[j]] = [this.#distances[j]!, this.#distances[i]!];
  }

  /** The farthest is on top. */
  #rise(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#isNearer(this.#rows[parent]!, this.#distances[parent]!, at)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    for (let at = 0; ; ) {
      let farthest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#rows.length && this.#isNearer(this.#rows[farthest]!, this.#distances[farthest]!, child))
          farthest = child;
      }
      if (farthest === at) return;
      this.#swap(at, farthest);
      at = farthest;
    }
  }
}
