// What a worker thread runs: one job of the backend after the other, over shared memory. Started by the backend in worker_threads or as a
// module worker; it imports nothing, so that it works in both. It never returns to its event loop: messages go out, none comes in.

/** Handed to a thread when it starts. */
export interface ThreadStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Address of the control block (asm/plan.ts). */
  readonly control: number;
  readonly thread: number;
  readonly threads: number;
  readonly spin: number;
}

/** What a thread says: it waits for jobs; its time in the job that ended (thread 0 alone); it is dead. */
export type ThreadMessage = 'ready' | { readonly milliseconds: number } | { readonly failed: string };

interface Port {
  postMessage(message: ThreadMessage): void;
  on?(event: 'message', listener: (data: ThreadStart) => void): void;
  addEventListener?(event: 'message', listener: (event: { data: ThreadStart }) => void): void;
}

interface Exports {
  prepareThread(control: number, thread: number, threads: number, spin: number): void;
  awaitJob(): void;
  runJob(): void;
}

async function port(): Promise<Port> {
  const scope = globalThis as unknown as Port;
  if (typeof scope.postMessage === 'function') return scope;
  const name = 'node:worker_threads';
  const { parentPort } = (await import(/* @vite-ignore */ name)) as { parentPort: Port };
  return parentPort;
}

const parent = await port();

const run = async ({ module, memory, control, thread, threads, spin }: ThreadStart) => {
  try {
    const abort = () => {
      throw new Error('abort');
    };
    const instance = await WebAssembly.instantiate(module, { env: { memory, abort } });
    const { prepareThread, awaitJob, runJob } = instance.exports as unknown as Exports;
    prepareThread(control, thread, threads, spin);
    parent.postMessage('ready');
    for (;;) {
      awaitJob();
      const start = performance.now();
      runJob();
      if (thread === 0) parent.postMessage({ milliseconds: performance.now() - start });
    }
  } catch (error) {
    // The others wait for this thread; the backend ends them.
    parent.postMessage({ failed: `thread ${thread} ended with ${String(error)}` });
  }
};

if (parent.on) parent.on('message', run);
else parent.addEventListener?.('message', (event) => run(event.data));
