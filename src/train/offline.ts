import { FaceNetError } from '../errors.ts';
import { Graph } from '../graph/graph.ts';
import { pairwiseDistance } from '../ops/pairwiseDistance.ts';
import { choiceCode, tripletSelection } from '../ops/tripletSelection.ts';
import { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import { Store } from '../plan/store.ts';
import { batchSizeOf, drawPeople, generator, type Identities, type SamplerOptions, streams } from './sampling.ts';

/*
 * The paper's other way to triplets (Schroff et al. 2015, section 3.2): "generate triplets offline every n steps, using the most recent
 * network checkpoint and computing the argmin and argmax on a subset of the data". The subset is embedded with the weights as they are
 * (running statistics, pictures unchanged), its distances and each anchor's farthest positive and closest negative are found on the device,
 * and the batches until the next search are cut from that list.
 *
 * The batch of a step thus depends on the weights at the last search, so that the list is part of a checkpoint.
 */

/** How the rule 'offline-hardest' searches. */
export interface OfflineOptions {
  /** Size of the set that is searched, in batches; at most OFFLINE_LIMIT pictures and never more than there are. Default 10. */
  readonly batches?: number;
  /** Steps between two searches. Default 50. */
  readonly every?: number;
}

/** Pictures searched together at most: their distances take N x N numbers, twice. */
export const OFFLINE_LIMIT = 4096;

/** What a search found, and the steps it serves. */
export interface MinedTriplets {
  /** Phase and first step (within the phase) of the search. */
  readonly phase: number;
  readonly from: number;
  /** Picture indices a, p, n in a row, in seeded order. */
  readonly triplets: Int32Array;
}

/** Picture indices of the set a search goes through: people with two or more pictures first, then random others. A function of its arguments alone. */
export function drawSearched(
  identities: Identities,
  options: SamplerOptions,
  batches: number,
  seed: number,
  step: number,
): number[] {
  const { perPerson } = options;
  const size = Math.min(batchSizeOf(options) * batches, OFFLINE_LIMIT, identities.images);
  const people = Math.min(options.people * batches, Math.floor(size / perPerson), identities.paired.length);
  return drawPeople(identities, { people, perPerson, size }, generator(seed, streams.offline, step));
}

/**
 * The hardest triplet of every anchor among embeddings [N, dimensions] of pictures `indices` of people `labels`: its farthest positive and
 * its closest negative, on the device. In order of the anchors. @throws 'input' when there is none.
 */
export async function hardestTriplets(
  backend: Backend,
  {
    data,
    dimensions,
    indices,
    labels,
  }: {
    readonly data: Float32Array;
    readonly dimensions: number;
    readonly indices: readonly number[];
    readonly labels: Int32Array;
  },
): Promise<number[][]> {
  const count = indices.length;
  const graph = new Graph();
  const distances = pairwiseDistance(graph.input('embeddings', [count, dimensions]));
  const choice = tripletSelection(distances, graph.input('labels', [count], 'i32'), { rule: 'batch-hard' });
  const store = new Store(backend);
  const plan = await Plan.create(graph, { choice }, backend, store, { batchSize: 1 });
  try {
    const people = Int32Array.from(indices, (index) => labels[index] as number);
    const found = (await plan.run({ embeddings: data, labels: people })).choice as Float32Array;
    const chosen = new Int32Array(found.buffer, found.byteOffset, count * count);
    const triplets: number[][] = [];
    for (let a = 0; a < count; a++) {
      for (let p = 0; p < count; p++) {
        const n = chosen[a * count + p] as number;
        if (n >= 0) triplets.push([indices[a] as number, indices[p] as number, indices[n] as number]);
      }
    }
    if (triplets.length === 0)
      throw new FaceNetError('input', `train: the set searched offline holds no triplet, got ${count} images.`);
    return triplets;
  } finally {
    plan.dispose();
    store.dispose();
  }
}

/** Pictures of a batch of `size` at a step of the phase: as many whole triplets as fit, one behind the other; the list starts again at its end. */
export function offlineBatch({ from, triplets }: MinedTriplets, size: number, within: number): number[] {
  const each = Math.floor(size / 3);
  const start = (within - from) * each;
  return Array.from({ length: each * 3 }, (_, i) => triplets[(start * 3 + i) % triplets.length] as number);
}

/** What `tripletLoss` is told of a batch whose row r holds place[r] of `offlineBatch`: each triplet's pair, and nothing else. */
export function offlineChoice(place: readonly number[], triplets: number): Int32Array {
  const size = place.length;
  const row = new Int32Array(size);
  place.forEach((at, index) => {
    row[at] = index;
  });
  const choice = new Int32Array(size * size).fill(choiceCode.noPair);
  for (let t = 0; t < triplets; t++) {
    const [a, p, n] = [row[3 * t], row[3 * t + 1], row[3 * t + 2]] as [number, number, number];
    choice[a * size + p] = n;
  }
  return choice;
}
