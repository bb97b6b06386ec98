import { FaceNetError } from '../../errors.ts';
import type { DistanceRows } from '../distance.ts';

/** Pairs of faces no farther apart than a limit: edge e joins a[e] < b[e]. */
export interface NeighbourGraph {
  readonly faces: number;
  readonly a: Uint32Array;
  readonly b: Uint32Array;
  readonly distance: Float64Array;
}

export interface WalkOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Awaited now and then, so that the caller can let others run (and abort). */
  readonly pause?: () => Promise<void>;
}

/**
 * Collects all pairs at or below `limit`, ordered by (a, b). One pass over blocks of distances; memory grows with the pairs found. Gives
 * null when there are more than `most`. Throws 'input' for a distance that is negative or not finite.
 */
export async function neighbourGraph(
  faces: number,
  rows: DistanceRows,
  limit: number,
  most: number,
  options: WalkOptions = {},
): Promise<NeighbourGraph | null> {
  let [a, b, distance] = [new Uint32Array(1024), new Uint32Array(1024), new Float64Array(1024)];
  let edges = 0;
  const step = Math.max(1, Math.min(faces, Math.floor(2 ** 18 / Math.max(1, faces))));
  for (let first = 0; first < faces; first += step) {
    await options.pause?.();
    if (options.signal?.aborted)
      throw new FaceNetError('aborted', 'clustering: was aborted, got a signal. Nothing was changed.');
    const last = Math.min(first + step, faces);
    const block = await rows(first, last);
    for (let i = first; i < last; i++) {
      const base = (i - first) * faces;
      for (let j = i + 1; j < faces; j++) {
        const value = block[base + j]!;
        if (value > limit && value < Number.POSITIVE_INFINITY) continue;
        if (!(value >= 0 && value <= limit)) throw badDistance(value, i, j);
        if (edges === most) return null;
        if (edges === a.length) [a, b, distance] = [grown(a), grown(b), grown(distance)];
        a[edges] = i;
        b[edges] = j;
        distance[edges++] = value;
      }
    }
    options.onProgress?.(last, faces);
  }
  return { faces, a: a.subarray(0, edges), b: b.subarray(0, edges), distance: distance.subarray(0, edges) };
}

export function badDistance(value: number, i: number, j: number): FaceNetError {
  return new FaceNetError(
    'input',
    `distance: must be finite and 0 or more, got ${value} between faces ${i} and ${j}. Leave these faces out.`,
    { index: i },
  );
}

function grown<List extends Uint32Array | Float64Array>(list: List): List {
  const larger = list instanceof Uint32Array ? new Uint32Array(list.length * 2) : new Float64Array(list.length * 2);
  larger.set(list);
  return larger as List;
}

/** Edge numbers from near to far; equally far ones by their faces. */
export function edgesByDistance({ distance }: NeighbourGraph, limit: number): Uint32Array {
  const order = Uint32Array.from(distance.keys()).filter((edge) => distance[edge]! <= limit);
  return order.sort((x, y) => distance[x]! - distance[y]! || x - y);
}
