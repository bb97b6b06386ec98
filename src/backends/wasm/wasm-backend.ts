import { FaceNetError } from '../../errors.ts';
import { bindFamilies, type Families } from '../../plan/lowering.ts';
import type { Backend, Counters, Footprint, Program, Read, StepTimes } from '../../plan/runner.ts';
import type { DeviceBuffer, Step } from '../../plan/step.ts';
import { Crew, type Thread, writeJob } from './crew.ts';
import { wasmFamilies } from './families.ts';
import { KernelTable, RECORD_BYTES, type WasmBuffer } from './kernels.ts';
import { blockBytes, WasmMemory } from './memory.ts';

/** What the tables of kernels are told about this machine. */
export interface WasmAdapter {
  readonly threads: number;
  /** Fused multiply-add by relaxed SIMD. */
  readonly relaxed: boolean;
}

export interface WasmBackendOptions {
  /** dist/facenet.wasm or one of its variants, compiled. */
  readonly module: WebAssembly.Module;
  readonly relaxed: boolean;
  /** Whether the module imports a shared memory; needed for more than one thread. */
  readonly shared: boolean;
  /** Threads that compute: all workers, or the calling thread where it is the only one. */
  readonly threads: number;
  /** Even a single thread is a worker, so that the calling one, a page's, is never busy. */
  readonly apart?: boolean;
  /** Starts a worker that runs `thread.ts`. Required for workers. */
  readonly startThread?: () => Thread;
  /** Processors that the threads share with everything else. Default: one. */
  readonly cores?: number;
  /** Tries before a waiting thread sleeps. Default: many where each thread may have a processor of its own. */
  readonly spin?: number;
  /** Most bytes of linear memory; default 4 GiB, less where the runtime refuses. */
  readonly maximumBytes?: number;
  readonly why?: string;
}

/** Address of the control block of asm/plan.ts, and the first address that the allocator hands out. */
const CONTROL = 1024;
const HEAP = 65536;
const PAGE = 65536;
/** Results are read where they lie. */
const FOOTPRINT: Footprint = {
  buffer: blockBytes,
  program: (steps) => blockBytes(steps * RECORD_BYTES),
  readback: () => 0,
};
/** About fifty microseconds: as long as it takes to wake a sleeping thread. Longer, a thread too many takes the time of those that have work. */
const SHORT_SPIN = 2 ** 16;
/**
 * About 800 microseconds, where each thread may have a processor: longer than any step of a face network. A thread that sleeps
 * between steps looks idle, and schedulers that save power then keep two such threads on one processor for tens of milliseconds.
 */
const LONG_SPIN = 2 ** 20;

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

/** Runs `count` records at an address; resolves to the milliseconds it took. Nobody else may touch the memory meanwhile. */
type Runner = (records: number, count: number) => Promise<number>;

/**
 * Runs steps on the kernels of asm/, by one call a run on every thread. Computes in WebAssembly only.
 *
 * While workers compute, the calling thread goes on. What it then asks for (a run, a write, a block given back) waits its turn and is done in
 * the order of the calls; a new block lies where no run in progress can be looking.
 */
export class WasmBackend implements Backend {
  readonly name = 'wasm';
  readonly description: string;
  families: Families;
  readonly footprint = FOOTPRINT;
  readonly zeroBlock = false;
  readonly threadScratch = true;
  readonly maxBufferBytes: number;
  readonly adapter: WasmAdapter;

  readonly #memory: WasmMemory;
  readonly #kernels: KernelTable;
  readonly #crew: Crew | undefined;
  readonly #runner: Runner;
  readonly #encoded = new WeakMap<readonly Step[], Uint32Array>();
  /** Settles when everything asked for so far is done; undefined when nothing is. */
  #busy: Promise<unknown> | undefined;
  #programs = 0;
  #disposed = false;

  private constructor(
    { module, relaxed, threads, why }: WasmBackendOptions,
    memory: WasmMemory,
    maximumBytes: number,
    crew: Crew | undefined,
    runner: Runner,
  ) {
    this.#memory = memory;
    this.#crew = crew;
    this.#runner = runner;
    this.#kernels = new KernelTable(module);
    this.maxBufferBytes = maximumBytes;
    this.adapter = { threads, relaxed };
    this.families = bindFamilies(wasmFamilies, this.adapter);
    this.description =
      why ?? `wasm, ${threads} thread${threads === 1 ? '' : 's'}, ${relaxed ? 'fused multiply-add' : 'plain SIMD'}`;
  }

  /** @throws 'device' when the module or the workers do not start, 'memory' when no linear memory can be had. */
  static async create(options: WasmBackendOptions): Promise<WasmBackend> {
    const { module, shared, threads, apart = false, startThread, cores = 1 } = options;
    const { spin = threads > cores ? SHORT_SPIN : LONG_SPIN } = options;
    if (!(Number.isInteger(threads) && threads >= 1))
      throw new FaceNetError('input', `wasm: threads must be a whole number from 1, got ${threads}.`);
    const workers = threads > 1 || apart;
    if (workers && !(shared && startThread)) {
      throw new FaceNetError(
        'device',
        `wasm: ${threads} threads need shared memory and workers, which this runtime does not offer. Use threads: 1.`,
      );
    }
    const { memory, maximumBytes } = makeMemory(shared, options.maximumBytes ?? 2 ** 32);
    const heap = new WasmMemory(memory, maximumBytes, HEAP);
    if (!(workers && startThread))
      return new WasmBackend(options, heap, maximumBytes, undefined, await alone(module, memory));
    try {
      const crew = await Crew.start(startThread, { module, memory, control: CONTROL, threads, spin });
      return new WasmBackend(options, heap, maximumBytes, crew, (records, count) => crew.run(records, count));
    } catch (cause) {
      throw new FaceNetError(
        'device',
        `wasm: ${threads} workers must start, got: ${(cause as Error).message}. Use threads: 1.`,
        { cause },
      );
    }
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#live();
    const buffer: WasmBuffer = { bytes, address: this.#memory.allocate(bytes, label) };
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    this.#release((buffer as WasmBuffer).address, buffer.bytes);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    this.#live();
    if (byteOffset + data.byteLength > buffer.bytes) {
      throw new FaceNetError(
        'internal',
        `wasm: a write must end within ${buffer.bytes} bytes, got ${byteOffset + data.byteLength}.`,
      );
    }
    const at = (buffer as WasmBuffer).address + byteOffset;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (!this.#busy) {
      this.#memory.bytes.set(bytes, at);
      return;
    }
    const copy = bytes.slice();
    void this.#inTurn(async () => this.#memory.bytes.set(copy, at));
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
      this.#release(address, bytes);
    });
  }

  async run(
    programs: readonly { readonly program: Program; readonly steps?: readonly Step[] }[],
    reads: readonly Read[],
  ): Promise<Uint8Array[]> {
    this.#live();
    return this.#inTurn(async () => {
      for (const { program, steps = program.steps } of programs)
        await this.#execute(this.#load(program, steps), steps.length);
      const { bytes } = this.#memory;
      return reads.map(({ buffer, byteOffset, bytes: length }) => {
        const start = (buffer as WasmBuffer).address + byteOffset;
        return new Uint8Array(bytes.slice(start, start + length));
      });
    });
  }

  async profile(program: Program, steps: readonly Step[] = program.steps): Promise<StepTimes> {
    this.#live();
    return this.#inTurn(async () => {
      const address = this.#load(program, steps);
      const milliseconds: number[] = [];
      for (let index = 0; index < steps.length; index++)
        milliseconds.push(await this.#execute(address + index * RECORD_BYTES, 1));
      return { milliseconds, timing: 'wall' };
    });
  }

  counters(): Counters {
    return {
      buffers: this.#memory.blocks - this.#programs,
      bytes: this.#memory.allocated,
      programs: this.#programs,
      pipelines: 0,
      workers: this.#crew?.size ?? 0,
    };
  }

  /** Lets runs that were asked for end, then the workers. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#busy;
    await this.#crew?.end();
  }

  /** Does `task` when everything asked for before is done. */
  async #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const before = this.#busy;
    const run = before ? before.then(task) : task();
    const done = run.then(
      () => {},
      () => {},
    );
    this.#busy = done;
    try {
      return await run;
    } finally {
      if (this.#busy === done) this.#busy = undefined;
    }
  }

  async #execute(records: number, count: number): Promise<number> {
    try {
      return await this.#runner(records, count);
    } catch (cause) {
      this.#refuseDead();
      throw cause;
    }
  }

  /** Copies a program's records into memory, unless they are there, and says where. */
  #load(program: Program, steps: readonly Step[]): number {
    const loaded = program as WasmProgram;
    if (loaded.load(steps)) {
      const words = this.#encode(steps);
      this.#memory.bytes.set(new Uint8Array(words.buffer), loaded.address);
    }
    return loaded.address;
  }

  #encode(steps: readonly Step[]): Uint32Array {
    let words = this.#encoded.get(steps);
    if (!words) {
      words = this.#kernels.encode(steps, this.adapter.threads);
      this.#encoded.set(steps, words);
    }
    return words;
  }

  /** Gives a block back once no run that may use it is left. */
  #release(address: number, bytes: number): void {
    if (this.#disposed) return;
    if (this.#busy) void this.#inTurn(async () => this.#memory.release(address, bytes));
    else this.#memory.release(address, bytes);
  }

  #live(): void {
    if (this.#disposed) throw new FaceNetError('disposed', 'wasm: the backend was used after dispose().');
    this.#refuseDead();
  }

  #refuseDead(): void {
    const cause = this.#crew?.failure;
    if (cause)
      throw new FaceNetError(
        'device-lost',
        `wasm: every worker must stay alive, got: ${cause.message}. Create a new object.`,
        { cause },
      );
  }
}

/** A runner that computes on the calling thread. */
async function alone(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Runner> {
  const abort = () => {
    throw new FaceNetError('internal', 'wasm: abort.');
  };
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, abort } });
  const { prepareThread, runJob } = exports as Record<string, (...args: number[]) => void>;
  prepareThread?.(CONTROL, 0, 1, 0);
  return async (records, count) => {
    writeJob(memory, CONTROL, records, count);
    const start = performance.now();
    runJob?.();
    return performance.now() - start;
  };
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
