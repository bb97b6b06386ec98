import type { Linkage } from './chain.ts';
import type { Units } from './constraints.ts';

export type LinkageName = 'average' | 'complete' | 'single';

/** Any linkage on a full matrix of distances between units, kept up to date by the rule of Lance and Williams (1967). */
export class MatrixLinkage implements Linkage {
  readonly #units: Units;
  readonly #kind: LinkageName;
  readonly #table: Float64Array;
  readonly #sizes: Float64Array;
  readonly #active: Uint8Array;

  /** `matrix` holds the distances of `faces` faces, row by row; it is not changed. */
  constructor(matrix: ArrayLike<number>, faces: number, units: Units, kind: LinkageName) {
    const n = units.count;
    this.#units = units;
    this.#kind = kind;
    this.#sizes = new Float64Array(n);
    this.#active = new Uint8Array(n).fill(1);
    for (let face = 0; face < faces; face++) this.#sizes[units.ofFace[face]!]!++;
    // Units of several faces start with the distance that the linkage gives them.
    this.#table = new Float64Array(n * n).fill(kind === 'single' ? Number.POSITIVE_INFINITY : 0);
    for (let i = 0; i < faces; i++) {
      for (let j = 0; j < faces; j++) {
        const at = units.ofFace[i]! * n + units.ofFace[j]!;
        const distance = matrix[i * faces + j]!;
        if (kind === 'average') this.#table[at]! += distance;
        else
          this.#table[at] =
            kind === 'single' ? Math.min(this.#table[at]!, distance) : Math.max(this.#table[at]!, distance);
      }
    }
    if (kind === 'average') {
      for (let a = 0; a < n; a++)
        for (let b = 0; b < n; b++) this.#table[a * n + b]! /= this.#sizes[a]! * this.#sizes[b]!;
    }
  }

  nearest(cluster: number, preferred: number | undefined): { other: number; distance: number } | null {
    const n = this.#units.count;
    let other = preferred ?? -1;
    let best = preferred === undefined ? Number.POSITIVE_INFINITY : this.#table[cluster * n + preferred]!;
    for (let name = 0; name < n; name++) {
      const distance = this.#table[cluster * n + name]!;
      if (name === cluster || !this.#active[name] || distance > best || (distance === best && other >= 0)) continue;
      if (this.#units.conflict(cluster, name)) continue;
      best = distance;
      other = name;
    }
    return other < 0 ? null : { other, distance: best };
  }

  merge(low: number, high: number): void {
    const n = this.#units.count;
    const [size, added] = [this.#sizes[low]!, this.#sizes[high]!];
    for (let name = 0; name < n; name++) {
      if (name === low || name === high || !this.#active[name]) continue;
      const [a, b] = [this.#table[low * n + name]!, this.#table[high * n + name]!];
      const distance =
        this.#kind === 'average'
          ? (size * a + added * b) / (size + added)
          : this.#kind === 'single'
            ? Math.min(a, b)
            : Math.max(a, b);
      this.#table[low * n + name] = distance;
      this.#table[name * n + low] = distance;
    }
    this.#sizes[low] = size + added;
    this.remove(high);
  }

  remove(cluster: number): void {
    this.#active[cluster] = 0;
  }
}
