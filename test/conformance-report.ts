// What one runtime computes, for docs/conformance.md (test/conformance.mjs): every operator forward and backward on the cases of
// conformance.test.ts, golden faces, ten training steps. Runs in Node, in Deno and in a page; nothing here knows which.

import faces from '../demo/faces.json' with { type: 'json' };
import type { CreateOptions, FaceNet } from '../src/facenet-gpu.ts';
import type { Backend } from '../src/plan/runner.ts';
import { memoryDataset } from '../src/train/dataset.ts';
import { openDevice, wasmBackend, webgpuBackend } from './backends.ts';
import golden from './cases/golden-faces.json' with { type: 'json' };
import { conform, specs } from './conformance.ts';
import { distance } from './page-report.ts';

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

export interface BackendReport {
  readonly backend: string;
  readonly device: string;
  readonly seconds: number;
  readonly operators: Readonly<Record<string, OperatorReport>>;
  /** L2 distance from the float64 embedding, by face. */
  readonly faces: Readonly<Record<string, number>>;
  readonly faceBits: string;
  /** Squared distances of all pairs of the golden faces. */
  readonly decisions: readonly boolean[];
  /** Loss and gradient norm of ten steps, and bits of both and of an embedding afterwards. */
  readonly losses: readonly number[];
  readonly trainingBits: string;
  readonly failures: readonly string[];
}

export interface RuntimeReport {
  readonly runtime: string;
  readonly when: string;
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

export interface ReportOptions {
  readonly runtime: string;
  readonly backends: readonly string[];
  readonly create: Create;
  /** Folder or address of the sample photos. */
  readonly photos: string;
  /** Golden faces and ten training steps as well; default true. */
  readonly whole?: boolean;
  readonly tell?: (line: string) => void;
  /** Given what is known so far, after each part: for a run that is stopped. */
  readonly keep?: (report: RuntimeReport) => void;
}

/** Runs everything on each backend; a failure is reported, never thrown. */
export async function report({
  runtime,
  backends,
  create,
  photos,
  whole = true,
  tell = () => {},
  keep = () => {},
}: ReportOptions): Promise<RuntimeReport> {
  const found: BackendReport[] = [];
  const when = new Date().toISOString().slice(0, 10);
  for (const name of backends) {
    tell(`${runtime}, ${name}`);
    const start = performance.now();
    const failures: string[] = [];
    const at = found.length;
    const so = (part: Partial<BackendReport>, missing: readonly string[] = []) => {
      const seconds = Math.round((performance.now() - start) / 100) / 10;
      const stopped = missing.map((what) => `${what}: not reached in the time given`);
      const before = found[at] ?? { ...nothing, backend: name, device: name };
      found[at] = { ...before, ...part, seconds, failures: [...failures, ...stopped] };
      keep({ runtime, when, backends: found });
    };
    try {
      const backend = await openers[name]?.();
      if (!backend) throw new Error('no such backend here');
      so({ device: await deviceOf(backend) }, ['operators', 'golden faces', 'ten training steps']);
      const operators: Record<string, OperatorReport> = {};
      for (const spec of specs) {
        operators[spec.operator.name] = await operatorOn(backend, spec);
        const failure = operators[spec.operator.name]?.failures[0];
        if (failure !== undefined) tell(`  ${spec.operator.name}: ${failure}`);
        so({ operators }, ['further operators', 'golden faces', 'ten training steps']);
      }
      await backend.dispose();
    } catch (error) {
      failures.push(`operators: ${(error as Error).message}`);
    }
    if (!whole) continue;
    so(await embed(create, name, photos, failures), ['ten training steps']);
    so(await train(create, name, failures));
  }
  return { runtime, when, backends: found };
}

const nothing: Omit<BackendReport, 'backend' | 'device'> = {
  seconds: 0,
  operators: {},
  faces: {},
  faceBits: '',
  decisions: [],
  losses: [],
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

async function deviceOf(backend: Backend): Promise<string> {
  if (backend.name === 'wasm') return 'CPU';
  const opened = await openDevice();
  const { vendor, architecture, device, description } = opened?.adapter.info ?? ({} as GPUAdapterInfo);
  opened?.device.destroy();
  return [vendor, architecture, device, description].filter((part) => part && part !== '0').join(' ');
}

async function embed(create: Create, name: string, photos: string, failures: string[]) {
  const away: Record<string, number> = {};
  const digest = new Digest();
  const vectors: Float32Array[] = [];
  try {
    const net = await create({ model: 'dlib-resnet', batchSize: 1, ...creators[name] });
    for (const { image, faces: found } of faces.photos)
      for (const { name: face, landmarks } of found) {
        const exact = golden.faces.find((record) => record.name === face)?.embedding ?? [];
        const { data } = await net.embed({ image: photos + image, landmarks: landmarks as [number, number][] });
        digest.add(data);
        vectors.push(data);
        away[face] = distance(data, exact);
      }
    await net.dispose();
  } catch (error) {
    failures.push(`golden faces: ${(error as Error).message}`);
  }
  const decisions = vectors.flatMap((a, i) => vectors.slice(i + 1).map((b) => distance(a, b) ** 2 <= 0.1474));
  return { faces: away, faceBits: String(digest), decisions };
}

async function train(create: Create, name: string, failures: string[]) {
  const digest = new Digest();
  const losses: number[] = [];
  try {
    const data = memoryDataset(
      Array.from({ length: 12 }, (_, i) => {
        const pixels = Uint8Array.from({ length: 32 * 32 * 3 }, (_, j) => (j * 37 + i * 91 + (j >> 5) * i) & 255);
        return { pixels: { data: pixels, width: 32, height: 32 }, label: i >> 1 };
      }),
    );
    const net = await create({ model: { network: 'nn4.small2', seed: 2, size: 32 }, batchSize: 2, ...creators[name] });
    for await (const { loss, gradientNorm } of net.train(data, { steps: 10, people: 3, perPerson: 2, seed: 1 })) {
      losses.push(loss);
      digest.add(Float64Array.of(loss, gradientNorm));
    }
    digest.add((await net.embed((await data.read(3)).pixels)).data);
    await net.dispose();
  } catch (error) {
    failures.push(`ten training steps: ${(error as Error).message}`);
  }
  return { losses, trainingBits: String(digest) };
}
