import { FaceNetError } from '../errors.ts';
import { equal, type Shape, size, text } from '../graph/shape.ts';
import type { Backend } from './runner.ts';
import type { DeviceBuffer, TensorRef } from './step.ts';

interface Slot {
  readonly shape: Shape;
  readonly buffer: DeviceBuffer;
}

/**
 * Device tensors that outlive a run, by name: weights, running statistics, optimiser slots. Several plans may share one
 * store. Values are f32 in canonical layout (convolution weights [kernelHeight, kernelWidth, channels, outChannels]).
 */
export class Store {
  readonly backend: Backend;
  readonly #slots = new Map<string, Slot>();
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
    this.#slots.set(name, { shape, buffer: this.backend.allocate(Math.max(4, size(shape) * 4), name) });
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
    this.backend.write(this.#slot(name).buffer, 0, data);
    this.#version++;
  }

  /** Reads tensors back, in one go. */
  async read(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const reads = names.map((name) => ({
      buffer: this.#slot(name).buffer,
      byteOffset: 0,
      bytes: size(this.#slot(name).shape) * 4,
    }));
    const bytes = await this.backend.run([], reads);
    return new Map(
      names.map((name, index) => {
        const { buffer, byteOffset, byteLength } = bytes[index] as Uint8Array;
        return [name, new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))];
      }),
    );
  }

  /** Where a tensor lies, for plans. */
  ref(name: string): TensorRef {
    const { shape, buffer } = this.#slot(name);
    const columns = shape.length === 0 ? 1 : (shape[shape.length - 1] as number);
    return { buffer, dtype: 'f32', offset: 0, stride: columns, elements: size(shape), strided: false };
  }

  dispose(): void {
    for (const { buffer } of this.#slots.values()) this.backend.free(buffer);
    this.#slots.clear();
  }

  #slot(name: string): Slot {
    const slot = this.#slots.get(name);
    if (!slot)
      throw new FaceNetError('model', `store: ${name} must be set before a plan is built, got nothing of that name.`);
    return slot;
  }
}
