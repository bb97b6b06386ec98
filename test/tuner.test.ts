// area: networks
// on: none lavapipe swiftshader
//
// The tuner takes faster kernels and never other numbers: the same bits untuned, tuned, remembered, and with every variant it could take.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { EmbedderTuner } from '../src/facenet-gpu/tuning.ts';
import { Embedder, pack } from '../src/faces/embedder.ts';
import { place } from '../src/faces/preprocessing.ts';
import type { ModelCache } from '../src/io/fetch-model.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { FaceNetGPU, type Progress } from '../src/node.ts';
import type { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { choicesOf } from '../src/plan/tuner.ts';
import { wasmBackend, webgpuBackend } from './backends.ts';
import { tinyNet, tinyPreprocessing } from './training-net.ts';

const BATCH = 3;
const backend: Backend = (await webgpuBackend()) ?? (await wasmBackend());
const onGpu = backend.name === 'webgpu';
const store = new Store(backend);
const defaults = backend.families;
const made: Embedder[] = [];

const faces = pack(
  [1, 2, 3].map((seed) => {
    const data = Uint8Array.from({ length: 24 * 24 * 3 }, (_, i) => (i * 37 * seed + (i >> 3)) & 255);
    return place({ data, width: 24, height: 24 }, undefined, tinyPreprocessing);
  }),
  tinyPreprocessing,
);
const bitsOf = async (embedder: Embedder) => new Uint32Array((await embedder.embed(faces)).buffer);

const make = async (on: Backend, weights: Store): Promise<Embedder> => {
  const embedder = await Embedder.create(tinyNet, {}, tinyPreprocessing, on, weights, BATCH);
  if (on === backend) made.push(embedder);
  return embedder;
};
const warm = async (embedder: Embedder) => void (await embedder.embed(faces));

/** Tunes from the tables' defaults; `measure` gives the time of each step. */
async function tuned(cache: ModelCache | undefined, measure: (plan: Plan) => Promise<readonly number[]>, on = backend) {
  backend.families = defaults;
  const tuner = new EmbedderTuner(cache, {}, measure);
  try {
    return { embedder: await tuner.embedder(on, store, make, warm), choices: tuner.choices };
  } finally {
    backend.families = defaults;
  }
}

/** Every step takes what `time` says of its variant: 0 for the default, 1 for the second, ... */
const byVariant = (time: (variant: number) => number) => async (plan: Plan) =>
  plan.steps.map(({ choice }) => time(choice?.variants.indexOf(choice.taken) ?? 0));
const unexpected = async (): Promise<readonly number[]> => {
  throw new Error('nothing was to be measured');
};

/** A cache in memory, whose entries a test can look at and spoil. */
function memoryCache() {
  const entries = new Map<string, Uint8Array>();
  const cache: ModelCache = {
    match: async (key) => entries.get(key),
    put: async (key, bytes) => void entries.set(key, bytes),
  };
  return { entries, cache };
}

const taken = (embedder: Embedder) =>
  embedder.plan.steps.filter(({ choice }) => choice).map(({ kernel, constants }) => [kernel, constants]);

let untuned: Uint32Array;
let plain: Embedder;
beforeAll(async () => {
  for (const { name, shape } of parametersOf(tinyNet))
    store.set(name, initialise(parametersOf(tinyNet), 1).get(name) as Float32Array, shape);
  plain = await make(backend, store);
  untuned = await bitsOf(plain);
});
afterAll(async () => {
  for (const embedder of made) await embedder.dispose();
  store.dispose();
  await backend.dispose();
});

describe.skipIf(!onGpu)('tuner', () => {
  test('a plan has choices, and every variant gives the same bits', async () => {
    const choices = [...choicesOf(plain.plan.steps).values()].map(({ choice }) => choice);
    expect(choices.length).toBeGreaterThanOrEqual(3);
    const most = Math.max(...choices.map(({ variants }) => variants.length));
    expect(most).toBeGreaterThanOrEqual(3);
    for (let variant = 1; variant < most; variant++) {
      const { embedder, choices: found } = await tuned(
        undefined,
        byVariant((it) => (it === variant ? 0.5 : 1)),
      );
      for (const { variants, taken: name } of found) expect(name).toBe(variants[variant] ?? variants[0]);
      expect(taken(embedder)).not.toEqual(taken(plain));
      expect(await bitsOf(embedder), `variant ${variant}`).toEqual(untuned);
      // Alone as well: the choice holds for every batch.
      const one = pack(
        [
          place(
            { data: new Uint8Array(24 * 24 * 3).map((_, i) => (i * 37 + (i >> 3)) & 255), width: 24, height: 24 },
            undefined,
            tinyPreprocessing,
          ),
        ],
        tinyPreprocessing,
      );
      expect(new Uint32Array((await embedder.embed(one)).buffer)).toEqual(untuned.slice(0, tinyNet.dimensions));
    }
  });

  test('a slower variant is not taken, nor one that gains less than clocks are off', async () => {
    for (const time of [(it: number) => 1 + it, (it: number) => (it === 1 ? 0.97 : 1)]) {
      const { embedder, choices } = await tuned(undefined, byVariant(time));
      for (const { variants, taken: name } of choices) expect(name).toBe(variants[0]);
      expect(taken(embedder)).toEqual(taken(plain));
    }
  });

  test('one slow moment of the machine decides nothing', async () => {
    let call = 0;
    const { choices } = await tuned(undefined, async (plan) => {
      const times = await byVariant((it) => (it === 1 ? 0.8 : 1))(plan);
      return times.map((time) => (call++ % 7 === 0 ? 50 * time : time));
    });
    for (const { variants, taken: name } of choices) expect(name).toBe(variants[1] ?? variants[0]);
  });

  test('remembered: measured once, the same kernels and bits', async () => {
    const { entries, cache } = memoryCache();
    const cold = await tuned(
      cache,
      byVariant((it) => (it === 1 ? 0.5 : 1)),
    );
    expect(entries.size).toBe(1);
    const remembered = await tuned(cache, unexpected);
    expect(remembered.choices).toEqual(cold.choices);
    expect(taken(remembered.embedder)).toEqual(taken(cold.embedder));
    expect(taken(remembered.embedder)).not.toEqual(taken(plain));
    expect(await bitsOf(remembered.embedder)).toEqual(untuned);
    expect(await bitsOf(cold.embedder)).toEqual(untuned);
  });

  test('a damaged entry, or one of something else, is measured anew and replaced', async () => {
    const { entries, cache } = memoryCache();
    const measure = byVariant((it) => (it === 1 ? 0.5 : 1));
    await tuned(cache, measure);
    const [[key, good]] = [...entries] as [[string, Uint8Array]];
    const text = new TextDecoder().decode(good);
    const encode = (value: string) => new TextEncoder().encode(value);
    const entry = JSON.parse(text) as { choices: { taken: string }[] };
    const spoilt: [string, Uint8Array][] = [
      ['empty', new Uint8Array()],
      ['cut off', good.slice(0, good.length >> 1)],
      ['not JSON', good.map((byte) => byte ^ 0x55)],
      ['null', encode('null')],
      ['another list', encode(JSON.stringify({ ...entry, choices: entry.choices.slice(1) }))],
      [
        'a kernel that is none',
        encode(JSON.stringify({ ...entry, choices: entry.choices.map((c) => ({ ...c, taken: 'x' })) })),
      ],
      ['another machine', encode(text.replace('"key":"', '"key":"other '))],
    ];
    for (const [what, bytes] of spoilt) {
      entries.set(key, bytes);
      let measured = 0;
      const { embedder } = await tuned(cache, (plan) => {
        measured++;
        return measure(plan);
      });
      expect(measured, what).toBeGreaterThan(0);
      expect(entries.get(key), what).toEqual(good);
      expect(await bitsOf(embedder), what).toEqual(untuned);
    }
  });

  test('entries of another adapter, driver or browser are not used', async () => {
    const { entries, cache } = memoryCache();
    const measure = byVariant((it) => (it === 1 ? 0.5 : 1));
    await tuned(cache, measure);
    let measured = 0;
    const elsewhere = new Proxy(backend, {
      get: (target, name) => {
        if (name === 'identity') return 'another driver';
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value, target),
    });
    await tuned(
      cache,
      (plan) => {
        measured++;
        return measure(plan);
      },
      elsewhere,
    );
    expect(measured).toBeGreaterThan(0);
    expect(entries.size).toBe(2);
  });

  test('a cache that fails, a variant that cannot be made and an abort leave no trace', async () => {
    const fail = async (): Promise<never> => {
      throw new Error('no disk');
    };
    const { embedder } = await tuned(
      { match: fail, put: fail },
      byVariant((it) => (it === 1 ? 0.5 : 1)),
    );
    expect(await bitsOf(embedder)).toEqual(untuned);

    let plans = 0;
    const short = async (on: Backend, weights: Store) => {
      if (on === backend && ++plans > 1) throw new FaceNetError('memory', 'test: no room.');
      return make(on, weights);
    };
    const poor = new EmbedderTuner(
      undefined,
      {},
      byVariant(() => 1),
    );
    expect(await bitsOf(await poor.embedder(backend, store, short, warm))).toEqual(untuned);
    expect(poor.choices.every(({ taken: name, variants }) => name === variants[0])).toBe(true);

    const abort = new AbortController();
    const { cache, entries } = memoryCache();
    const before = backend.counters().buffers;
    const stopped = new EmbedderTuner(cache, { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(stopped.embedder(backend, store, make, warm)).rejects.toMatchObject({ code: 'aborted' });
    expect(backend.counters().buffers).toBe(before);
    expect(backend.families).toBe(defaults);
    expect(entries.size).toBe(0);
  });

  test('create({ tune }) measures, keeps a file, survives its damage, and embeds with the same bits', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'facenet-gpu-tuning-'));
    const face = { data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 53) & 255), width: 32, height: 32 };
    const embed = async (tune: boolean): Promise<{ data: Float32Array; phases: string[] }> => {
      const phases: string[] = [];
      const onProgress = ({ phase }: Progress) => void (phases.at(-1) === phase || phases.push(phase));
      const net = await FaceNetGPU.create({
        model: { network: 'nn4.small2', seed: 2, size: 32, variant: { width: 0.125 } },
        backend: 'webgpu',
        batchSize: 1,
        tune,
        cache: folder as never,
        onProgress,
      });
      try {
        return { data: (await net.embed(face)).data, phases };
      } finally {
        await net.dispose();
      }
    };
    try {
      const without = await embed(false);
      expect(await readdir(folder)).toEqual([]);
      const cold = await embed(true);
      expect(cold.phases.slice(0, 3)).toEqual(['verify', 'compile', 'tune']);
      const [file, ...others] = await readdir(folder);
      expect(others).toEqual([]);
      const kept = await readFile(join(folder, file as string));
      const remembered = await embed(true);
      expect(remembered.phases).not.toContain('tune');
      await writeFile(join(folder, file as string), kept.subarray(0, 100));
      const again = await embed(true);
      expect(again.phases).toContain('tune');
      expect((await readFile(join(folder, file as string))).length).toBeGreaterThan(100);
      for (const { data } of [cold, remembered, again]) expect(data).toEqual(without.data);
    } finally {
      await rm(folder, { recursive: true });
    }
  }, 180_000);
});

test.skipIf(onGpu)('on wasm there is nothing to choose: nothing is measured or kept', async () => {
  const { entries, cache } = memoryCache();
  const { embedder, choices } = await tuned(cache, unexpected);
  expect(choices).toEqual([]);
  expect(entries.size).toBe(0);
  expect(await bitsOf(embedder)).toEqual(untuned);
});
