// Search in galleries of 10^4, 10^5 and 10^6 templates of 128 numbers, float32 and int8: the plain loop, the device, and what peers there are.
//
//   node build.mjs run bench/search.ts [--rows 10000,100000,1000000] [--threads 2] [--backend wasm|webgpu] [--peers FOLDER] [--file]
//
// FOLDER holds node_modules with onnxruntime-node and @tensorflow/tfjs-core, -backend-cpu and -backend-wasm; those that are there are timed. They
// rank by the dot product of unit vectors, which is exact but for rounding, and keep no order among equals; ours gives the plain loop's rows and bits.
// Every call has a query of its own. Medians, in milliseconds; GB/s: bytes of templates by the time of one query, beside the same bytes searched
// for one byte by memchr on as many threads (the ceiling: no search reads them faster). With --file instead: seconds, and processor seconds, of saving
// a gallery of so many templates and of loading it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { openBackend } from '../src/backends/open.ts';
import { deviceSearch } from '../src/faces/gallery/device-search.ts';
import { quantise } from '../src/faces/gallery/int8.ts';
import { type FloatVectors, nearestRows, type SearchedVectors } from '../src/faces/gallery/search.ts';
import type { TemplateKind } from '../src/faces/gallery/template-table.ts';
import { FaceGallery } from '../src/faces/gallery.ts';
import { readGallery, writeGallery } from '../src/io/gallery-file.ts';
import { createNodeHost } from '../src/io/node/host.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '10000,100000,1000000' },
    threads: { type: 'string', default: '2' },
    backend: { type: 'string', default: 'wasm' },
    peers: { type: 'string' },
    file: { type: 'boolean' },
  },
});
const threads = Number(values.threads);
const d = 128;
const k = 5;

/** Unit rows by xorshift. */
function randomRows(count: number, seed: number): FloatVectors {
  let state = seed;
  const data = new Float32Array(count * d);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let i = row * d; i < (row + 1) * d; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      const value = state / 2 ** 31;
      data[i] = value;
      square += value * value;
    }
    const scale = 1 / Math.sqrt(square);
    for (let i = row * d; i < (row + 1) * d; i++) data[i]! *= scale;
  }
  return { data, count, dimensions: d };
}

const queries = randomRows(400, 77);
let asked = 0;
/** The next queries, none of them asked before. */
function next(count: number): Float32Array {
  if ((asked + count) * d > queries.data.length) asked = 0;
  asked += count;
  return queries.data.slice((asked - count) * d, asked * d);
}

/** Median milliseconds of a call, once half a second of calls has made the runtime compile what it calls. */
async function median(run: () => unknown, calls: number): Promise<number> {
  for (const start = performance.now(); performance.now() - start < 500; ) await run();
  const times: number[] = [];
  for (let call = 0; call < calls; call++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[calls >> 1] as number;
}

/** Seconds in which `count` threads read `bytes` by memchr, at best of five. */
async function reading(bytes: number, count: number): Promise<number> {
  const memory = new SharedArrayBuffer(Math.ceil(bytes / count) * count);
  const source = `const { parentPort, workerData: { memory, from, length } } = require('node:worker_threads');
    const part = Buffer.from(memory, from, length);
    parentPort.on('message', () => parentPort.postMessage(part.includes(1)));`;
  const length = memory.byteLength / count;
  const workers = Array.from(
    { length: count },
    (_, i) => new Worker(source, { eval: true, workerData: { memory, from: i * length, length } }),
  );
  new Uint8Array(memory).fill(2);
  let best = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < 6; turn++) {
    const start = performance.now();
    await Promise.all(
      workers.map((worker) => {
        const done = new Promise((resolve) => worker.once('message', resolve));
        worker.postMessage('read');
        return done;
      }),
    );
    if (turn > 0) best = Math.min(best, performance.now() - start);
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  return best;
}

// -- peers ----------------------------------------------------------------------------------------------------------

/** A field of a protocol buffer. */
function field(number: number, value: number | string | Uint8Array): Uint8Array {
  const varint = (n: number): number[] => (n < 128 ? [n] : [(n % 128) + 128, ...varint(Math.floor(n / 128))]);
  if (typeof value === 'number') return Uint8Array.from([...varint(number * 8), ...varint(value)]);
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
  return Uint8Array.from([...varint(number * 8 + 2), ...varint(bytes.length), ...bytes]);
}
const message = (...fields: Uint8Array[]): Uint8Array => Uint8Array.from(fields.flatMap((bytes) => [...bytes]));

/** ONNX: TopK(MatMul(query [q, d], templates [d, n])). */
function searchModel(): Uint8Array {
  const node = (type: string, inputs: string[], outputs: string[]) =>
    message(...inputs.map((name) => field(1, name)), ...outputs.map((name) => field(2, name)), field(4, type));
  const tensor = (type: number, ...dimensions: string[]) =>
    field(1, message(field(1, type), field(2, message(...dimensions.map((name) => field(1, field(2, name)))))));
  const value = (name: string, type: Uint8Array) => message(field(1, name), field(2, type));
  const graph = message(
    field(1, node('MatMul', ['query', 'templates'], ['scores'])),
    field(1, node('TopK', ['scores', 'k'], ['values', 'rows'])),
    field(2, 'search'),
    field(11, value('query', tensor(1, 'q', 'd'))),
    field(11, value('templates', tensor(1, 'd', 'n'))),
    field(11, value('k', tensor(7, 'one'))),
    field(12, value('values', tensor(1, 'q', 'k'))),
    field(12, value('rows', tensor(7, 'q', 'k'))),
  );
  return message(field(1, 8), field(7, graph), field(8, message(field(1, ''), field(2, 13))));
}

interface Peer {
  readonly name: string;
  /** Milliseconds of one query, and of one of sixteen at once. */
  times(vectors: FloatVectors, calls: number): Promise<[number, number]>;
}

/** The templates as columns, which peers multiply fastest; turned in blocks of rows, so that the caches hold them. */
function columns({ data, count }: FloatVectors): Float32Array {
  const turned = new Float32Array(data.length);
  for (let first = 0; first < count; first += 256)
    for (let i = 0; i < d; i++)
      for (let row = first; row < Math.min(count, first + 256); row++) turned[i * count + row] = data[row * d + i]!;
  return turned;
}

async function peers(folder: string): Promise<Peer[]> {
  const require = createRequire(join(folder, 'package.json'));
  const here = (name: string) => existsSync(join(folder, 'node_modules', name));
  const found: Peer[] = [];
  if (here('onnxruntime-node')) {
    const ort = require('onnxruntime-node');
    const options = { executionProviders: ['cpu'], intraOpNumThreads: threads, interOpNumThreads: 1 };
    found.push({
      name: `onnxruntime-node ${require('onnxruntime-node/package.json').version}, ${threads} threads`,
      async times(vectors, calls) {
        const session = await ort.InferenceSession.create(searchModel(), options);
        const templates = new ort.Tensor('float32', columns(vectors), [d, vectors.count]);
        const kTensor = new ort.Tensor('int64', BigInt64Array.of(BigInt(k)), [1]);
        const run = (count: number) =>
          session.run({ query: new ort.Tensor('float32', next(count), [count, d]), templates, k: kTensor });
        const times: [number, number] = [await median(() => run(1), calls), (await median(() => run(16), calls)) / 16];
        await session.release();
        return times;
      },
    });
  }
  if (here('@tensorflow/tfjs-backend-wasm')) {
    const tf = require('@tensorflow/tfjs-core');
    require('@tensorflow/tfjs-backend-cpu');
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${join(folder, 'node_modules/@tensorflow/tfjs-backend-wasm/dist')}/`);
    await tf.setBackend('wasm');
    await tf.ready();
    found.push({
      name: `tfjs-backend-wasm ${tf.version_core}`,
      async times(vectors, calls) {
        const templates = tf.tensor2d(columns(vectors), [d, vectors.count]);
        const run = async (count: number) => {
          const query = tf.tensor2d(next(count), [count, d]);
          const scores = tf.matMul(query, templates);
          const { values: best, indices } = tf.topk(scores, k, true);
          await indices.data();
          tf.dispose([query, scores, best, indices]);
        };
        const times: [number, number] = [await median(() => run(1), calls), (await median(() => run(16), calls)) / 16];
        templates.dispose();
        return times;
      },
    });
  }
  return found;
}

// -- files ----------------------------------------------------------------------------------------------------------

async function file({ data, count }: FloatVectors, templates: TemplateKind): Promise<void> {
  const entries = Array.from({ length: count }, (_, row) => ({
    id: row.toString(16).padStart(24, '0'),
    label: `Person ${row >> 2}`,
  }));
  const codec = { write: writeGallery, read: readGallery };
  const options = { fingerprint: 'bench', dimensions: d, codec, templates };
  const gallery = await FaceGallery.open(options);
  let bytes = await writeGallery({ fingerprint: 'bench', dimensions: d, entries, vectors: data });
  const timed = async (name: string, run: () => Promise<unknown>) => {
    const [start, before] = [performance.now(), process.cpuUsage()];
    await run();
    const { user, system } = process.cpuUsage(before);
    console.log(
      `${count} x ${d} ${templates.padEnd(7)}  ${name.padEnd(8)} ${((performance.now() - start) / 1000).toFixed(2).padStart(6)} s, ${((user + system) / 1e6).toFixed(2)} s of processors, ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB at most so far`,
    );
  };
  await gallery.load(bytes);
  await timed('save', async () => {
    bytes = await gallery.save();
  });
  await timed('load', () => gallery.load(bytes));
  await gallery.close();
}

// -- run ------------------------------------------------------------------------------------------------------------

const { backend, why } = await openBackend(createNodeHost(), { backend: values.backend as 'wasm' | 'webgpu', threads });
console.log(`${why}; Node ${process.version}; k = ${k}`);
const others = values.peers === undefined ? [] : await peers(values.peers);
for (const count of (values.rows as string).split(',').map(Number)) {
  const calls = count >= 1e6 ? 5 : 31;
  const floats = randomRows(count, count);
  const kinds: [string, SearchedVectors][] = [
    ['float32', floats],
    ['int8', quantise(floats)],
  ];
  for (const [kind, vectors] of kinds) {
    if (values.file) {
      await file(floats, kind as TemplateKind);
      continue;
    }
    const bytes = count * d * (kind === 'int8' ? 1 : 4);
    const ceiling = bytes / 1e6 / (await reading(bytes, threads));
    const line = (name: string, one: number, many: number) =>
      console.log(
        `${count} x ${d} ${kind.padEnd(7)}  ${name.padEnd(36)} ${one.toFixed(2).padStart(9)} ms   ${many.toFixed(2).padStart(9)} ms a query of 16   ${(bytes / 1e6 / one).toFixed(1).padStart(5)} GB/s, ${((100 * bytes) / 1e6 / one / ceiling).toFixed(0)} % of ${ceiling.toFixed(1)}`,
      );
    const plain = await median(() => nearestRows(next(1), vectors, k), calls);
    line('plain loop', plain, plain);
    const device = deviceSearch((task) => task(backend), { fewRows: 1 });
    await device.load(vectors, 0);
    const one = await median(() => device.nearest(next(1), k), calls);
    const sixteen = () => device.nearestOfMany?.({ data: next(16), count: 16, dimensions: d }, k);
    line(`facenet-gpu, ${backend.name}`, one, (await median(sixteen, calls)) / 16);
    await device.close?.();
    if (kind === 'float32') for (const peer of others) line(peer.name, ...(await peer.times(floats, calls)));
  }
}
await backend.dispose();
