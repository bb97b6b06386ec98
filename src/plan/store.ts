import { FaceNetError } from '../errors.ts';
import { equal, type Shape, size, text } from '../graph/shape.ts';
import { partWidths } from './memory.ts';
import type { Backend } from './runner.ts';
import type { DeviceBuffer, TensorRef } from './step.ts';

/** Behind the name of a parameter that is kept as words of two float16 (halves.ts). */
export const HALF = '~half';

/** Columns of a tensor in a buffer of their own: all of them, but where the tensor is larger than a kernel can see. */
export interface StorePart {
  readonly name: string;
  readonly shape: Shape;
  readonly buffer: DeviceBuffer;
}

interface Slot {
  readonly shape: Shape;
  readonly parts: readonly StorePart[];
}

/**
 * Device tensors that outlive a run, by name: weights, running statistics, optimiser slots. Several plans may share one
 * store. Values are f32 in canonical layout (convolution weights [kernelHeight, kernelWidth, channels, outChannels]).
 *
 * A tensor beyond `backend.maxBufferBytes` is kept as parts, `name#0`, `name#1`, ...: ranges of its columns, dense, each in a buffer of its
 * own. Who sets and reads tensors does not notice; plans compute with the parts (storage.ts).
 */
export class Store {
  readonly backend: Backend;
  readonly #slots = new Map<string, Slot>();
  readonly #parts = new Map<string, StorePart>();
  #version = 0;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** Grows with every change of a tensor from outside, so that plans know when what they derived is stale. */
  get version(): number {
    return this.#version;
  }

  /** Says that a run changed tensors of this store. */
  touch(): void {
    this.#version++;
  }

  get names(): readonly string[] {
    return [...this.#slots.keys()];
  }

  has(name: string): boolean {
    return this.#slots.has(name);
  }

  shape(name: string): Shape {
    return this.#slot(name).shape;
  }

  /** The buffers of a tensor; none for a name that is not there. */
  parts(name: string): readonly StorePart[] {
    return this.#slots.get(name)?.parts ?? [];
  }

  /** A store of the same names and shapes, all zero, on another backend. */
  like(backend: Backend): Store {
    const other = new Store(backend);
    for (const [name, { shape }] of this.#slots) other.define(name, shape);
    return other;
  }

  /** Makes a zero tensor unless one of this name and shape is there. */
  define(name: string, shape: Shape): void {
    const known = this.#slots.get(name);
    if (known) {
      if (!equal(known.shape, shape)) {
        throw new FaceNetError(
          'model',
          `store: ${name} is ${text(known.shape)}, got a request for ${text(shape)}. The weights belong to another network.`,
        );
      }
      return;
    }
    const widths = partWidths(shape, this.backend.maxBufferBytes);
    const parts: StorePart[] = [];
    try {
      for (const [index, width] of widths.entries()) {
        const partShape = widths.length === 1 ? shape : [...shape.slice(0, -1), width];
        const partName = widths.length === 1 ? name : `${name}#${index}`;
        const bytes = Math.max(4, size(partShape) * 4);
        parts.push({ name: partName, shape: partShape, buffer: this.backend.allocate(bytes, partName) });
      }
    } catch (error) {
      for (const { buffer } of parts) this.backend.free(buffer);
      throw error;
    }
    this.#slots.set(name, { shape, parts });
    for (const part of parts) this.#parts.set(part.name, part);
  }

  /** Sets a tensor's values, making it if needed. Copies. */
  set(name: string, data: Float32Array, shape: Shape = this.#slot(name).shape): void {
    if (data.length !== size(shape)) {
      throw new FaceNetError(
        'model',
        `store: ${name} needs ${size(shape)} values for ${text(shape)}, got ${data.length}.`,
      );
    }
    this.define(name, shape);
    const { parts } = this.#slot(name);
    let column = 0;
    for (const { buffer, shape: own } of parts) {
      this.backend.write(buffer, 0, parts.length === 1 ? data : columnsOf(data, shape, own, column));
      column += own[own.length - 1] as number;
    }
    this.#version++;
  }

  /** Reads tensors back, as many at once as one buffer holds. */
  async read(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const wanted = names.map((name) => [name, this.#slot(name)] as const);
    const reads = wanted.flatMap(([, { parts }]) =>
      parts.map(({ buffer, shape }) => ({ buffer, byteOffset: 0, bytes: size(shape) * 4 })),
    );
    const found: Uint8Array[] = [];
    for (let start = 0; start < reads.length; ) {
      let end = start;
      let bytes = 0;
      do bytes += (reads[end++] as (typeof reads)[number]).bytes + 8;
      while (end < reads.length && bytes + (reads[end] as (typeof reads)[number]).bytes < this.backend.maxBufferBytes);
      found.push(...(await this.backend.run([], reads.slice(start, end))));
      start = end;
    }
    let at = 0;
    return new Map(
      wanted.map(([name, { shape, parts }]) => {
        const pieces = parts.map(() => {
          const { buffer, byteOffset, byteLength } = found[at++] as Uint8Array;
          return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
        });
        if (pieces.length === 1) return [name, pieces[0] as Float32Array];
        const whole = new Float32Array(size(shape));
        let column = 0;
        for (const [index, { shape: own }] of parts.entries()) {
          columnsOf(whole, shape, own, column, pieces[index]);
          column += own[own.length - 1] as number;
        }
        return [name, whole];
      }),
    );
  }

  /** Where a tensor, or a part of one, lies, for plans. */
  ref(name: string): TensorRef {
    const part = this.#parts.get(name);
    if (!part) {
      const { shape } = this.#slot(name);
      throw new FaceNetError(
        'memory',
        `plan: a tensor may take ${this.backend.maxBufferBytes} bytes on this device, got ${size(shape) * 4} for ${name} ${text(shape)}, which an operator reads that cannot work on parts.`,
      );
    }
    const { shape, buffer } = part;
    const columns = shape.length === 0 ? 1 : (shape[shape.length - 1] as number);
    return { buffer, dtype: 'f32', offset: 0, stride: columns, elements: size(shape), strided: false };
  }

  dispose(): void {
    for (const { buffer } of this.#parts.values()) this.backend.free(buffer);
    this.#slots.clear();
    this.#parts.clear();
  }

  #slot(name: string): Slot {
    const slot = this.#slots.get(name);
    if (!slot)
      throw new FaceNetError('model', `store: ${name} must be set before a plan is built, got nothing of that name.`);
    return slot;
  }
}

/** Columns of `whole` from `column` on, as a tensor of shape `own`; or, given `part`, the way back: `part` is copied there. */
function columnsOf(whole: Float32Array, shape: Shape, own: Shape, column: number, part?: Float32Array): Float32Array {
  const [stride, width] = [shape[shape.length - 1] as number, own[own.length - 1] as number];
  const rows = size(own) / width;
  const copy = part ?? new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const [far, near] = [row * stride + column, row * width];
    if (part) whole.set(part.subarray(near, near + width), far);
    else copy.set(whole.subarray(far, far + width), near);
  }
  return copy;
}
