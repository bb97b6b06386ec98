import type { Families } from './lowering.ts';
import type { DeviceBuffer, KernelName, Step } from './step.ts';

/** Steps made ready for one backend: pipelines compiled, arguments encoded. */
export interface Program {
  readonly steps: readonly Step[];
  dispose(): void;
}

/** Bytes wanted back after a run. */
export interface Read {
  readonly buffer: DeviceBuffer;
  readonly byteOffset: number;
  readonly bytes: number;
}

/** Counts of what a backend holds; equal before and after means nothing leaked. */
export interface Counters {
  readonly buffers: number;
  readonly bytes: number;
  readonly programs: number;
  readonly pipelines: number;
  readonly workers: number;
}

/** Bytes of device memory behind calls of a backend. */
export interface Footprint {
  /** Of `allocate`. */
  buffer(bytes: number): number;
  /** Of `prepare`, for so many steps. */
  program(steps: number): number;
  /** Of the first run that reads these back; kept for later ones. */
  readback(reads: readonly Read[]): number;
}

/** Milliseconds of each step of one program. */
export interface StepTimes {
  readonly milliseconds: readonly number[];
  readonly timing: 'timestamp' | 'wall';
}

/**
 * What runs steps and moves bytes. It knows nothing of faces, networks or graphs. Everything that can fail is done in
 * `prepare` and `allocate`; `run` only records and submits.
 */
export interface Backend {
  readonly name: 'webgpu' | 'wasm';
  /** Which device, and why it was taken; for people. */
  readonly description: string;
  /** Resolves when the device is lost while it is in use; absent where it cannot be. */
  readonly lost?: Promise<unknown>;
  /** Tables of kernels. Plans ask when they are made: another table, of equal bits, changes none that is there. */
  families: Families;
  /** Adapter, driver and runtime: what times of kernels depend on. Absent where there is nothing to tune. */
  readonly identity?: string;
  /** Activation buffers begin with a block of zeros, at least one pixel of the widest tensor, that no kernel writes. */
  readonly zeroBlock: boolean;
  /** Scratch of kernels that take `threadFloats` is each thread's own, so that a plan's steps can share one piece of it. */
  readonly threadScratch: boolean;
  /** Largest buffer one kernel can see, in bytes. */
  readonly maxBufferBytes: number;
  /** What this backend really takes, for forecasts; absent: what is asked for, and nothing besides. */
  readonly footprint?: Footprint;
  /** Zero-filled memory. @throws 'memory' with bytes asked and available. */
  allocate(bytes: number, label: string): DeviceBuffer;
  free(buffer: DeviceBuffer): void;
  /** Copies bytes in; ordered before every later run. */
  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void;
  /** Tells of kernels that `prepare` will want: where compilers work beside the caller, they begin. Never throws. */
  expect?(kernels: readonly KernelName[]): void;
  /** Compiles what the steps need. @throws 'internal' naming file and line when a kernel does not compile. */
  prepare(steps: readonly Step[]): Promise<Program>;
  /**
   * Runs programs one after the other and reads bytes back. `steps` replaces a program's own by ones that differ in params and
   * launch alone (another batch size). Runs of one backend are executed in the order of the calls.
   * @throws 'device-lost' when the device goes away before the bytes are there.
   */
  run(
    programs: readonly { readonly program: Program; readonly steps?: readonly Step[] }[],
    reads: readonly Read[],
  ): Promise<Uint8Array[]>;
  /** Time of each step, by device clock where there is one. */
  profile(program: Program, steps?: readonly Step[]): Promise<StepTimes>;
  counters(): Counters;
  dispose(): Promise<void>;
}
