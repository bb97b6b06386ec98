// `facenet bench search`: how long a gallery of this model takes to say who somebody is.
import { setImmediate } from 'node:timers/promises';
import { FaceNetError } from '../errors.ts';
import type { TemplateKind } from '../faces/gallery/template-table.ts';
import type { FaceGallery } from '../faces/gallery.ts';
import { Philox } from '../graph/philox.ts';
import type { FaceNetGPU } from '../node.ts';
import type { Measurement, MeasureOptions } from './bench.ts';
import { searchPlot } from './report/search-plot.ts';

/** `identify` of some queries at once in a gallery. */
export interface SearchTime {
  readonly name: string;
  readonly templates: number;
  readonly kind: TemplateKind;
  /** In one call. */
  readonly queries: number;
  /** Of the call: all its queries. */
  readonly milliseconds: number;
  readonly queriesPerSecond: number;
  /** All templates once a query / time, in 10^9 bytes a second: more than memory is read at where queries share what is read. */
  readonly gigabytes: number;
}

export interface SearchOptions {
  /** Templates of the galleries. */
  readonly sizes?: readonly number[];
  readonly runs: number;
  /** Milliseconds of calls before each measurement, in which runtimes compile what they call and templates go to the device. */
  readonly warmUp?: number;
  readonly signal?: AbortSignal;
  readonly onSearch?: (search: SearchTime) => void;
}

const SIZES = [1_000, 10_000, 100_000];
const KINDS = ['float32', 'int8'] as const;
/** Queries of a call. */
const QUERIES = [1, 64];
/** Templates of a person. */
const PER_PERSON = 4;

/** Galleries of random unit templates, searched for random queries of which none is asked twice. The same templates each time. @throws 'aborted'. */
export async function searchTimes(
  net: Pick<FaceNetGPU, 'gallery' | 'dimensions' | 'fingerprint' | 'operatingPoint'>,
  { sizes = SIZES, runs, warmUp = 500, signal, onSearch }: SearchOptions,
): Promise<SearchTime[]> {
  const { dimensions, fingerprint } = net;
  // Calls that never wait would keep Ctrl-C from being seen.
  const checkSignal = async () => {
    await setImmediate();
    if (signal?.aborted) throw new FaceNetError('aborted', 'bench: the call was aborted.', { cause: signal.reason });
  };
  const vectors = (data: Float32Array) => ({ data, count: data.length / dimensions, dimensions, fingerprint });
  const templates = randomUnitVectors(Math.max(...sizes), dimensions, new Philox(1));
  const queries = new Philox(1, 1);
  const point = net.operatingPoint({ threshold: 1 });
  const enrol = async (gallery: FaceGallery, size: number) => {
    for (let row = 0; row < size; row += PER_PERSON) {
      await checkSignal();
      const end = Math.min(size, row + PER_PERSON);
      await gallery.enroll(`Person ${row}`, vectors(templates.subarray(row * dimensions, end * dimensions)));
    }
  };
  const call = async (gallery: FaceGallery, count: number): Promise<number> => {
    await checkSignal();
    const asked = vectors(randomUnitVectors(count, dimensions, queries));
    const start = performance.now();
    await gallery.identify(asked, point);
    return performance.now() - start;
  };
  const found: SearchTime[] = [];
  for (const size of sizes) {
    for (const kind of KINDS) {
      const gallery = await net.gallery({ templates: kind });
      try {
        await enrol(gallery, size);
        for (const count of QUERIES) {
          for (const start = performance.now(); performance.now() - start < warmUp; ) await call(gallery, count);
          const times: number[] = [];
          for (let run = 0; run < runs; run++) times.push(await call(gallery, count));
          const milliseconds = times.sort((a, b) => a - b)[runs >> 1] as number;
          const queriesPerSecond = milliseconds > 0 ? (1000 * count) / milliseconds : 0;
          const search = {
            name: `${size} ${kind}, ${count} ${count === 1 ? 'query' : 'queries'}`,
            templates: size,
            kind,
            queries: count,
            milliseconds,
            queriesPerSecond,
            gigabytes: (queriesPerSecond * size * dimensions * (kind === 'int8' ? 1 : 4)) / 1e9,
          };
          found.push(search);
          onSearch?.(search);
        }
      } finally {
        await gallery.close();
      }
    }
  }
  return found;
}

/** Rows of length 1, one after the other. */
function randomUnitVectors(count: number, dimensions: number, random: Philox): Float32Array {
  const data = new Float32Array(count * dimensions);
  for (let start = 0; start < data.length; start += dimensions) {
    const row = data.subarray(start, start + dimensions);
    let square = 0;
    for (let i = 0; i < dimensions; i++) {
      const value = 2 * random.uniform() - 1;
      row[i] = value;
      square += value * value;
    }
    const scale = 1 / Math.sqrt(square);
    for (let i = 0; i < dimensions; i++) row[i] = (row[i] as number) * scale;
  }
  return data;
}

/** `facenet bench search`. */
export async function measureSearch(
  net: FaceNetGPU,
  { context: { terminal, signal }, name, runs }: MeasureOptions,
): Promise<Measurement> {
  const counter = terminal.counter('searches', SIZES.length * KINDS.length * QUERIES.length);
  let done = 0;
  const searches = await searchTimes(net, {
    runs,
    signal,
    onSearch: () => counter.update(++done),
  }).finally(() => counter.stop());
  const subject = `${name} (${net.model.network})`;
  return {
    fields: { searches },
    rows: searches,
    summary: `${subject}: galleries of templates of ${net.dimensions} numbers; ${net.why}`,
    how: `Medians of ${runs} calls of identify(), the five nearest people, after half a second of calls; random unit vectors, ${PER_PERSON} templates a person, no query asked twice. ms: of a call, all its queries. GB/s: all templates once a query / time; queries asked at once share what is read.`,
    table: [
      ['templates', 'kept as', 'queries at once', 'ms', 'queries/s', 'GB/s'],
      ...searches.map(({ templates, kind, queries, milliseconds, queriesPerSecond, gigabytes }) => [
        String(templates),
        kind,
        String(queries),
        milliseconds.toFixed(3),
        queriesPerSecond.toFixed(0),
        gigabytes.toFixed(1),
      ]),
    ],
    right: [0, 2, 3, 4, 5],
    title: `Search in galleries of ${subject}`,
    legend: 'Green: float32, blue: int8; dots: one query a call, rings: 64 at once.',
    plot: () => searchPlot(searches),
  };
}
