import type { VectorSet } from '../distance.ts';
import type { Linkage } from './chain.ts';
import type { Units } from './constraints.ts';
import type { NeighbourGraph } from './neighbour-graph.ts';

/** Averages of sums of float64 differ from the exact average by rounding: what is below this is 0. */
const rounding = 1e-13;

/**
 * Average linkage (UPGMA) on squared L2 without a matrix: the mean of |x - y|^2 over all pairs of two clusters is
 * mean |x|^2 + mean |y|^2 - 2 (sum of x) . (sum of y) / (n m), so a cluster is its sum, its size and its mean square: O(N D) memory.
 * A graph of the pairs within some limit, if there is one, saves most of the searching: clusters whose average is within the limit have at
 * least one pair within it. Clusters farther apart than that limit are then not found.
 */
export class AverageLinkage implements Linkage {
  readonly #units: Units;
  readonly #dimensions: number;
  /** Active clusters lie first, in no order; a removed one is overwritten by the last. */
  readonly #sums: Float64Array;
  readonly #sizes: Float64Array;
  readonly #meanSquares: Float64Array;
  readonly #names: Uint32Array;
  readonly #places: Uint32Array;
  #active: number;
  /** For each cluster those it shares a pair of the graph with. */
  readonly #near: Set<number>[] | null;

  constructor(vectors: VectorSet, units: Units, graph: NeighbourGraph | null) {
    const { data, count, dimensions } = vectors;
    this.#units = units;
    this.#dimensions = dimensions;
    this.#sums = new Float64Array(units.count * dimensions);
    this.#sizes = new Float64Array(units.count);
    this.#meanSquares = new Float64Array(units.count);
    this.#names = Uint32Array.from({ length: units.count }, (_, i) => i);
    this.#places = this.#names.slice();
    this.#active = units.count;
    for (let face = 0; face < count; face++) {
      const unit = units.ofFace[face]!;
      for (let k = 0; k < dimensions; k++) {
        const value = data[face * dimensions + k]!;
        this.#sums[unit * dimensions + k]! += value;
        this.#meanSquares[unit]! += value * value;
      }
      this.#sizes[unit]!++;
    }
    for (let unit = 0; unit < units.count; unit++) this.#meanSquares[unit]! /= this.#sizes[unit]!;
    this.#near = graph && neighbours(graph, units);
  }

  nearest(cluster: number, preferred: number | undefined): { other: number; distance: number } | null {
    const place = this.#places[cluster]!;
    let best = Number.POSITIVE_INFINITY;
    let other = -1;
    if (preferred !== undefined) {
      best = this.#distance(place, this.#places[preferred]!);
      other = preferred;
    }
    const d = this.#dimensions;
    const sums = this.#sums;
    const own = sums.subarray(place * d, (place + 1) * d);
    const consider = (at: number, dot: number): void => {
      const distance = this.#fromDot(place, at, dot);
      if (distance > best || at === place) return;
      const name = this.#names[at]!;
      // Equally near: the preferred one stays, else the lower name wins.
      if (distance === best && (other === preferred || name > other)) return;
      if (this.#units.conflict(cluster, name)) return;
      best = distance;
      other = name;
    };
    if (this.#near) {
      for (const name of this.#near[cluster]!) consider(this.#places[name]!, this.#dot(place, this.#places[name]!));
      return other < 0 ? null : { other, distance: best };
    }
    let at = 0;
    for (; at + 4 <= this.#active; at += 4) {
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      let p = at * d;
      for (let k = 0; k < d; k++, p++) {
        const value = own[k]!;
        s0 += value * sums[p]!;
        s1 += value * sums[p + d]!;
        s2 += value * sums[p + 2 * d]!;
        s3 += value * sums[p + 3 * d]!;
      }
      consider(at, s0);
      consider(at + 1, s1);
      consider(at + 2, s2);
      consider(at + 3, s3);
    }
    for (; at < this.#active; at++) consider(at, this.#dot(place, at));
    return other < 0 ? null : { other, distance: best };
  }

  merge(low: number, high: number): void {
    const d = this.#dimensions;
    const into = this.#places[low]!;
    const from = this.#places[high]!;
    const [n, m] = [this.#sizes[into]!, this.#sizes[from]!];
    for (let k = 0; k < d; k++) this.#sums[into * d + k]! += this.#sums[from * d + k]!;
    this.#meanSquares[into] = (this.#meanSquares[into]! * n + this.#meanSquares[from]! * m) / (n + m);
    this.#sizes[into] = n + m;
    for (const name of this.#near?.[high] ?? []) {
      if (name === low) continue;
      this.#near![name]!.add(low);
      this.#near![low]!.add(name);
    }
    this.remove(high);
  }

  remove(cluster: number): void {
    for (const name of this.#near?.[cluster] ?? []) this.#near![name]!.delete(cluster);
    this.#near?.[cluster]?.clear();
    const d = this.#dimensions;
    const place = this.#places[cluster]!;
    const last = --this.#active;
    if (place === last) return;
    this.#sums.copyWithin(place * d, last * d, (last + 1) * d);
    this.#sizes[place] = this.#sizes[last]!;
    this.#meanSquares[place] = this.#meanSquares[last]!;
    this.#names[place] = this.#names[last]!;
    this.#places[this.#names[last]!] = place;
  }

  #distance(a: number, b: number): number {
    return this.#fromDot(a, b, this.#dot(a, b));
  }

  #dot(a: number, b: number): number {
    const d = this.#dimensions;
    let sum = 0;
    for (let k = 0; k < d; k++) sum += this.#sums[a * d + k]! * this.#sums[b * d + k]!;
    return sum;
  }

  /** The same bits for (a, b) and (b, a). */
  #fromDot(a: number, b: number, dot: number): number {
    const distance = this.#meanSquares[a]! + this.#meanSquares[b]! - (2 * dot) / (this.#sizes[a]! * this.#sizes[b]!);
    return distance < rounding ? 0 : distance;
  }
}

function neighbours(graph: NeighbourGraph, units: Units): Set<number>[] {
  const near = Array.from({ length: units.count }, () => new Set<number>());
  for (let edge = 0; edge < graph.distance.length; edge++) {
    const [a, b] = [units.ofFace[graph.a[edge]!]!, units.ofFace[graph.b[edge]!]!];
    if (a === b) continue;
    near[a]!.add(b);
    near[b]!.add(a);
  }
  return near;
}
