// Threads of the wasm backend in the worst of cases: more of them than cores, two instances at once, one that dies in the middle, dispose
// while running, the program's own thread free all the while. Right results or typed errors, and never a hang (each test's time limit).
// area: tasks
import { afterAll, describe, expect, test } from 'vitest';
import type { Thread } from '../src/backends/wasm/crew.ts';
import type { WasmBackend } from '../src/backends/wasm/wasm-backend.ts';
import { FaceNetError } from '../src/errors.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { Philox } from '../src/graph/philox.ts';
import { BATCH } from '../src/graph/shape.ts';
import { FaceNetGPU } from '../src/node.ts';
import { conv2d } from '../src/ops/conv2d.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { threadStarter, wasmBackend } from './backends.ts';

/** Only a thread that waits for ever reaches it. */
const watchdog = { timeout: 60_000 };
const random = new Philox(7, 0);
const [side, channels, layers] = [24, 32, 12];
const noise = (count: number) => Float32Array.from({ length: count }, () => random.uniform() - 0.5);
const pictures = noise(side * side * channels);
const weights = Array.from({ length: layers }, () => noise(9 * channels * channels).map((value) => value / 4));

/** A chain of convolutions of 9 million multiply-adds each, read from its end. */
async function chain(backend: WasmBackend, batchSize = 1): Promise<Plan> {
  const graph = new Graph();
  const store = new Store(backend);
  let x: Value = graph.input('x', [BATCH, side, side, channels]);
  for (const [index, data] of weights.entries()) {
    const shape = [3, 3, channels, channels];
    store.set(`w${index}`, data, shape);
    x = conv2d(x, graph.parameter(`w${index}`, shape), { padding: 1 });
  }
  return Plan.create(graph, { y: x }, backend, store, { batchSize });
}

const repeated = (batch: number) => {
  const x = new Float32Array(batch * pictures.length);
  for (let i = 0; i < batch; i++) x.set(pictures, i * pictures.length);
  return { x };
};

/** How a promise ended: 'ok' or the code of its error. */
const ending = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: unknown) => (error instanceof FaceNetError ? error.code : String(error)),
  );
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const one = await wasmBackend();
const expected = (await (await chain(one)).run({ x: pictures })).y as Float32Array;
afterAll(() => one.dispose());

/** A backend whose threads the test holds in its hands. */
async function held(threads: number): Promise<{ backend: WasmBackend; crew: Thread[] }> {
  const start = await threadStarter();
  const crew: Thread[] = [];
  const startThread = () => {
    const thread = start();
    crew.push(thread);
    return thread;
  };
  return { backend: await wasmBackend({ threads, startThread, apart: true }), crew };
}

describe('a thread that dies', () => {
  for (const [threads, victim] of [
    [1, 0],
    [2, 0],
    [2, 1],
    [3, 2],
  ] as const) {
    test(
      `${victim + 1} of ${threads} ends in the middle of a run: 'device-lost', and no worker is left`,
      watchdog,
      async () => {
        const { backend, crew } = await held(threads);
        const plan = await chain(backend, 64);
        const running = ending(plan.run(repeated(64)));
        await pause(20);
        await crew[victim]?.terminate();
        expect(await running).toBe('device-lost');
        expect(await ending(plan.run(repeated(64)))).toBe('device-lost');
        expect(backend.counters().workers).toBe(0);
        await backend.dispose();
      },
    );
  }

  test('between two runs: the next says so, as do writes and blocks', watchdog, async () => {
    const { backend, crew } = await held(2);
    const plan = await chain(backend);
    expect((await plan.run({ x: pictures })).y).toEqual(expected);
    const buffer = backend.allocate(64, 'a block');
    await crew[1]?.terminate();
    await pause(50);
    expect(await ending(plan.run({ x: pictures }))).toBe('device-lost');
    expect(() => backend.write(buffer, 0, new Uint8Array(64))).toThrow(/every worker must stay alive/);
    expect(() => backend.allocate(64, 'another')).toThrow(/every worker must stay alive/);
    backend.free(buffer);
    await backend.dispose();
  });

  test("by a trap in a kernel: 'device-lost' with the trap's words", watchdog, async () => {
    const { backend } = await held(2);
    const plan = await chain(backend);
    // A step that reads far behind the memory.
    const steps = plan.steps.map((step) => ({
      ...step,
      tensors: Object.fromEntries(
        Object.entries(step.tensors).map(([name, ref]) => [name, ref && { ...ref, offset: 2 ** 29 }]),
      ),
    }));
    const program = await backend.prepare(steps);
    await expect(backend.run([{ program }], [])).rejects.toThrow(/thread \d ended with .*out of bounds/);
    expect(backend.counters().workers).toBe(0);
    await backend.dispose();
  });

  test("one that cannot start: 'device'", watchdog, async () => {
    const start = await threadStarter();
    let started = 0;
    const startThread = () => {
      const thread = start();
      if (started++ === 1) void thread.terminate();
      return thread;
    };
    expect(await ending(wasmBackend({ threads: 3, startThread }))).toBe('device');
  });
});

describe('the calling thread', () => {
  test('is free while workers compute', watchdog, async () => {
    const backend = await wasmBackend({ threads: 2 });
    const plan = await chain(backend, 64);
    let turns = 0;
    let running = true;
    const count = (): void => {
      turns++;
      if (running) setImmediate(count);
    };
    setImmediate(count);
    const { y } = await plan.run(repeated(64));
    running = false;
    expect(turns).toBeGreaterThan(10);
    expect(y?.subarray(63 * expected.length)).toEqual(expected);
    await backend.dispose();
  });

  test('what it asks for meanwhile is done in its turn', watchdog, async () => {
    const backend = await wasmBackend({ threads: 2 });
    const plan = await chain(backend, 4);
    const reversed = pictures.toReversed?.() ?? Float32Array.from(pictures).reverse();
    const other = await chain(one);
    const backwards = (await other.run({ x: reversed })).y;
    const runs: Promise<Record<string, Float32Array>>[] = [];
    for (let i = 0; i < 20; i++) {
      runs.push(plan.run({ x: i % 2 ? reversed : pictures }, 1));
      // Blocks given back and taken again, which are filled with zeros, must not lie in a run's way.
      const block = backend.allocate(expected.byteLength, 'a block');
      backend.write(block, 0, new Float32Array(expected.length).fill(Number.NaN));
      backend.free(block);
    }
    for (const [i, run] of runs.entries()) expect((await run).y, `run ${i}`).toEqual(i % 2 ? backwards : expected);
    await backend.dispose();
  });

  test("dispose lets what was asked for end; later calls are 'disposed'", watchdog, async () => {
    const backend = await wasmBackend({ threads: 2 });
    const plan = await chain(backend);
    const runs = [plan.run({ x: pictures }), plan.run({ x: pictures })];
    const disposed = backend.dispose();
    expect(await ending(backend.run([], []))).toBe('disposed');
    for (const run of runs) expect((await run).y).toEqual(expected);
    await disposed;
    expect(backend.counters().workers).toBe(0);
  });
});

describe('more threads than cores', () => {
  test('24 threads give the bits of one, beside five of another backend', watchdog, async () => {
    const backends = await Promise.all([wasmBackend({ threads: 24 }), wasmBackend({ threads: 5, spin: 0 })]);
    const plans = await Promise.all(backends.map((backend) => chain(backend)));
    for (let round = 0; round < 3; round++) {
      const results = await Promise.all(plans.map((plan) => plan.run({ x: pictures })));
      for (const { y } of results) expect(y).toEqual(expected);
    }
    await Promise.all(backends.map((backend) => backend.dispose()));
  });

  test('abort in the middle, dispose while running', watchdog, async () => {
    const face = { data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 37) & 255), width: 32, height: 32 };
    const options = { model: { network: 'nn4.small2', seed: 1 }, backend: 'wasm', threads: 24, batchSize: 2 } as const;
    const [net, other] = await Promise.all([FaceNetGPU.create(options), FaceNetGPU.create({ ...options, threads: 3 })]);
    const controller = new AbortController();
    const aborted = ending(net.embed(Array(400).fill(face), { signal: controller.signal }));
    const alongside = other.embed(face);
    await pause(20);
    controller.abort();
    expect(await aborted).toBe('aborted');
    const again = (await net.embed(face)).data;
    expect((await alongside).data).toEqual(again);
    const running = ending(net.embed([face, face]));
    await net.dispose();
    expect(['ok', 'disposed']).toContain(await running);
    expect(await ending(net.embed(face))).toBe('disposed');
    await other.dispose();
    expect([net.counters().workers, other.counters().workers]).toEqual([0, 0]);
  });
});

test('idle threads burn no processor time', watchdog, async () => {
  const backend = await wasmBackend({ threads: 8 });
  const plan = await chain(backend);
  for (let i = 0; i < 3; i++) await plan.run({ x: pictures });
  await pause(50);
  // The least of three tries: other tests of this process may be at work.
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const before = process.cpuUsage();
    await pause(300);
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1000);
  }
  // One thread that spins takes 300 ms, seven take 600 on two cores.
  expect(least).toBeLessThan(60);
  await backend.dispose();
});
