// What one runtime computes, for docs/conformance.md (test/conformance.mjs): every operator forward and backward on the cases of
// conformance.test.ts, every network whole, golden faces, detection, 300 pairs of LFW, ten training steps. Runs in Node, in Deno and in a page; nothing here knows which.

import faces from '../demo/faces.json' with { type: 'json' };
import type { Detector, DetectorOptions } from '../src/face-detector.ts';
import type { CreateOptions, FaceNet } from '../src/facenet-gpu.ts';
import { Graph } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import calibration from '../src/io/dlib-operating-points.json' with { type: 'json' };
import { networks } from '../src/networks/networks.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { Trainer } from '../src/train/trainer.ts';
import { openDevice, wasmBackend, webgpuBackend } from './backends.ts';
import golden from './cases/golden-faces.json' with { type: 'json' };
import tinyFaces from './cases/tiny-face.json' with { type: 'json' };
import { conform, specs } from './conformance.ts';
import { BATCH_SIZE, cases as networkCases, pixels, weights } from './networks-cases.ts';
import { evaluate } from './networks-oracle.ts';
import { distance } from './page-report.ts';
import type { TinyFaceCases } from './tiny-face.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

/** One operator on one backend. */
export interface OperatorReport {
  readonly cases: number;
  /** Cases left out, being large. */
  readonly skipped: number;
  /** Largest error, relative to the largest expected value, and the same as a share of what its bound allows. */
  readonly error: number;
  readonly share: number;
  /** Of all results of the cases that every backend runs; equal means equal bits. */
  readonly bits: string;
  readonly failures: readonly string[];
}

/** What is computed, in this order, and how the failures of each begin. */
export const PARTS = {
  operators: 'operator',
  networks: 'network',
  faces: 'face',
  detection: 'detection',
  training: 'training',
  pairs: 'pairs',
} as const;
export type Part = keyof typeof PARTS;

export interface BackendReport {
  readonly backend: string;
  readonly device: string;
  /** By part: how long it took, and the day. */
  readonly ran: Readonly<Partial<Record<Part, { readonly seconds: number; readonly of: string }>>>;
  readonly operators: Readonly<Record<string, OperatorReport>>;
  /** L2 distance from the float64 embeddings, the worst of three pictures, by network; and bits of all embeddings. */
  readonly networks: Readonly<Record<string, number>>;
  readonly networkBits: string;
  /** Faces found in the sample photos, those that the original program found, and the largest distance from its boxes and points in pixels. */
  readonly detection?: {
    readonly found: number;
    readonly expected: number;
    readonly worst: number;
    readonly bits: string;
  };
  /** Pairs of LFW: 1 where taken for one person, 0 where not, and how many are right; left out without the images. */
  readonly pairs?: { readonly decisions: string; readonly right: number; readonly bits: string };
  /** L2 distance from the float64 embedding, by face. */
  readonly faces: Readonly<Record<string, number>>;
  readonly faceBits: string;
  /** Squared distances of all pairs of the golden faces. */
  readonly decisions: readonly boolean[];
  /** Loss and number of triplets of ten steps; bits of all figures of the steps and of the weights they leave. */
  readonly losses: readonly number[];
  readonly triplets: readonly number[];
  readonly trainingBits: string;
  readonly failures: readonly string[];
}

export interface RuntimeReport {
  readonly runtime: string;
  readonly backends: readonly BackendReport[];
}

/** FNV-1a over 64 bits, in two halves: enough to tell equal from different. */
class Digest {
  #a = 0x811c9dc5;
  #b = 0x9747b28c;

  add(values: ArrayBufferView): void {
    for (const byte of new Uint8Array(values.buffer, values.byteOffset, values.byteLength)) {
      this.#a = Math.imul(this.#a ^ byte, 0x01000193) >>> 0;
      this.#b = Math.imul(this.#b ^ byte ^ (this.#a >>> 24), 0x01000193) >>> 0;
    }
  }

  toString(): string {
    return [this.#a, this.#b].map((half) => half.toString(16).padStart(8, '0')).join('');
  }
}

/** The promise of the design: L2 distance from the float64 embedding. */
const EMBEDDING_BOUND = 1e-4;
/** Pixels, as in test/tiny-face.test.ts: two programs in float32. */
const DETECTION_BOUND = 0.05;

/** Backends by name. */
const openers: Readonly<Record<string, () => Promise<Backend | null>>> = {
  plain: () => wasmBackend({}),
  'plain x2': () => wasmBackend({ threads: 2 }),
  relaxed: () => wasmBackend({ relaxed: true }),
  'relaxed x2': () => wasmBackend({ relaxed: true, threads: 2 }),
  webgpu: () => webgpuBackend(),
};

/** The same for the class. */
const creators: Readonly<Record<string, Partial<CreateOptions>>> = {
  plain: { backend: 'wasm', relaxed: false, threads: 1 },
  'plain x2': { backend: 'wasm', relaxed: false, threads: 2 },
  relaxed: { backend: 'wasm', threads: 1 },
  'relaxed x2': { backend: 'wasm', threads: 2 },
  webgpu: { backend: 'webgpu' },
};

type Create = (options: CreateOptions) => Promise<FaceNet>;

/** Photos in base64 with their five landmarks; pairs of their numbers, and whether they show one person. */
export interface LfwSample {
  readonly faces: readonly { readonly image: string; readonly landmarks: readonly (readonly [number, number])[] }[];
  readonly pairs: readonly (readonly [number, number, boolean])[];
}

export interface ReportOptions {
  readonly runtime: string;
  readonly backends: readonly string[];
  readonly create: Create;
  /** Folder or address of the sample photos. */
  readonly photos: string;
  readonly openDetector: (options: DetectorOptions) => Promise<Detector>;
  /** Path or address of the tiny face detector's file. */
  readonly detector: string;
  /** Left out on a machine without the images. */
  readonly lfw?: LfwSample | undefined;
  readonly tell?: (line: string) => void;
  /** Given what is known so far, after each part: for a run that is stopped. */
  readonly keep?: (report: RuntimeReport) => void;
  /** Only these; the others are as in `before`. Default: all, and `before` counts for nothing. */
  readonly parts?: readonly Part[];
  readonly before?: RuntimeReport | undefined;
  /** Of the operators only these. Default: all. */
  readonly operators?: readonly string[] | undefined;
}

/** Runs everything on each backend; a failure is reported, never thrown. */
export async function report({
  runtime,
  backends,
  create,
  openDetector,
  photos,
  detector,
  lfw,
  tell = () => {},
  keep = () => {},
  parts = Object.keys(PARTS) as Part[],
  before,
  operators: named,
}: ReportOptions): Promise<RuntimeReport> {
  const found: BackendReport[] = [];
  const exact: ExactNetworks = new Map();
  const wanted = (Object.keys(PARTS) as Part[]).filter((part) => parts.includes(part) && (part !== 'pairs' || lfw));
  for (const [at, name] of backends.entries()) {
    const old = before?.backends.find(({ backend }) => backend === name) ?? nothing;
    const kept = old.failures.filter((text) => !wanted.some((part) => text.startsWith(PARTS[part])));
    const failures: string[] = [];
    const left = [...wanted];
    found[at] = { ...old, backend: name, device: name };
    const so = (result: Partial<BackendReport>, ran = found[at]?.ran ?? {}) => {
      const stopped = left.map((part) => `${PARTS[part]}: not reached in the time given`);
      found[at] = { ...(found[at] as BackendReport), ...result, ran, failures: [...kept, ...failures, ...stopped] };
      // Those that come later are as they were, so that a run that is stopped loses nothing.
      const later = before?.backends.filter((one) => !found.some(({ backend }) => backend === one.backend)) ?? [];
      keep({ runtime, backends: [...found, ...later] });
    };
    const run: Record<Part, () => Promise<Partial<BackendReport>>> = {
      operators: () =>
        withBackend(name, async (backend) => ({
          operators: await operatorsOn(backend, named ? old.operators : {}, named, so, tell),
        })),
      networks: () => withBackend(name, (backend) => networksOn(backend, exact, failures)),
      faces: () => embed(create, name, photos, failures),
      detection: () => detect(openDetector, name, photos, detector, failures),
      training: () => withBackend(name, train),
      pairs: () => decide(create, name, lfw as LfwSample),
    };
    so({ device: await withBackend(name, deviceOf).catch(() => name) });
    for (const part of wanted) {
      tell(`${runtime}, ${name}: ${part}`);
      const start = performance.now();
      const result = await run[part]().catch((error: Error) => {
        failures.push(`${PARTS[part]}: ${error.message}`);
        return {};
      });
      const seconds = Math.round((performance.now() - start) / 100) / 10;
      left.shift();
      so(result, { ...found[at]?.ran, [part]: { seconds, of: new Date().toISOString().slice(0, 10) } });
    }
  }
  return { runtime, backends: found };
}

async function withBackend<T>(name: string, action: (backend: Backend) => Promise<T>): Promise<T> {
  const backend = await openers[name]?.();
  if (!backend) throw new Error('no such backend here');
  try {
    return await action(backend);
  } finally {
    await backend.dispose();
  }
}

async function operatorsOn(
  backend: Backend,
  before: Readonly<Record<string, OperatorReport>>,
  named: readonly string[] | undefined,
  so: (result: Partial<BackendReport>) => void,
  tell: (line: string) => void,
): Promise<Record<string, OperatorReport>> {
  const operators: Record<string, OperatorReport> = { ...before };
  for (const spec of specs.filter(({ operator }) => named?.includes(operator.name) ?? true)) {
    const result = await operatorOn(backend, spec);
    operators[spec.operator.name] = result;
    if (result.failures[0] !== undefined) tell(`  ${spec.operator.name}: ${result.failures[0]}`);
    so({ operators: { ...operators } });
  }
  return operators;
}

const nothing: Omit<BackendReport, 'backend' | 'device'> = {
  ran: {},
  operators: {},
  networks: {},
  networkBits: '',
  faces: {},
  faceBits: '',
  decisions: [],
  losses: [],
  triplets: [],
  trainingBits: '',
  failures: [],
};

async function operatorOn(backend: Backend, spec: (typeof specs)[number]): Promise<OperatorReport> {
  const digest = new Digest();
  const failures: string[] = [];
  let [cases, skipped, error, share] = [0, 0, 0, 0];
  for (const test of spec.cases) {
    if (test.large === true) {
      skipped++;
      continue;
    }
    cases++;
    try {
      for (const outcome of await conform(backend, spec, test)) {
        digest.add(outcome.values);
        error = Math.max(error, outcome.error);
        // A bound of zero asks for the very bits.
        const used = outcome.bound > 0 ? outcome.error / outcome.bound : outcome.error === 0 ? 0 : 1e9;
        share = Math.max(share, used);
        if (!(outcome.error <= outcome.bound)) failures.push(`${test.why}: ${outcome.what} ${outcome.error}`);
      }
    } catch (thrown) {
      failures.push(`${test.why}: ${(thrown as Error).message.split('\n')[0]}`);
    }
  }
  return { cases, skipped, error, share, bits: String(digest), failures };
}

/** Float64 embeddings by case: computed once for all backends. */
type ExactNetworks = Map<string, Float64Array>;

async function networksOn(backend: Backend, exact: ExactNetworks, failures: string[]) {
  const away: Record<string, number> = {};
  const digest = new Digest();
  for (const testCase of networkCases) {
    const { label, name, variant, picture } = testCase;
    const store = new Store(backend);
    let plan: Plan | undefined;
    try {
      const [x, values] = [pixels(testCase), weights(testCase)];
      const graph = new Graph();
      const y = networks[name].build(graph.input('x', [BATCH, picture.height, picture.width, 3]), variant);
      const expected =
        exact.get(label) ??
        (evaluate(graph, [y], { x, ...Object.fromEntries(values) }, BATCH_SIZE).get(y) as Float64Array);
      exact.set(label, expected);
      for (const { name: parameter, shape } of graph.parameters)
        store.set(parameter, values.get(parameter) as Float32Array, shape);
      plan = await Plan.create(graph, { y }, backend, store, { batchSize: BATCH_SIZE });
      const actual = (await plan.run({ x })).y as Float32Array;
      digest.add(actual);
      const row = actual.length / BATCH_SIZE;
      away[label] = Math.max(
        ...Array.from({ length: BATCH_SIZE }, (_, n) =>
          distance(actual.subarray(n * row, (n + 1) * row), expected.subarray(n * row, (n + 1) * row)),
        ),
      );
      if (!(away[label] <= EMBEDDING_BOUND)) failures.push(`network ${label}: ${away[label]} from float64`);
    } catch (error) {
      failures.push(`network ${label}: ${(error as Error).message}`);
    } finally {
      plan?.dispose();
      store.dispose();
    }
  }
  return { networks: away, networkBits: String(digest) };
}

/** The six photos whole, at the detector's own size, against what the original found. */
async function detect(
  open: ReportOptions['openDetector'],
  name: string,
  photos: string,
  model: string,
  failures: string[],
): Promise<Partial<BackendReport>> {
  const { backend, relaxed, threads } = creators[name] ?? {};
  const digest = new Digest();
  let [found, expected, worst] = [0, 0, 0];
  const detector = await open({
    model,
    ...(backend && { backend }),
    ...(relaxed !== undefined && { relaxed }),
    ...(threads && { threads }),
  });
  for (const { image, region, size, score, faces: original } of (tinyFaces as unknown as TinyFaceCases).cases) {
    if (region || size !== 416) continue;
    const seen = await detector.detect(photos + image, { minScore: score });
    found += seen.length;
    expected += original.length;
    original.forEach(({ box: [x = 0, y = 0, width = 0, height = 0] }, i) => {
      const box = seen[i]?.box;
      if (!box) return;
      digest.add(Float64Array.of(box.x, box.y, box.width, box.height, ...(seen[i]?.landmarks.flat() ?? [])));
      const differences = [box.x - x, box.y - y, box.width - width, box.height - height].map(Math.abs);
      worst = Math.max(worst, ...differences);
    });
  }
  await detector.dispose();
  if (found !== expected || !(worst < DETECTION_BOUND))
    failures.push(`detection: ${found} of ${expected} faces, ${worst} pixels away`);
  return { detection: { found, expected, worst, bits: String(digest) } };
}

/** Whether the photos of each pair show one person, by the threshold of best accuracy, which other people chose (bench/lfw.ts). */
async function decide(
  create: Create,
  name: string,
  { faces: photos, pairs }: LfwSample,
): Promise<Partial<BackendReport>> {
  const threshold = calibration.points.find(({ source }) => source.includes('best accuracy'))?.threshold ?? Number.NaN;
  const net = await create({ model: 'dlib-resnet', batchSize: 8, ...creators[name] });
  const { data, dimensions } = await net.embed(
    photos.map(({ image, landmarks }) => ({
      image: Uint8Array.from(atob(image), (character) => character.charCodeAt(0)),
      landmarks: landmarks as [number, number][],
    })),
  );
  await net.dispose();
  const digest = new Digest();
  digest.add(data);
  const row = (n: number) => data.subarray(n * dimensions, (n + 1) * dimensions);
  const decisions = pairs.map(([a, b]) => distance(row(a), row(b)) ** 2 <= threshold);
  return {
    pairs: {
      decisions: decisions.map(Number).join(''),
      right: pairs.filter(([, , same], i) => decisions[i] === same).length,
      bits: String(digest),
    },
  };
}

async function deviceOf(backend: Backend): Promise<string> {
  if (backend.name === 'wasm') return 'CPU';
  const opened = await openDevice();
  const { vendor, architecture, device, description } = opened?.adapter.info ?? ({} as GPUAdapterInfo);
  opened?.device.destroy();
  return [vendor, architecture, device, description].filter((part) => part && part !== '0').join(' ');
}

async function embed(
  create: Create,
  name: string,
  photos: string,
  failures: string[],
): Promise<Partial<BackendReport>> {
  const away: Record<string, number> = {};
  const digest = new Digest();
  const vectors: Float32Array[] = [];
  const net = await create({ model: 'dlib-resnet', batchSize: 1, ...creators[name] });
  for (const { image, faces: found } of faces.photos)
    for (const { name: face, landmarks } of found) {
      const exact = golden.faces.find((record) => record.name === face)?.embedding ?? [];
      const { data } = await net.embed({ image: photos + image, landmarks: landmarks as [number, number][] });
      digest.add(data);
      vectors.push(data);
      const apart = distance(data, exact);
      away[face] = apart;
      if (!(apart <= EMBEDDING_BOUND)) failures.push(`face ${face}: ${apart} from float64`);
    }
  await net.dispose();
  const decisions = vectors.flatMap((a, i) => vectors.slice(i + 1).map((b) => distance(a, b) ** 2 <= 0.1474));
  return { faces: away, faceBits: String(digest), decisions };
}

/**
 * Ten steps of a small network on textures: batch norm, Adagrad, semi-hard mining with people at random, as test/training-script.ts. Its batch
 * norm sees 936 values and more a channel: over few, each step multiplies differences of rounding (docs/conformance.md).
 */
async function train(backend: Backend): Promise<Partial<BackendReport>> {
  const digest = new Digest();
  const [losses, triplets]: number[][] = [[], []];
  const model = tinyModel(backend);
  const options = { steps: 10, people: 6, perPerson: 4, extraNegatives: 2, learningRate: 0.05, seed: 11 } as const;
  const trainer = new Trainer(model, tinyPeople(10, 6), options);
  try {
    for await (const { loss, gradientNorm, meanPositive, meanNegative, triplets: chosen } of trainer.run()) {
      losses?.push(loss);
      triplets?.push(chosen);
      digest.add(Float64Array.of(loss, gradientNorm, meanPositive, meanNegative, chosen));
    }
    for (const [, { data }] of [...(await trainer.state()).tensors].sort(([a], [b]) => (a < b ? -1 : 1)))
      digest.add(data);
    return { losses: losses ?? [], triplets: triplets ?? [], trainingBits: String(digest) };
  } finally {
    trainer.dispose();
    model.store.dispose();
  }
}
