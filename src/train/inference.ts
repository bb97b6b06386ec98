import { concatenate, Embedder, pack } from '../faces/embedder.ts';
import type { Placed } from '../faces/preprocessing.ts';
import type { TrainingModel } from './trainer.ts';

/** Faces embedded together between two steps. */
const BATCH = 32;

/** The network in training as it would embed now: the same weights, running statistics, pictures unchanged. The caller disposes it. */
export const inferenceOf = ({ network, variant, preprocessing, backend, store }: TrainingModel): Promise<Embedder> =>
  Embedder.create(network, variant, preprocessing, backend, store, BATCH);

/** Embeddings [faces, dimensions], row by row. */
export async function embedPlaced(embedder: Embedder, placed: readonly Placed[]): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for (let from = 0; from < placed.length; from += embedder.batchSize)
    parts.push(await embedder.embed(pack(placed.slice(from, from + embedder.batchSize), embedder.preprocessing)));
  return concatenate(parts);
}
