import { FaceNetError } from '../../errors.ts';
import type { Units } from './constraints.ts';
import type { WalkOptions } from './neighbour-graph.ts';

/** Two clusters become one. Clusters are named by their lowest unit; `b` goes into `a`. */
export interface Merge {
  readonly a: number;
  readonly b: number;
  readonly height: number;
}

/** A cluster that stays apart from its nearest neighbour because that is beyond the threshold. */
export interface NearMiss {
  readonly a: number;
  readonly b: number;
  readonly distance: number;
}

/** Clusters and their distances, as a linkage sees them. */
export interface Linkage {
  /**
   * The active cluster nearest to `cluster` that it may join, and its distance. Of equally near ones `preferred`, else the lowest. Null
   * when there is none.
   */
  nearest(cluster: number, preferred: number | undefined): { readonly other: number; readonly distance: number } | null;
  /** `high` goes into `low`; low < high. */
  merge(low: number, high: number): void;
  /** The cluster is final: it is no candidate any more. */
  remove(cluster: number): void;
}

/**
 * Agglomerative clustering by nearest-neighbour chains (Murtagh 1983): the merges at or below the threshold are those of the plain method
 * "join the two nearest, again and again", for linkages where a merged cluster is never nearer to a third than the nearer of its parts was
 * (average, complete and single are such; a forbidden pair, at distance infinity, too). For the same reason a
 * cluster whose nearest neighbour is beyond the threshold is final and drops out.
 */
export async function mergeByChains(
  units: Units,
  linkage: Linkage,
  threshold: number,
  options: WalkOptions = {},
): Promise<{ merges: Merge[]; misses: NearMiss[] }> {
  const merges: Merge[] = [];
  const misses: NearMiss[] = [];
  const chain: number[] = [];
  const settled = new Uint8Array(units.count);
  let searches = 0;
  let done = 0;
  for (let start = 0; start < units.count; start++) {
    if (settled[start]) continue;
    chain.push(start);
    while (chain.length > 0) {
      if (searches++ % 64 === 0) {
        options.onProgress?.(done, units.count);
        await options.pause?.();
        if (options.signal?.aborted)
          throw new FaceNetError('aborted', 'clustering: was aborted, got a signal. Nothing was changed.');
      }
      const top = chain[chain.length - 1]!;
      const before = chain[chain.length - 2];
      const found = linkage.nearest(top, before);
      if (!found || found.distance > threshold) {
        if (found && found.distance < Number.POSITIVE_INFINITY)
          misses.push({ a: Math.min(top, found.other), b: Math.max(top, found.other), distance: found.distance });
        chain.pop();
        linkage.remove(top);
        settled[top] = 1;
        done++;
      } else if (found.other === before) {
        chain.length -= 2;
        const low = Math.min(top, before);
        const high = Math.max(top, before);
        units.merge(low, high);
        linkage.merge(low, high);
        settled[high] = 1;
        done++;
        merges.push({ a: low, b: high, height: found.distance });
        // The merged cluster goes on from where it stands when nothing else is in hand.
        if (chain.length === 0) chain.push(low);
      } else {
        chain.push(found.other);
      }
    }
  }
  options.onProgress?.(done, units.count);
  return { merges, misses };
}
