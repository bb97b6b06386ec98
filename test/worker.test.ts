// area: tasks
//
// `facenet-gpu/worker` in Node, on dist/: the numbers of the class in the own thread, errors with their codes, abort, progress, memory handed over.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Face, Pair, Pixels, Progress } from '../src/facenet-gpu.ts';
import type * as MainEntry from '../src/node.ts';
import type * as Entry from '../src/worker/node.ts';
import { digestOf, sampleFaces } from './golden-faces.ts';

const library = new URL('../dist/worker.node.js', import.meta.url).href;
const { FaceNetGPU, FaceNetError } = (await import(/* @vite-ignore */ library)) as typeof Entry;
const main = new URL('../dist/facenet-gpu.node.js', import.meta.url).href;
const {
  FaceNetGPU: Main,
  FaceNetError: MainError,
  memoryDataset,
} = (await import(/* @vite-ignore */ main)) as typeof MainEntry;
type Main = MainEntry.FaceNetGPU;
const wasm = { model: 'dlib-resnet', backend: 'wasm', threads: 1, relaxed: false, batchSize: 2 } as const;
const faces: Face[] = sampleFaces().slice(0, 3);

/** A picture nobody else has. */
const noise = (seed: number, side = 150): Pixels => {
  const data = Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 37 + seed * 91 + (i >> 5) * seed) & 255);
  return { data, width: side, height: side };
};

describe('an object in a worker thread', () => {
  let main: Main;
  let net: Entry.FaceNetGPU;
  const seen: Progress[] = [];
  beforeAll(async () => {
    main = await Main.create(wasm);
    net = await FaceNetGPU.create({ ...wasm, onProgress: (progress) => seen.push(progress) });
  }, 60_000);
  afterAll(async () => {
    await main.dispose();
    await net.dispose();
  });

  test('is what the class in the own thread is', async () => {
    const { backend, dimensions, fingerprint, former, model } = main;
    expect(former.map((one) => net.isOwn(one))).toEqual([true]);
    expect([net.isOwn(fingerprint), net.isOwn('another')]).toEqual([true, false]);
    expect([net.backend, net.dimensions, net.fingerprint, net.model]).toEqual([
      backend,
      dimensions,
      fingerprint,
      model,
    ]);
    expect(net.why).toBe(`in a worker: ${main.why}`);
    expect(net.operatingPoint()).toEqual(main.operatingPoint());
    expect(seen.map(({ phase }) => phase)).toEqual(['verify', 'compile']);
    expect(await net.counters()).toEqual(main.counters());
    expect((await FaceNetGPU.probe()).wasm).toEqual((await Main.probe()).wasm);
  });

  test('gives the same bits for one, for a list, and for a stream', async () => {
    const expected = await main.embed(faces);
    expect(await net.embed(faces)).toEqual(expected);
    expect((await net.embed(faces[1] as Face)).data).toEqual(expected.data.slice(128, 256));
    let read = 0;
    const source = (async function* () {
      for (const face of faces) {
        read++;
        yield face;
      }
    })();
    const progress: Progress[] = [];
    const parts: Float32Array[] = [];
    for await (const { data, indices } of net.embedStream(source, { onProgress: (p) => progress.push(p) })) {
      parts.push(data);
      expect(indices.length * 128).toBe(data.length);
    }
    expect(parts.map(({ length }) => length / 128)).toEqual([2, 1]);
    expect(parts.flatMap((part) => [...part])).toEqual([...expected.data]);
    expect([read, progress.filter(({ phase }) => phase === 'run').at(-1)?.done]).toEqual([3, 3]);
    expect(await net.align(faces[0] as Face)).toEqual(await main.align(faces[0] as Face));
  });

  test('a stream that is left early ends the source', async () => {
    let ended = false;
    const source = (function* () {
      try {
        for (let seed = 0; ; seed++) yield noise(seed);
      } finally {
        ended = true;
      }
    })();
    for await (const part of net.embedStream(source)) {
      expect(part.count).toBe(2);
      break;
    }
    expect(ended).toBe(true);
  });

  test('verifies, identifies, groups, evaluates', async () => {
    const [a, b, c] = faces as [Face, Face, Face];
    expect(await net.verify(a, b)).toEqual(await main.verify(a, b));
    expect(await net.verify(a, await net.embed(b), { far: 0.01 })).toEqual(await main.verify(a, b, { far: 0.01 }));
    const gallery = await net.gallery();
    await gallery.enroll('Ada', await net.embed(a));
    await gallery.enroll('Eve', await net.embed(b));
    const theirs = await main.gallery();
    await theirs.enroll('Ada', await main.embed(a));
    await theirs.enroll('Eve', await main.embed(b));
    expect(await net.identify(c, gallery, { limit: 2 })).toEqual(await main.identify(c, theirs, { limit: 2 }));
    expect(await net.cluster(faces, { threshold: 0.2, minSize: 1 })).toEqual(
      await main.cluster(faces, { threshold: 0.2, minSize: 1 }),
    );
    expect(await net.cluster(await net.embed(faces), { threshold: 0.2, minSize: 1 })).toEqual(
      await main.cluster(faces, { threshold: 0.2, minSize: 1 }),
    );
    const pairs: Pair[] = [a, b, c].flatMap((face) => [
      { a: face, b: face, same: true },
      { a: face, b: noise(1), same: false },
    ]);
    expect(await net.evaluate(pairs, { folds: 2 })).toEqual(await main.evaluate(pairs, { folds: 2 }));
    const before = net.model.points.length;
    const point = await net.calibrate(pairs, { far: 0.4 });
    expect(point).toEqual(await main.calibrate(pairs, { far: 0.4 }));
    expect(net.model.points).toHaveLength(before + 1);
    expect(net.model).toEqual(main.model);
    expect(Buffer.compare(await net.save(), await main.save())).toBe(0);
    expect((await net.profile({ runs: 1 })).layers.map(({ name }) => name)).toEqual(
      (await main.profile({ runs: 1 })).layers.map(({ name }) => name),
    );
  });

  test('errors come with class, code, index and text', async () => {
    const bad = async (action: () => Promise<unknown>) =>
      action().catch((error: unknown) => error as InstanceType<typeof MainError>);
    for (const face of ['gone.jpg', new Uint8Array(99), { data: new Uint8Array(3), width: 2, height: 2 }] as Face[]) {
      const found = await bad(() => net.embed([faces[0] as Face, face]));
      const expected = await bad(() => main.embed([faces[0] as Face, face]));
      expect(found).toBeInstanceOf(FaceNetError);
      expect(found).toMatchObject({
        code: (expected as InstanceType<typeof MainError>).code,
        message: (expected as InstanceType<typeof MainError>).message,
        index: 1,
      });
    }
    const { count, skipped, indices } = await net.embed(['gone.jpg', noise(2)], { onError: 'skip' });
    expect([count, [...indices], skipped[0]?.index]).toEqual([1, [1], 0]);
    expect(skipped[0]?.error).toBeInstanceOf(FaceNetError);
    expect(skipped[0]?.error.code).toBe('input');
    const foreign = { ...(await net.embed(noise(3))), fingerprint: 'another' };
    await expect(net.verify(foreign, foreign)).rejects.toMatchObject({ code: 'mismatch' });
    await expect(net.verify(noise(1), noise(2), { threshold: 9 })).rejects.toMatchObject({ code: 'input' });
    await expect(net.embed(7 as never)).rejects.toMatchObject({ code: 'input' });
    await expect(net.embed((() => {}) as never)).rejects.toMatchObject({
      code: 'input',
      message: expect.stringMatching(/a worker can receive/),
    });
    await expect(FaceNetGPU.create({ ...wasm, model: 'gone' })).rejects.toMatchObject({ code: 'model' });
    await expect(FaceNetGPU.create({ ...wasm, gpu: {} } as never)).rejects.toMatchObject({ code: 'input' });
    // A failing source of the caller's.
    const source = (function* () {
      yield noise(1);
      throw new RangeError('planted');
    })();
    await expect(net.embed(source)).rejects.toMatchObject({ name: 'RangeError', message: 'planted' });
  });

  test('an abort rejects and leaves the object usable', async () => {
    await expect(net.embed(faces, { signal: AbortSignal.abort(new Error('why')) })).rejects.toMatchObject({
      code: 'aborted',
      cause: { message: 'why' },
    });
    const controller = new AbortController();
    const endless = (function* () {
      for (let seed = 0; ; seed++) {
        if (seed === 7) controller.abort(new Error('enough'));
        yield noise(seed);
      }
    })();
    await expect(net.embed(endless, { signal: controller.signal })).rejects.toMatchObject({
      code: 'aborted',
      cause: { message: 'enough' },
    });
    expect((await net.embed(noise(1))).count).toBe(1);
  });

  test('copies what it is given, or takes it over', async () => {
    const [kept, given] = [noise(5), noise(5)];
    const expected = await main.embed(kept);
    expect((await net.embed(kept)).data).toEqual(expected.data);
    expect(kept.data.length).toBe(150 * 150 * 3);
    expect((await net.embed([given], { transfer: true })).data).toEqual(expected.data);
    expect(given.data.length).toBe(0);
    const file = new Uint8Array(readFileSync(new URL('../dist/models/dlib-resnet.safetensors', import.meta.url)));
    const other = await FaceNetGPU.create({ ...wasm, model: file, transfer: true });
    expect(file.length).toBe(0);
    expect((await other.embed(kept)).data).toEqual(expected.data);
    await other.dispose();
  });

  test('many calls at once, of two objects', { timeout: 60_000 }, async () => {
    const other = await FaceNetGPU.create({ ...wasm, threads: 2 });
    const expected = (await main.embed([noise(1), noise(2), noise(3)])).data;
    const calls = Array.from({ length: 12 }, (_, i) => (i % 2 ? net : other).embed(noise(1 + (i % 3))));
    for (const [i, call] of calls.entries())
      expect((await call).data).toEqual(expected.slice((i % 3) * 128, (i % 3) * 128 + 128));
    await other.dispose();
  });
});

test('trains as in the own thread', { timeout: 120_000 }, async () => {
  const model = { network: 'nn4.small2', seed: 2, size: 32 } as const;
  const data = memoryDataset(Array.from({ length: 12 }, (_, i) => ({ pixels: noise(i, 32), label: i >> 1 })));
  const options = { steps: 2, people: 3, perPerson: 2, learningRate: 0.05, seed: 1 } as const;
  const backend = { backend: 'wasm', threads: 1, relaxed: false, batchSize: 4 } as const;
  const learn = async (net: Main | Entry.FaceNetGPU) => {
    const steps: number[][] = [];
    const run = net.train(data, options);
    let next = await run.next();
    for (; !next.done; next = await run.next()) steps.push([next.value.step, next.value.loss, next.value.gradientNorm]);
    const { data: numbers, fingerprint } = await net.embed(noise(3, 32));
    return {
      steps,
      result: next.value,
      numbers,
      fingerprint,
      checkpoint: digestOf(await net.checkpoint()),
      trained: net.fingerprint,
    };
  };
  const main = await Main.create({ model, ...backend });
  const net = await FaceNetGPU.create({ model, ...backend });
  const expected = await learn(main);
  expect(await learn(net)).toEqual(expected);
  expect(expected.steps).toHaveLength(2);
  // Left early, then resumed.
  const again = await FaceNetGPU.create({ model, ...backend });
  for await (const { step } of again.train(data, options)) if (step === 1) break;
  const resume = await again.checkpoint();
  const steps: number[][] = [];
  for await (const { step, loss, gradientNorm } of again.train(data, { ...options, resume }))
    steps.push([step, loss, gradientNorm]);
  expect(steps).toEqual(expected.steps.slice(1));
  await expect(
    again.train(data, { ...options, schedule: (step: number) => step } as never).next(),
  ).rejects.toMatchObject({
    code: 'input',
    message: expect.stringMatching(/a worker can receive/),
  });
  const broken = { ...data, read: () => Promise.reject(new MainError('image', 'planted: no picture.')) };
  await expect(again.train(broken, options).next()).rejects.toMatchObject({
    code: 'image',
    message: expect.stringMatching(/planted/),
  });
  for (const object of [main, net, again]) {
    await object.dispose();
    await expect(object.checkpoint()).rejects.toMatchObject({ code: 'disposed' });
  }
});

test('held-out people, as a set and as pairs: the figures of the own thread', { timeout: 120_000 }, async () => {
  const model = { network: 'nn4.small2', seed: 2, size: 32 } as const;
  const backend = { backend: 'wasm', threads: 1, relaxed: false, batchSize: 4 } as const;
  const people = (first: number, count: number) =>
    memoryDataset(Array.from({ length: count }, (_, i) => ({ pixels: noise(first + i, 32), label: (first + i) >> 1 })));
  const pairs = [30, 31, 32].flatMap((a) =>
    [33, 34].map((b) => ({ a: noise(a, 32), b: noise(b, 32), same: a >> 1 === b >> 1 })),
  );
  const options = { steps: 1, people: 3, perPerson: 2, learningRate: 0.05, seed: 1 } as const;
  const validations = [people(20, 8), pairs];
  const figures = async (net: Main | Entry.FaceNetGPU) => {
    const found: unknown[] = [];
    for (const validation of validations)
      for await (const step of net.train(people(0, 12), { ...options, validation }))
        found.push([step.loss, { ...step.validation, milliseconds: 0 }]);
    return found;
  };
  const main = await Main.create({ model, ...backend });
  const net = await FaceNetGPU.create({ model, ...backend });
  const expected = await figures(main);
  expect(expected).toMatchObject([
    [expect.any(Number), { samePairs: 4, differentPairs: 24 }],
    [expect.any(Number), { samePairs: 1, differentPairs: 5 }],
  ]);
  expect(await figures(net)).toEqual(expected);
  const validation = { ...people(20, 8), read: () => Promise.reject(new MainError('image', 'planted: no picture.')) };
  await expect(net.train(people(0, 12), { ...options, validation }).next()).rejects.toMatchObject({
    code: 'image',
    message: expect.stringMatching(/held-out picture \d+: .*planted/),
  });
  for (const object of [main, net]) await object.dispose();
});

test('after dispose: disposed', { timeout: 60_000 }, async () => {
  const net = await FaceNetGPU.create(wasm);
  const last = net.counters();
  await Promise.all([net.dispose(), net.dispose()]);
  expect((await last).workers).toBe(0);
  await expect(net.embed(noise(1))).rejects.toMatchObject({ code: 'disposed' });
  await expect(net.embedStream([noise(1)]).next()).rejects.toMatchObject({ code: 'disposed' });
});

test('a program that forgot dispose ends', { timeout: 60_000 }, () => {
  const program = `import { FaceNetGPU } from ${JSON.stringify(library)};
    const net = await FaceNetGPU.create(${JSON.stringify(wasm)});
    console.log((await net.embed({ data: new Uint8Array(150 * 150 * 3), width: 150, height: 150 })).count);`;
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 50_000,
  });
  expect([status, signal, stdout, stderr]).toEqual([0, null, '1\n', '']);
});
