// A GPU device that fails when told: at the k-th call of a method the device is lost, or the buffer asked for has no room. Counts what
// lives, and pretends to smaller limits. Everything else is the real device behind it.

/** Methods at whose k-th call something can go wrong. */
export type FaultPlace = 'createBuffer' | 'createComputePipelineAsync' | 'submit' | 'mapAsync';

export interface Fault {
  readonly at: FaultPlace;
  /** Which call fails: 1 is the first. */
  readonly call: number;
  /** 'lose': the device is destroyed just before the call. 'memory': the buffer is invalid and an out-of-memory error is reported (createBuffer only). */
  readonly what: 'lose' | 'memory';
}

export interface FaultOptions {
  readonly fault?: Fault;
  /** Replace limits of the device as seen by its user; they are not enforced, only told. */
  readonly limits?: Readonly<Record<string, number>>;
  /** Features that are hidden. */
  readonly without?: readonly string[];
  /** Shaders of this name (or one entry point of them) store zeros into this tensor. */
  readonly zeros?: { readonly shader: string; readonly tensor: string; readonly kernel?: string };
}

const MAP_READ = 1;
const COPY_DST = 8;

/** Wraps a device; give `device` to what is tested. */
export class FaultDevice {
  /** Looks like a GPUDevice to its user. */
  readonly device: GPUDevice;
  readonly calls: Record<FaultPlace, number> = {
    createBuffer: 0,
    createComputePipelineAsync: 0,
    submit: 0,
    mapAsync: 0,
  };
  /** Whether the user, not the fault, called destroy(). */
  destroyed = false;
  readonly #real: GPUDevice;
  readonly #fault: Fault | undefined;
  readonly #live = new Set<object>();
  readonly #listeners = new Set<object>();
  /** One entry for each open error scope: its filter, and the error put into it. */
  readonly #scopes: { readonly filter: string; error?: { message: string } }[] = [];
  readonly #onUncaptured = new Set<(event: Event) => void>();

  constructor(real: GPUDevice, { fault, limits = {}, without = [], zeros }: FaultOptions = {}) {
    this.#real = real;
    this.#fault = fault;
    const shownLimits = new Proxy(real.limits, {
      get: (target, name) => limits[name as string] ?? Reflect.get(target, name, target),
    });
    const shownFeatures = new Set([...real.features].filter((name) => !without.includes(name)));
    const queue = overlay(real.queue, {
      submit: (buffers: GPUCommandBuffer[]) => {
        this.#count('submit');
        real.queue.submit(buffers);
      },
    });
    this.device = overlay(real, {
      limits: shownLimits,
      features: shownFeatures,
      queue,
      createBuffer: (descriptor: GPUBufferDescriptor) => this.#createBuffer(descriptor),
      createShaderModule: (descriptor: GPUShaderModuleDescriptor) =>
        real.createShaderModule(
          zeros &&
            descriptor.label?.startsWith(`shaders/${zeros.shader}.`) &&
            descriptor.label.endsWith(zeros.kernel ?? '')
            ? { ...descriptor, code: storingZeros(descriptor.code, zeros.tensor) }
            : descriptor,
        ),
      createQuerySet: (descriptor: GPUQuerySetDescriptor) => this.#watch(real.createQuerySet(descriptor)),
      createComputePipelineAsync: (descriptor: GPUComputePipelineDescriptor) => {
        this.#count('createComputePipelineAsync');
        return real.createComputePipelineAsync(descriptor);
      },
      pushErrorScope: (filter: GPUErrorFilter) => {
        this.#scopes.push({ filter });
        real.pushErrorScope(filter);
      },
      popErrorScope: async () => {
        const scope = this.#scopes.pop();
        const found = await real.popErrorScope();
        return scope?.error ?? found;
      },
      addEventListener: (type: string, listener: (event: Event) => void) => {
        this.#listeners.add(listener);
        if (type === 'uncapturederror') this.#onUncaptured.add(listener);
        real.addEventListener(type as 'uncapturederror', listener);
      },
      removeEventListener: (type: string, listener: (event: Event) => void) => {
        this.#listeners.delete(listener);
        this.#onUncaptured.delete(listener);
        real.removeEventListener(type as 'uncapturederror', listener);
      },
      destroy: () => {
        this.destroyed = true;
        real.destroy();
      },
    });
  }

  /** Buffers, query sets and listeners that were made and not destroyed or removed. */
  get live(): number {
    return this.#live.size + this.#listeners.size;
  }

  #count(place: FaultPlace): boolean {
    const now = ++this.calls[place] === this.#fault?.call && this.#fault.at === place;
    if (now && this.#fault?.what === 'lose') this.#real.destroy();
    return now;
  }

  #createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer {
    const now = this.#count('createBuffer');
    if (!(now && this.#fault?.what === 'memory'))
      return this.#watch(this.#mappable(this.#real.createBuffer(descriptor)));
    // Really invalid, as after a real failure: whatever uses it is a validation error.
    this.#real.pushErrorScope('validation');
    const invalid = this.#real.createBuffer({ ...descriptor, usage: MAP_READ | COPY_DST | 0x80 });
    this.#real.popErrorScope().catch(() => {});
    const error = { message: 'no room (a fault of the test)', constructor: { name: 'GPUOutOfMemoryError' } };
    const scope = this.#scopes.findLast(({ filter }) => filter === 'out-of-memory');
    if (scope) scope.error ??= error;
    else for (const listener of this.#onUncaptured) listener({ error } as unknown as Event);
    return this.#watch(this.#mappable(invalid));
  }

  #mappable(buffer: GPUBuffer): GPUBuffer {
    const mapAsync = buffer.mapAsync.bind(buffer);
    Object.defineProperty(buffer, 'mapAsync', {
      value: (...range: Parameters<GPUBuffer['mapAsync']>) => {
        this.#count('mapAsync');
        return mapAsync(...range);
      },
    });
    return buffer;
  }

  #watch<T extends GPUBuffer | GPUQuerySet>(object: T): T {
    const destroy = object.destroy.bind(object);
    this.#live.add(object);
    Object.defineProperty(object, 'destroy', {
      value: () => {
        this.#live.delete(object);
        return destroy();
      },
    });
    return object;
  }
}

/** A shader whose every store into `tensor` stores zero. */
function storingZeros(code: string, tensor: string): string {
  const store = new RegExp(`\\b(${tensor}\\[[^\\n]*?\\] = )([^;\\n]+);`, 'g');
  return code.replaceAll(store, '$1 0.0 * ($2);');
}

/** An object with some members replaced; the others are the original's, called on the original. */
function overlay<T extends object>(original: T, replaced: object): T {
  return new Proxy(original, {
    get(target, name) {
      if (Object.hasOwn(replaced, name)) return Reflect.get(replaced, name);
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
