import type { Units } from './constraints.ts';
import { edgesByDistance, type NeighbourGraph } from './neighbour-graph.ts';
import { mergeByNearestPairs } from './single-linkage.ts';

/**
 * DBSCAN (Ester and others 1996): a face with `minPoints` faces within the threshold, itself counted, is a core; cores within the threshold of
 * each other share a cluster; any other face joins the cluster of its nearest core within the threshold that it may join, or none.
 * Joins go from near to far, so that forbidden pairs give way to nearer ones. Gives for each face whether it is in a cluster.
 */
export function dbscan(graph: NeighbourGraph, units: Units, threshold: number, minPoints: number): boolean[] {
  const neighbours = new Uint32Array(graph.faces).fill(1);
  for (let edge = 0; edge < graph.distance.length; edge++) {
    if (graph.distance[edge]! > threshold) continue;
    neighbours[graph.a[edge]!]!++;
    neighbours[graph.b[edge]!]!++;
  }
  const isCore = (face: number) => neighbours[face]! >= minPoints;
  mergeByNearestPairs(graph, units, threshold, isCore);
  const inside = Array.from({ length: graph.faces }, (_, face) => isCore(face));
  for (const edge of edgesByDistance(graph, threshold)) {
    const [i, j] = [graph.a[edge]!, graph.b[edge]!];
    if (isCore(i) === isCore(j)) continue;
    const [core, border] = isCore(i) ? [i, j] : [j, i];
    if (inside[border]) continue;
    const [a, b] = [units.find(units.ofFace[core]!), units.find(units.ofFace[border]!)];
    if (a !== b && units.conflict(a, b)) continue;
    units.merge(a, b);
    inside[border] = true;
  }
  return inside;
}
