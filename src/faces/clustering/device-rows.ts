// Distances for clustering, by the device where it is quick and by the plain loop where it counts: the device says which pairs are certainly
// beyond the limit, all others are computed anew as hostRows() does. Groups are then those of the host on every backend, bit for bit.
import { FaceNetError } from '../../errors.ts';
import { Graph } from '../../graph/graph.ts';
import { BATCH } from '../../graph/shape.ts';
import { pairwiseDistance } from '../../ops/pairwiseDistance.ts';
import { Plan } from '../../plan/plan.ts';
import type { Backend } from '../../plan/runner.ts';
import { Store } from '../../plan/store.ts';
import { type DistanceRows, distancesToRow, hostRows } from '../distance.ts';
import type { OnDevice } from '../gallery/device-search.ts';
import type { FloatVectors } from '../gallery/search.ts';
import { decisiveUpTo } from './questions.ts';

/** Columns of one run; those left of the diagonal are not computed. */
const COLUMNS = 2048;
/** Most rows of one run. */
const ROWS = 64;

/** With fewer faces the plain loop is faster than asking the device. */
const FEW_FACES = 2000;

/** Distances of rows to faces behind them; a value beyond what decides something at this threshold is only known to be beyond. */
export function deviceRows(
  on: OnDevice,
  vectors: FloatVectors,
  threshold: number,
  fewFaces = FEW_FACES,
): { readonly rows: DistanceRows; close(): Promise<void> } {
  const { count, dimensions } = vectors;
  // As in topK: every term is positive, so the error is relative; 1e-30 is what a device may flush to zero.
  const certain = decisiveUpTo(threshold) * (1 + (dimensions + 8) * 2 ** -24) + 1e-30;
  let copy: FaceCopy | undefined;

  /** Blocks of columns of rows [first, last), right of the diagonal. */
  const blocks = (first: number, last: number) =>
    on(async (backend) => {
      if (copy?.backend !== backend) {
        copy?.dispose();
        copy = new FaceCopy(backend, vectors);
      }
      const found: { from: number; distances: Float32Array }[] = [];
      for (let from = Math.floor((first + 1) / COLUMNS) * COLUMNS; from < count; from += COLUMNS)
        found.push({ from, distances: await copy.distances(first, last, from) });
      return found;
    });

  async function decisive(begin: number, end: number): Promise<Float64Array> {
    const into = new Float64Array((end - begin) * count);
    for (let first = begin; first < end; first += ROWS) {
      const last = Math.min(end, first + ROWS);
      for (const { from, distances } of await blocks(first, last)) {
        const columns = Math.min(COLUMNS, count - from);
        for (let i = first; i < last; i++) {
          for (let j = Math.max(from, i + 1); j < from + columns; j++) {
            const distance = distances[(i - first) * columns + j - from]!;
            const at = (i - begin) * count + j;
            if (distance > certain) into[at] = distance;
            else distancesToRow(vectors, i, vectors, j, j + 1, into.subarray(at, at + 1));
          }
        }
      }
    }
    return into;
  }

  const onHost = hostRows(vectors);
  let full = count < fewFaces;
  return {
    async rows(first, last) {
      if (full) return onHost(first, last);
      try {
        return await decisive(first, last);
      } catch (error) {
        // A device without room is as good as none.
        if (!(error instanceof FaceNetError && error.code === 'memory')) throw error;
        full = true;
        return onHost(first, last);
      }
    },
    async close() {
      const old = copy;
      copy = undefined;
      // With a device that is gone everything on it went.
      if (old) await on(async (backend) => backend === old.backend && old.dispose()).catch(() => {});
    },
  };
}

/** The faces on a device, in blocks of columns. */
class FaceCopy {
  readonly backend: Backend;
  readonly #vectors: FloatVectors;
  readonly #store: Store;
  readonly #plans = new Map<number, Plan>();

  constructor(backend: Backend, vectors: FloatVectors) {
    this.backend = backend;
    this.#vectors = vectors;
    this.#store = new Store(backend);
    const { count, dimensions, data } = vectors;
    try {
      for (let from = 0; from < count; from += COLUMNS) {
        const to = Math.min(count, from + COLUMNS);
        this.#store.set(`faces ${from}`, data.subarray(from * dimensions, to * dimensions), [to - from, dimensions]);
      }
    } catch (error) {
      this.#store.dispose();
      throw error;
    }
  }

  /** Distances of rows [first, last) to the block of columns that begins at `from`. */
  async distances(first: number, last: number, from: number): Promise<Float32Array> {
    const { data, dimensions } = this.#vectors;
    let plan = this.#plans.get(from);
    if (!plan) {
      const graph = new Graph();
      const a = graph.input('a', [BATCH, dimensions]);
      const b = graph.parameter(`faces ${from}`, this.#store.shape(`faces ${from}`));
      plan = await Plan.create(graph, { y: pairwiseDistance(a, b) }, this.backend, this.#store, { batchSize: ROWS });
      this.#plans.set(from, plan);
    }
    const a = data.subarray(first * dimensions, last * dimensions);
    return (await plan.run({ a }, last - first)).y as Float32Array;
  }

  dispose(): void {
    for (const plan of this.#plans.values()) plan.dispose();
    this.#store.dispose();
  }
}
