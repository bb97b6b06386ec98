import { FaceNetError } from '../../errors.ts';

/** Every block starts at a multiple of this: a cache line, and the width of any vector. */
const ALIGNMENT = 64;
const PAGE = 65536;

/** What a block of so many bytes takes. */
export const blockBytes = (bytes: number): number => Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);

interface Block {
  start: number;
  bytes: number;
}

/**
 * The linear memory of one module and its allocator: first fit over a list of free blocks, which merge when they touch. Views
 * are made anew for each use, since growing detaches or shortens older ones.
 */
export class WasmMemory {
  readonly memory: WebAssembly.Memory;
  readonly #maximumBytes: number;
  readonly #free: Block[] = [];
  #end: number;
  /** Bytes from here on were never handed out: zero, and not yet in the machine's memory. */
  #fresh: number;
  #allocated = 0;
  #blocks = 0;

  /** `reserved`: bytes at the start that the caller manages. */
  constructor(memory: WebAssembly.Memory, maximumBytes: number, reserved: number) {
    this.memory = memory;
    this.#maximumBytes = maximumBytes;
    this.#end = Math.ceil(reserved / ALIGNMENT) * ALIGNMENT;
    this.#fresh = this.#end;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.memory.buffer);
  }

  get allocated(): number {
    return this.#allocated;
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** Address of a zero-filled block. @throws 'memory' with bytes asked and available. */
  allocate(bytes: number, label: string): number {
    const need = blockBytes(bytes);
    const at = this.#free.findIndex((block) => block.bytes >= need);
    let start: number;
    if (at >= 0) {
      const block = this.#free[at] as Block;
      start = block.start;
      if (block.bytes === need) this.#free.splice(at, 1);
      else this.#free[at] = { start: block.start + need, bytes: block.bytes - need };
    } else {
      start = this.#end;
      this.#grow(start + need, need, label);
      this.#end = start + need;
    }
    // Touching pages that nobody may ever use is most of what loading a model would cost.
    if (start < this.#fresh) this.bytes.fill(0, start, Math.min(start + need, this.#fresh));
    this.#fresh = Math.max(this.#fresh, start + need);
    this.#allocated += need;
    this.#blocks++;
    return start;
  }

  release(start: number, bytes: number): void {
    const size = blockBytes(bytes);
    this.#allocated -= size;
    this.#blocks--;
    let at = this.#free.findIndex((block) => block.start > start);
    if (at < 0) at = this.#free.length;
    this.#free.splice(at, 0, { start, bytes: size });
    for (let i = Math.max(0, at - 1); i < this.#free.length - 1 && i <= at; ) {
      const block = this.#free[i] as Block;
      const next = this.#free[i + 1] as Block;
      if (block.start + block.bytes === next.start) {
        block.bytes += next.bytes;
        this.#free.splice(i + 1, 1);
      } else i++;
    }
    const lastBlock = this.#free[this.#free.length - 1];
    if (lastBlock && lastBlock.start + lastBlock.bytes === this.#end) {
      this.#end = lastBlock.start;
      this.#free.pop();
    }
  }

  #grow(end: number, need: number, label: string): void {
    const missing = end - this.memory.buffer.byteLength;
    if (missing <= 0) return;
    const fail = (cause?: unknown) =>
      new FaceNetError(
        'memory',
        `wasm: ${label} needs ${need} bytes, got ${this.#maximumBytes - this.#end} of ${this.#maximumBytes} left. Use a smaller batchSize.`,
        { cause },
      );
    if (end > this.#maximumBytes) throw fail();
    try {
      this.memory.grow(Math.ceil(missing / PAGE));
    } catch (cause) {
      throw fail(cause);
    }
  }
}
