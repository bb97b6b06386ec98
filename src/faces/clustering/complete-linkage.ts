import type { Linkage } from './chain.ts';
import type { Units } from './constraints.ts';
import type { NeighbourGraph } from './neighbour-graph.ts';

/**
 * Complete linkage on the pairs within the limit. Two clusters can join only when ALL their pairs are within it, so each cluster keeps the
 * others to which that holds, with the largest distance; joining two keeps what both know.
 */
export class CompleteLinkage implements Linkage {
  readonly #units: Units;
  readonly #near: Map<number, number>[];

  constructor(graph: NeighbourGraph, units: Units) {
    this.#units = units;
    const sizes = new Float64Array(units.count);
    for (const unit of units.ofFace) sizes[unit]!++;
    const pairs: Map<number, { largest: number; count: number }>[] = Array.from(
      { length: units.count },
      () => new Map(),
    );
    for (let edge = 0; edge < graph.distance.length; edge++) {
      const [low, high] = [units.ofFace[graph.a[edge]!]!, units.ofFace[graph.b[edge]!]!].sort((x, y) => x - y) as [
        number,
        number,
      ];
      if (low === high) continue;
      const known = pairs[low]!.get(high);
      if (known) {
        known.largest = Math.max(known.largest, graph.distance[edge]!);
        known.count++;
      } else {
        pairs[low]!.set(high, { largest: graph.distance[edge]!, count: 1 });
      }
    }
    this.#near = Array.from({ length: units.count }, () => new Map<number, number>());
    pairs.forEach((others, low) => {
      for (const [high, { largest, count }] of others) {
        if (count < sizes[low]! * sizes[high]!) continue;
        this.#near[low]!.set(high, largest);
        this.#near[high]!.set(low, largest);
      }
    });
  }

  nearest(cluster: number, preferred: number | undefined): { other: number; distance: number } | null {
    let other = preferred ?? -1;
    let best = preferred === undefined ? Number.POSITIVE_INFINITY : this.#near[cluster]!.get(preferred)!;
    for (const [name, distance] of this.#near[cluster]!) {
      if (distance > best || (distance === best && (other === preferred || name > other))) continue;
      if (this.#units.conflict(cluster, name)) continue;
      best = distance;
      other = name;
    }
    return other < 0 ? null : { other, distance: best };
  }

  merge(low: number, high: number): void {
    const [kept, gone] = [this.#near[low]!, this.#near[high]!];
    for (const [name, distance] of kept) {
      const second = gone.get(name);
      if (second === undefined) {
        kept.delete(name);
        this.#near[name]!.delete(low);
      } else if (second > distance) {
        kept.set(name, second);
        this.#near[name]!.set(low, second);
      }
    }
    this.remove(high);
  }

  remove(cluster: number): void {
    for (const name of this.#near[cluster]!.keys()) this.#near[name]!.delete(cluster);
    this.#near[cluster]!.clear();
  }
}
