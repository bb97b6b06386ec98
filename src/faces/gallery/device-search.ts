// Exact search on the device. The device finds somewhat more rows than were asked for, by sums whose errors are bounded (src/ops/topK.ts).
// Their distances are computed anew as the plain loop computes them, and where the bound shows that no row left out can be among the k
// nearest, the answer is the plain loop's, bit for bit. Where it does not show that (hundreds of equal distances), the device is asked for
// more rows, and then the plain loop answers.
import { FaceNetError } from '../../errors.ts';
import { Graph } from '../../graph/graph.ts';
import { BATCH } from '../../graph/shape.ts';
import { largestK, mostRows, topK, topKBytes } from '../../ops/topK.ts';
import { Plan } from '../../plan/plan.ts';
import type { Backend } from '../../plan/runner.ts';
import { Store } from '../../plan/store.ts';
import {
  type FloatVectors,
  type Nearest,
  NearestHeap,
  nearestRows,
  rowDistance,
  type SearchedVectors,
  type VectorSearch,
} from './search.ts';

/** Runs a task on the device; from its start on another one when the device is lost. */
export type OnDevice = <Result>(task: (backend: Backend) => Promise<Result>) => Promise<Result>;

/** Where the device takes over, and how much it is given at once. */
export interface DeviceSearchOptions {
  /** With fewer rows the plain loop is faster than asking the device. Default 4096. */
  readonly fewRows?: number;
  /** Largest buffer of templates; a device may allow less. Default 256 MiB. */
  readonly chunkBytes?: number;
}

/** Queries that are searched together. */
const QUERIES = 16;
/** How many rows the device is asked for: at least SPARE more than are wanted, for its errors to stir up. */
const ASKED = [32, largestK] as const;
const SPARE = 8;
const UNIT = 2 ** -24;
/** Bytes that go to the device at once. */
const PIECE = 2 ** 24;

/** A search on a device. The templates are copied there before the first search, and what changed of them before the next ones. */
export function deviceSearch(on: OnDevice, options: DeviceSearchOptions = {}): VectorSearch {
  const { fewRows = 4096, chunkBytes = 2 ** 28 } = options;
  let searched: SearchedVectors = { data: new Float32Array(0), count: 0, dimensions: 1 };
  let firstChanged = 0;
  let copy: TemplateCopy | undefined;
  /** There was no room on the device: as good as none. */
  let full = false;

  const searchDevice = (queries: readonly Float32Array[], k: number, ask: number) =>
    on(async (backend) => {
      if (copy?.backend !== backend || !copy.fits(searched)) {
        copy?.dispose();
        copy = new TemplateCopy(backend, searched, chunkBytes);
        firstChanged = 0;
      }
      copy.update(searched, firstChanged);
      firstChanged = Number.POSITIVE_INFINITY;
      return copy.nearest(queries, searched, k, ask);
    });

  async function nearestOfMany({ data, count, dimensions }: FloatVectors, k: number): Promise<Nearest[]> {
    const queries = Array.from({ length: count }, (_, i) => data.slice(i * dimensions, (i + 1) * dimensions));
    const answers = queries.map((): Nearest | null => null);
    for (const ask of ASKED) {
      const open = [...answers.keys()].filter((i) => answers[i] === null);
      if (
        full ||
        searched.data instanceof Float64Array ||
        searched.count < fewRows ||
        k + SPARE > ask ||
        open.length === 0
      )
        continue;
      try {
        const found = await searchDevice(
          open.map((i) => queries[i]!),
          k,
          ask,
        );
        open.forEach((query, i) => {
          answers[query] = found[i]!;
        });
      } catch (error) {
        if (!(error instanceof FaceNetError && error.code === 'memory')) throw error;
        copy?.dispose();
        copy = undefined;
        full = true;
      }
    }
    return answers.map((answer, i) => answer ?? nearestRows(queries[i]!, searched, k));
  }

  return {
    load(vectors, changed) {
      searched = vectors;
      firstChanged = Math.min(firstChanged, changed);
    },
    nearestOfMany,
    nearest: async (query, k) => (await nearestOfMany({ data: query, count: 1, dimensions: query.length }, k))[0]!,
    async close() {
      const last = copy;
      copy = undefined;
      searched = { data: new Float32Array(0), count: 0, dimensions: 1 };
      // With a device that is gone everything on it went.
      if (last) await on(async (backend) => backend === last.backend && last.dispose()).catch(() => {});
    },
  };
}

/** A query as the device takes it, and what its distances say of the true ones. */
interface Query {
  readonly vector: Float32Array;
  /** The sum of the query's squares. */
  readonly square: number;
  /** For bytes: the query in whole numbers of 16 bits, and the factor and shift of topKBytes. */
  readonly words?: Int16Array;
  readonly scale?: readonly [factor: number, shift: number];
  /** The least that the plain loop can find for a row whose distance on the device is this. */
  atLeast(distance: number): number;
}

/** Rows [first, first + capacity) on the device. */
interface Chunk {
  readonly store: Store;
  readonly capacity: number;
  /** Rows in use. */
  count: number;
  readonly plans: Map<number, Plan>;
}

/** The templates on a device: full chunks and a last one with room to grow. */
class TemplateCopy {
  readonly backend: Backend;
  readonly #isBytes: boolean;
  readonly #dimensions: number;
  /** Numbers of a row: dimensions, for bytes padded with zeros to a multiple of eight. */
  readonly #width: number;
  readonly #chunkRows: number;
  readonly #chunks: Chunk[] = [];

  constructor(backend: Backend, vectors: SearchedVectors, chunkBytes: number) {
    this.backend = backend;
    this.#isBytes = 'scales' in vectors;
    this.#dimensions = vectors.dimensions;
    this.#width = this.#isBytes ? Math.ceil(vectors.dimensions / 8) * 8 : vectors.dimensions;
    const bytes = Math.min(chunkBytes, backend.maxBufferBytes);
    this.#chunkRows = Math.min(mostRows, Math.max(1, Math.floor(bytes / this.#rowBytes)));
  }

  get #rowBytes(): number {
    return this.#isBytes ? this.#width : this.#width * 4;
  }

  /** Whether these vectors are of the kind that lies here. */
  fits(vectors: SearchedVectors): boolean {
    return 'scales' in vectors === this.#isBytes && vectors.dimensions === this.#dimensions;
  }

  /** Brings the copy up to date; rows before `firstChanged` are. What no row holds any more is overwritten. */
  update(vectors: SearchedVectors, firstChanged: number): void {
    const { count } = vectors;
    const needed = Math.ceil(count / this.#chunkRows);
    for (const chunk of this.#chunks.splice(needed)) disposeChunk(chunk);
    for (let index = 0; index < needed; index++) {
      const first = index * this.#chunkRows;
      const used = Math.min(count - first, this.#chunkRows);
      let chunk = this.#chunks[index];
      let from = Math.max(0, firstChanged - first);
      if (!chunk || chunk.capacity < used) {
        if (chunk) disposeChunk(chunk);
        // Twice the room, so that a growing gallery is copied anew a few times only.
        chunk = this.#makeChunk(Math.min(this.#chunkRows, Math.max(1024, 2 ** Math.ceil(Math.log2(used)))));
        this.#chunks[index] = chunk;
        from = 0;
      }
      if (from < used) this.#write(chunk, vectors, first, from, used);
      if (used < chunk.count) this.#wipe(chunk, used);
      chunk.count = used;
    }
  }

  /** The k nearest rows of each query, or null where `ask` rows of each chunk do not settle them. */
  async nearest(
    queries: readonly Float32Array[],
    vectors: SearchedVectors,
    k: number,
    ask: number,
  ): Promise<(Nearest | null)[]> {
    const answers: (Nearest | null)[] = [];
    for (let start = 0; start < queries.length; start += QUERIES) {
      const batch = queries.slice(start, start + QUERIES).map((vector) => this.#query(vector));
      const heaps = batch.map(() => new NearestHeap(Math.min(k, vectors.count)));
      /** No row that was left out can be nearer than this. */
      const leftOut = batch.map(() => Number.POSITIVE_INFINITY);
      for (const [index, chunk] of this.#chunks.entries()) {
        const found = await this.#search(chunk, batch, ask);
        const first = index * this.#chunkRows;
        batch.forEach((query, i) => {
          const at = i * 2 * ask;
          for (let place = 0; place < ask; place++) {
            const row = found[at + ask + place]!;
            if (row >= 0) heaps[i]!.offer(first + row, rowDistance(query.vector, vectors, first + row));
          }
          if (chunk.count > ask) leftOut[i] = Math.min(leftOut[i]!, query.atLeast(found[at + ask - 1]!));
        });
      }
      heaps.forEach((heap, i) => {
        const answer = heap.sorted();
        const farthest = answer.distances[answer.distances.length - 1] ?? Number.NEGATIVE_INFINITY;
        answers.push(farthest < leftOut[i]! ? answer : null);
      });
    }
    return answers;
  }

  dispose(): void {
    for (const chunk of this.#chunks.splice(0)) disposeChunk(chunk);
  }

  #makeChunk(capacity: number): Chunk {
    const store = new Store(this.backend);
    try {
      // A store holds words of four bytes: for bytes, four to a word.
      store.define('templates', [capacity, this.#rowBytes / 4]);
      store.define(this.#isBytes ? 'scales' : 'squares', [capacity]);
    } catch (error) {
      store.dispose();
      throw error;
    }
    return { store, capacity, count: 0, plans: new Map() };
  }

  #write(chunk: Chunk, vectors: SearchedVectors, first: number, from: number, to: number): void {
    const d = this.#dimensions;
    const place = chunk.store.parts('templates')[0]!.buffer;
    const step = Math.max(1, Math.floor(PIECE / this.#rowBytes));
    for (let row = from; row < to; row += step) {
      const end = Math.min(to, row + step);
      const rows = vectors.data.subarray((first + row) * d, (first + end) * d);
      this.backend.write(
        place,
        row * this.#rowBytes,
        rows instanceof Int8Array && this.#width !== d ? padded(rows, d, this.#width) : rows,
      );
    }
    const [name, ofRows] =
      'scales' in vectors
        ? ['scales', vectors.scales.subarray(first + from, first + to)]
        : ['squares', squaresOf(vectors.data.subarray((first + from) * d, (first + to) * d), d)];
    this.backend.write(chunk.store.parts(name)[0]!.buffer, from * 4, ofRows);
  }

  #wipe(chunk: Chunk, from: number): void {
    const zeros = new Uint8Array(Math.min(PIECE, (chunk.count - from) * this.#rowBytes));
    const end = chunk.count * this.#rowBytes;
    for (let at = from * this.#rowBytes; at < end; at += zeros.length)
      this.backend.write(
        chunk.store.parts('templates')[0]!.buffer,
        at,
        zeros.subarray(0, Math.min(zeros.length, end - at)),
      );
  }

  /** A list for each query: `ask` distances, then as many rows of the chunk. */
  async #search(chunk: Chunk, batch: readonly Query[], ask: number): Promise<Float32Array> {
    let plan = chunk.plans.get(ask);
    if (!plan) {
      plan = await this.#plan(chunk, ask);
      chunk.plans.set(ask, plan);
    }
    const count = Int32Array.of(chunk.count);
    if (!this.#isBytes) {
      const query = new Float32Array(batch.length * this.#width);
      batch.forEach(({ vector }, i) => query.set(vector, i * this.#width));
      const querySquares = Float32Array.from(batch, ({ square }) => square);
      return (await plan.run({ query, querySquares, count }, batch.length)).y as Float32Array;
    }
    const words = new Int16Array(batch.length * this.#width);
    batch.forEach((query, i) => words.set(query.words!, i * this.#width));
    const queryScale = Float32Array.from(batch.flatMap(({ scale }) => [...scale!]));
    return (await plan.run({ query: words, queryScale, count }, batch.length)).y as Float32Array;
  }

  #plan({ store, capacity }: Chunk, k: number): Promise<Plan> {
    const graph = new Graph();
    const count = graph.input('count', [1], 'i32');
    const templates = graph.parameter('templates', [capacity, this.#rowBytes / 4]);
    const y = this.#isBytes
      ? topKBytes(
          graph.input('query', [BATCH, this.#width / 2], 'i32'),
          graph.input('queryScale', [BATCH, 2]),
          templates,
          graph.parameter('scales', [capacity]),
          count,
          { k },
        )
      : topK(
          graph.input('query', [BATCH, this.#width]),
          graph.input('querySquares', [BATCH]),
          templates,
          graph.parameter('squares', [capacity]),
          count,
          { k },
        );
    return Plan.create(graph, { y }, this.backend, store, { batchSize: QUERIES });
  }

  #query(vector: Float32Array): Query {
    const d = this.#dimensions;
    if (!this.#isBytes) {
      const square = vector.reduce((sum, value) => sum + value * value, 0);
      // Of three sums, of which the templates' is that of unit vectors or less. 1e-30: what a device may flush to zero.
      const error = (d + 8) * UNIT * (1.01 + Math.sqrt(square)) ** 2 + 1e-30;
      return { vector, square, atLeast: (distance) => Math.min(4, distance - error) };
    }
    // The longest side becomes the largest whole number for which no sum can leave 32 bits.
    const most = Math.min(32767, Math.floor((2 ** 31 - 1) / (127 * d)));
    const longest = vector.reduce((sum, value) => Math.max(sum, Math.abs(value)), 0) || 1;
    const factor = Math.fround((2 * longest) / most);
    const words = new Int16Array(this.#width);
    let [rest, square] = [0, 0];
    for (let i = 0; i < d; i++) {
      words[i] = Math.max(-most, Math.min(most, Math.round((2 * vector[i]!) / factor)));
      const kept = (words[i]! * factor) / 2;
      rest += (vector[i]! - kept) ** 2;
      square += kept * kept;
    }
    // What rounding the query moved it by, and what the device rounds and the templates' lengths differ from 1 by: 2^-19 of all terms.
    const moved = Math.sqrt(rest) * (1 + 1e-9);
    const error = 2 ** -19 * Math.max(1, (1 + Math.sqrt(square)) ** 2 / 4);
    return {
      vector,
      square,
      words,
      scale: [factor, square + 1],
      atLeast: (distance) =>
        Math.min(4, Math.max(0, Math.sqrt(Math.max(0, distance - error)) - moved) ** 2 * (1 - 1e-12)),
    };
  }
}

function disposeChunk({ plans, store }: Chunk): void {
  for (const plan of plans.values()) plan.dispose();
  store.dispose();
}

/** The sum of the squares of each row of d numbers. */
function squaresOf(rows: ArrayLike<number>, d: number): Float32Array {
  const squares = new Float32Array(rows.length / d);
  for (let row = 0; row < squares.length; row++) {
    let square = 0;
    for (let i = row * d; i < (row + 1) * d; i++) square += rows[i]! * rows[i]!;
    squares[row] = square;
  }
  return squares;
}

/** Rows of d bytes as rows of `width`, with zeros behind. */
function padded(rows: Int8Array, d: number, width: number): Int8Array {
  const wide = new Int8Array((rows.length / d) * width);
  for (let row = 0; row * d < rows.length; row++) wide.set(rows.subarray(row * d, (row + 1) * d), row * width);
  return wide;
}
