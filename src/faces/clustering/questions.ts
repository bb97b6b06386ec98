import type { Merge, NearMiss } from './chain.ts';
import type { Units } from './constraints.ts';
import type { NeighbourGraph } from './neighbour-graph.ts';

/** Two faces of which it is least sure whether they are one person; each stands for the group (or part of one) it is in. */
export interface UncertainPair {
  readonly a: number;
  readonly b: number;
  /** Distance of what they stand for, by the method's own measure: just below the threshold if it was joined, just above if not. */
  readonly distance: number;
}

/** How near to the threshold, as a share of it, makes a decision uncertain. */
export const uncertainBand = 0.15;

/** Up to here distances decide something: joined, apart, or worth a question. */
export const decisiveUpTo = (threshold: number): number => threshold * (1 + uncertainBand);

/** Faces of each side of the merges that were nearly not made. `best` picks the face that stands for a list of faces. */
export function nearlySplit(
  merges: readonly Merge[],
  units: Units,
  threshold: number,
  best: (faces: readonly number[]) => number,
  limit: number,
): UncertainPair[] {
  const near = merges
    .filter(({ height }) => height >= threshold * (1 - uncertainBand))
    .sort((x, y) => y.height - x.height)
    .slice(0, limit);
  if (near.length === 0) return [];
  const wanted = new Set(near);
  // The merges once more, with the faces on both sides.
  const faces: number[][] = Array.from({ length: units.count }, () => []);
  units.ofFace.forEach((unit, face) => faces[unit]!.push(face));
  const pairs: UncertainPair[] = [];
  for (const merge of merges) {
    const [kept, added] = [faces[merge.a]!, faces[merge.b]!];
    if (wanted.has(merge)) pairs.push({ a: best(kept), b: best(added), distance: merge.height });
    for (const face of added) kept.push(face);
    added.length = 0;
  }
  return pairs;
}

/** Groups that nearly joined, each with its nearest at the time. */
export function nearlyJoined(
  misses: readonly NearMiss[],
  units: Units,
  threshold: number,
  representative: (root: number) => number,
  limit: number,
): UncertainPair[] {
  const seen = new Set<string>();
  const pairs: UncertainPair[] = [];
  for (const { a, b, distance } of [...misses].sort((x, y) => x.distance - y.distance)) {
    if (distance > threshold * (1 + uncertainBand) || pairs.length === limit) break;
    const [x, y] = [units.find(a), units.find(b)];
    const key = `${Math.min(x, y)} ${Math.max(x, y)}`;
    if (x === y || seen.has(key) || units.conflict(x, y)) continue;
    seen.add(key);
    pairs.push({ a: representative(x), b: representative(y), distance });
  }
  return pairs;
}

/** For methods that look at pairs of faces: the nearest pair of each two groups within the band, and each face's link to its group when that is weak. */
export function uncertainLinks(
  graph: NeighbourGraph,
  units: Units,
  threshold: number,
  includeWeak: boolean,
): UncertainPair[] {
  const between = new Map<string, UncertainPair>();
  const own = new Float64Array(graph.faces).fill(Number.POSITIVE_INFINITY);
  const link = new Int32Array(graph.faces).fill(-1);
  for (let edge = 0; edge < graph.distance.length; edge++) {
    const [a, b, distance] = [graph.a[edge]!, graph.b[edge]!, graph.distance[edge]!];
    const [x, y] = [units.find(units.ofFace[a]!), units.find(units.ofFace[b]!)];
    if (x === y) {
      if (units.ofFace[a] === units.ofFace[b]) own[a] = own[b] = 0; // put together by the user or before
      if (distance < own[a]!) [own[a], link[a]] = [distance, b];
      if (distance < own[b]!) [own[b], link[b]] = [distance, a];
    } else if (!units.conflict(x, y)) {
      const key = `${Math.min(x, y)} ${Math.max(x, y)}`;
      const known = between.get(key);
      if (!known || distance < known.distance) between.set(key, { a, b, distance });
    }
  }
  const pairs = [...between.values()];
  if (includeWeak) {
    own.forEach((distance, face) => {
      const other = link[face]!;
      // A pair that is the weak link of both its faces is asked once.
      if (
        distance >= threshold * (1 - uncertainBand) &&
        distance <= threshold &&
        !(link[other] === face && other < face)
      )
        pairs.push({ a: face, b: other, distance });
    });
  }
  return pairs;
}
