// The barrier between steps under stress: more threads than cores, every length of spin. The long form of 10^7 barriers:
// FACENET_BARRIERS=10000000 npx vitest run test/barrier.test.ts, also under `taskset -c 0`.
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { built } from './backends.ts';

const barriers = Number(process.env.FACENET_BARRIERS ?? 1500);
/** Far from what a quiet machine takes; only a thread that waits for ever reaches it. */
const watchdog = 60_000 + barriers * 2;

/**
 * One thread: writes its count, meets the others, and reads theirs. A barrier that lets a thread through early shows a count that is
 * behind; one that lets a thread run ahead shows a count that is two or more before.
 */
const source = `
const { parentPort, workerData } = require('node:worker_threads');
const { module, memory, thread, threads, spin, barriers } = workerData;
const { setThreads, barrier } = new WebAssembly.Instance(module, { env: { memory, abort() { throw new Error('abort'); } } }).exports;
setThreads(1024, threads, spin);
const counts = new Int32Array(memory.buffer, 4096, threads * 16);
let fault = '';
for (let i = 1; i <= barriers && !fault; i++) {
  Atomics.store(counts, thread * 16, i);
  barrier();
  for (let other = 0; other < threads; other++) {
    const count = Atomics.load(counts, other * 16);
    if (count < i || count > i + 1) fault = 'thread ' + other + ' was at ' + count + ' when thread ' + thread + ' had passed ' + i;
  }
}
parentPort.postMessage(fault);
`;

/** Rejects with the first thread's account of what went wrong; the others may then wait for ever, so all are ended. */
async function meet(threads: number, spin: number): Promise<void> {
  const module = await WebAssembly.compile(await built('facenet.wasm'));
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536, shared: true });
  const workers: Worker[] = [];
  // Wake-ups that mean nothing, as a late notify of the barrier before does: who sleeps must look again and sleep on.
  const generation = new Int32Array(memory.buffer, 1024 + 64, 1);
  const stray = setInterval(() => Atomics.notify(generation, 0), 1);
  try {
    await Promise.all(
      Array.from(
        { length: threads },
        (_, thread) =>
          new Promise<void>((resolve, reject) => {
            const worker = new Worker(source, {
              eval: true,
              workerData: { module, memory, thread, threads, spin, barriers },
            });
            workers.push(worker);
            worker.once('message', (fault: string) => (fault ? reject(new Error(fault)) : resolve()));
            worker.once('error', reject);
          }),
      ),
    );
  } finally {
    clearInterval(stray);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

describe('barrier', () => {
  for (const threads of [2, 3, 8]) {
    for (const spin of [0, 2000, 65536]) {
      test(`${threads} threads meet ${barriers} times, spin ${spin}`, { timeout: watchdog }, async () => {
        await expect(meet(threads, spin)).resolves.toBeUndefined();
      });
    }
  }

  test('one thread passes at once', async () => {
    const module = await WebAssembly.compile(await built('facenet.single.wasm'));
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536 });
    const { setThreads, barrier } = new WebAssembly.Instance(module, { env: { memory, abort() {} } })
      .exports as unknown as {
      setThreads(control: number, threads: number, spin: number): void;
      barrier(): void;
    };
    setThreads(1024, 1, 2000);
    barrier();
    expect(new Uint8Array(memory.buffer, 1024, 192).every((byte) => byte === 0)).toBe(true);
  });
});
