// What a worker thread runs: the module's serve() loop over shared memory. Started by the backend in worker_threads or as a
// module worker; it imports nothing, so that it works in both.

/** Handed to a thread when it starts. */
export interface ThreadStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Address of the control block. */
  readonly control: number;
  readonly thread: number;
  readonly threads: number;
  readonly spin: number;
  /** Number of the last job given before this thread started. */
  readonly seen: number;
}

interface Port {
  postMessage(message: unknown): void;
  on?(event: 'message', listener: (data: ThreadStart) => void): void;
  addEventListener?(event: 'message', listener: (event: { data: ThreadStart }) => void): void;
}

async function port(): Promise<Port> {
  const scope = globalThis as unknown as Port;
  if (typeof scope.postMessage === 'function') return scope;
  const name = 'node:worker_threads';
  const { parentPort } = (await import(/* @vite-ignore */ name)) as { parentPort: Port };
  return parentPort;
}

const parent = await port();

const run = async (start: ThreadStart) => {
  const instance = await WebAssembly.instantiate(start.module, {
    env: {
      memory: start.memory,
      abort: () => {
        throw new Error('abort');
      },
    },
  });
  const exports = instance.exports as Record<string, (...args: number[]) => void>;
  exports.prepareThreads?.(start.control, start.threads, start.spin);
  parent.postMessage('ready');
  exports.serve?.(start.control, start.seen, start.thread, start.threads, start.spin);
  parent.postMessage('stopped');
};

if (parent.on) parent.on('message', run);
else parent.addEventListener?.('message', (event) => run(event.data));
