import { FaceNetError } from '../../errors.ts';
import { bindFamilies, type Families } from '../../plan/lowering.ts';
import type { Backend, Counters, Program, Read, StepTimes } from '../../plan/runner.ts';
import type { DeviceBuffer, Step } from '../../plan/step.ts';
import { wasmFamilies } from './families.ts';
import { KernelTable, RECORD_BYTES, type WasmBuffer } from './kernels.ts';
import { WasmMemory } from './memory.ts';
import type { ThreadStart } from './thread.ts';

/** What the tables of kernels are told about this machine. */
export interface WasmAdapter {
  readonly threads: number;
  /** Fused multiply-add by relaxed SIMD. */
  readonly relaxed: boolean;
}

/** A running worker. */
export interface Thread {
  readonly ready: Promise<void>;
  /** Settles with an error when the worker dies. */
  readonly failed: Promise<Error>;
  terminate(): void | Promise<unknown>;
}

export interface WasmBackendOptions {
  /** dist/facenet.wasm or one of its variants, compiled. */
  readonly module: WebAssembly.Module;
  readonly relaxed: boolean;
  /** Whether the module imports a shared memory; needed for more than one thread. */
  readonly shared: boolean;
  /** Threads that compute, the calling one included. */
  readonly threads: number;
  /** Starts a worker that runs `thread.ts`. Required for more than one thread. */
  readonly startThread?: (start: ThreadStart) => Thread;
  /** Tries before a waiting thread sleeps. */
  readonly spin?: number;
  /** The calling thread never sleeps, for pages, where it may not; the workers sleep as always. */
  readonly mustSpin?: boolean;
  /** Most bytes of linear memory; default 4 GiB, less where the runtime refuses. */
  readonly maximumBytes?: number;
  readonly why?: string;
}

interface Exports {
  prepareThreads(control: number, threads: number, spin: number): void;
  runJob(control: number, records: number, count: number, threads: number): void;
  stopThreads(control: number): void;
}

/** Address of the control block of asm/plan.ts, and the first address that the allocator hands out. */
const CONTROL = 1024;
const HEAP = 65536;
const PAGE = 65536;
const SPIN = 2000;
/** The number of tries that asm/barrier.ts takes as: never sleep. */
const NEVER_SLEEP = 2 ** 32 - 1;

class WasmProgram implements Program {
  readonly steps: readonly Step[];
  readonly address: number;
  readonly #dispose: () => void;
  #loaded: readonly Step[] | undefined;

  constructor(steps: readonly Step[], address: number, dispose: () => void) {
    this.steps = steps;
    this.address = address;
    this.#dispose = dispose;
  }

  /** Whether these steps' records must be copied first. */
  load(steps: readonly Step[]): boolean {
    const changed = this.#loaded !== steps;
    this.#loaded = steps;
    return changed;
  }

  dispose(): void {
    this.#dispose();
  }
}

/** Runs steps on the kernels of asm/, by one call a run on every thread. Computes in WebAssembly only. */
export class WasmBackend implements Backend {
  readonly name = 'wasm';
  readonly description: string;
  readonly families: Families;
  readonly zeroBlock = false;
  readonly maxBufferBytes: number;
  readonly adapter: WasmAdapter;

  readonly #memory: WasmMemory;
  readonly #kernels: KernelTable;
  readonly #exports: Exports;
  readonly #threads: readonly Thread[];
  readonly #encoded = new WeakMap<readonly Step[], Uint32Array>();
  #programs = 0;
  #failure: Error | undefined;
  #disposed = false;

  private constructor(
    options: WasmBackendOptions,
    memory: WasmMemory,
    maximumBytes: number,
    exports: Exports,
    threads: readonly Thread[],
  ) {
    this.#memory = memory;
    this.#exports = exports;
    this.#threads = threads;
    this.#kernels = new KernelTable(options.module);
    this.maxBufferBytes = maximumBytes;
    this.adapter = { threads: threads.length + 1, relaxed: options.relaxed };
    this.families = bindFamilies(wasmFamilies, this.adapter);
    const count = this.adapter.threads;
    this.description =
      options.why ??
      `wasm, ${count} thread${count === 1 ? '' : 's'}, ${options.relaxed ? 'fused multiply-add' : 'plain SIMD'}`;
    for (const thread of threads)
      thread.failed.then((error) => {
        this.#failure = error;
      });
  }

  /** @throws 'device' when the module or the workers do not start, 'memory' when no linear memory can be had. */
  static async create(options: WasmBackendOptions): Promise<WasmBackend> {
    const { module, shared, threads, spin = SPIN } = options;
    if (!(Number.isInteger(threads) && threads >= 1))
      throw new FaceNetError('input', `wasm: threads must be a whole number from 1, got ${threads}.`);
    if (threads > 1 && !(shared && options.startThread)) {
      throw new FaceNetError(
        'device',
        `wasm: ${threads} threads need shared memory and workers, which this runtime does not offer. Use threads: 1.`,
      );
    }
    const { memory, maximumBytes } = makeMemory(shared, options.maximumBytes ?? 2 ** 32);
    const instance = await WebAssembly.instantiate(module, {
      env: {
        memory,
        abort: () => {
          throw new FaceNetError('internal', 'wasm: abort.');
        },
      },
    });
    const exports = instance.exports as unknown as Exports;
    const started: Thread[] = [];
    try {
      for (let thread = 1; thread < threads; thread++) {
        started.push(
          (options.startThread as (start: ThreadStart) => Thread)({
            module,
            memory,
            control: CONTROL,
            thread,
            threads,
            spin,
            seen: 0,
          }),
        );
      }
      await Promise.race([
        Promise.all(started.map((thread) => thread.ready)),
        ...started.map((thread) => thread.failed.then((error) => Promise.reject(error))),
      ]);
    } catch (cause) {
      for (const thread of started) await thread.terminate();
      throw new FaceNetError(
        'device',
        `wasm: ${threads - 1} workers must start, got: ${(cause as Error).message}. Use threads: 1.`,
        { cause },
      );
    }
    exports.prepareThreads(CONTROL, threads, options.mustSpin ? NEVER_SLEEP : spin);
    return new WasmBackend(options, new WasmMemory(memory, maximumBytes, HEAP), maximumBytes, exports, started);
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#live();
    const buffer: WasmBuffer = { bytes, address: this.#memory.allocate(bytes, label) };
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    if (!this.#disposed) this.#memory.release((buffer as WasmBuffer).address, buffer.bytes);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    this.#live();
    if (byteOffset + data.byteLength > buffer.bytes) {
      throw new FaceNetError(
        'internal',
        `wasm: a write must end within ${buffer.bytes} bytes, got ${byteOffset + data.byteLength}.`,
      );
    }
    this.#memory.bytes.set(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      (buffer as WasmBuffer).address + byteOffset,
    );
  }

  async prepare(steps: readonly Step[]): Promise<Program> {
    this.#live();
    this.#encode(steps);
    const bytes = steps.length * RECORD_BYTES;
    const address = this.#memory.allocate(bytes, 'step records');
    this.#programs++;
    let disposed = false;
    return new WasmProgram(steps, address, () => {
      if (disposed || this.#disposed) return;
      disposed = true;
      this.#programs--;
      this.#memory.release(address, bytes);
    });
  }

  async run(
    programs: readonly { readonly program: Program; readonly steps?: readonly Step[] }[],
    reads: readonly Read[],
  ): Promise<Uint8Array[]> {
    this.#live();
    for (const { program, steps = program.steps } of programs) {
      const { address } = this.#load(program, steps);
      this.#exports.runJob(CONTROL, address, steps.length, this.adapter.threads);
    }
    const bytes = this.#memory.bytes;
    return reads.map(({ buffer, byteOffset, bytes: length }) => {
      const start = (buffer as WasmBuffer).address + byteOffset;
      return new Uint8Array(bytes.slice(start, start + length));
    });
  }

  async profile(program: Program, steps: readonly Step[] = program.steps): Promise<StepTimes> {
    this.#live();
    const { address } = this.#load(program, steps);
    const milliseconds = steps.map((_, index) => {
      const start = performance.now();
      this.#exports.runJob(CONTROL, address + index * RECORD_BYTES, 1, this.adapter.threads);
      return performance.now() - start;
    });
    return { milliseconds, timing: 'wall' };
  }

  counters(): Counters {
    return {
      buffers: this.#memory.blocks - this.#programs,
      bytes: this.#memory.allocated,
      programs: this.#programs,
      pipelines: 0,
      workers: this.#disposed ? 0 : this.#threads.length,
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#threads.length > 0) this.#exports.stopThreads(CONTROL);
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #load(program: Program, steps: readonly Step[]): WasmProgram {
    const loaded = program as WasmProgram;
    if (loaded.load(steps)) {
      const words = this.#encode(steps);
      this.#memory.bytes.set(new Uint8Array(words.buffer), loaded.address);
    }
    return loaded;
  }

  #encode(steps: readonly Step[]): Uint32Array {
    let words = this.#encoded.get(steps);
    if (!words) {
      words = this.#kernels.encode(steps);
      this.#encoded.set(steps, words);
    }
    return words;
  }

  #live(): void {
    if (this.#disposed) throw new FaceNetError('disposed', 'wasm: the backend was used after dispose().');
    if (this.#failure)
      throw new FaceNetError(
        'device-lost',
        `wasm: every worker must stay alive, got: ${this.#failure.message}. Create a new object.`,
        { cause: this.#failure },
      );
  }
}

/** The largest memory this runtime grants, up to `wanted` bytes: browsers on small devices refuse to reserve 4 GiB. */
function makeMemory(shared: boolean, wanted: number): { memory: WebAssembly.Memory; maximumBytes: number } {
  let cause: unknown;
  for (let bytes = wanted; bytes >= 2 ** 26; bytes /= 2) {
    try {
      const maximum = Math.floor(bytes / PAGE);
      // The modules declare a maximum of 65,536 pages; an import may have less.
      return { memory: new WebAssembly.Memory({ initial: 16, maximum, shared }), maximumBytes: maximum * PAGE };
    } catch (error) {
      cause = error;
    }
  }
  throw new FaceNetError('memory', 'wasm: a linear memory of at least 64 MiB is needed, got none.', { cause });
}
