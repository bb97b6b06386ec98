import type { Thread } from './wasm/crew.ts';

/** What backends need from the place they run in: Node, a page, a worker. */
export interface BackendHost {
  /** Logical processors. */
  readonly cores: number;
  /** Why there is one thread only, or undefined where several can run. */
  readonly singleThreadReason: string | undefined;
  /** True where the calling thread has better to do than compute, as in a page: then even a single thread is a worker. */
  readonly apart?: boolean;
  /** Makes relaxed SIMD available if it can be and says whether it is. Called once, at create(). Absent: it is there or not. */
  relaxedSimd?(): boolean;
  /** A module of dist/, compiled. */
  wasmModule(file: string): Promise<WebAssembly.Module>;
  /** Starts a worker on thread.js. */
  startThread?(): Thread;
  /** Where adapters come from, or the reason why there is no WebGPU. The host keeps it until `release`. */
  gpu(): Promise<{ readonly gpu: GPU; release(): void } | string>;
  /** Devices that earlier objects let go of. What is taken belongs to who took it. */
  readonly spares?: { leave(spare: object): void; take(): object | undefined };
  /**
   * Where waiting for a device keeps a processor busy: lets go of most of it until the function returned is called. For adapters in software,
   * which compute on that processor.
   */
  restWhileWaiting?(): () => void;
}
