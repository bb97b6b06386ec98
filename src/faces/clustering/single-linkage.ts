import type { Merge } from './chain.ts';
import type { Units } from './constraints.ts';
import { edgesByDistance, type NeighbourGraph } from './neighbour-graph.ts';

/**
 * Single linkage on the pairs within the threshold: taken from near to far, each joins the clusters of its two faces unless they must stay
 * apart (Kruskal's algorithm). `usable` restricts it to some faces (DBSCAN: to core points).
 */
export function mergeByNearestPairs(
  graph: NeighbourGraph,
  units: Units,
  threshold: number,
  usable?: (face: number) => boolean,
): Merge[] {
  const merges: Merge[] = [];
  for (const edge of edgesByDistance(graph, threshold)) {
    const [i, j] = [graph.a[edge]!, graph.b[edge]!];
    if (usable && !(usable(i) && usable(j))) continue;
    const a = units.find(units.ofFace[i]!);
    const b = units.find(units.ofFace[j]!);
    if (a === b || units.conflict(a, b)) continue;
    units.merge(a, b);
    merges.push({ a: Math.min(a, b), b: Math.max(a, b), height: graph.distance[edge]! });
  }
  return merges;
}
