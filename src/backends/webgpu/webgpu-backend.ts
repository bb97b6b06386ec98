import { FaceNetError } from '../../errors.ts';
import type { Launch } from '../../graph/operator.ts';
import { bindFamilies, type Families, type Preferred } from '../../plan/lowering.ts';
import { align } from '../../plan/memory.ts';
import type { Backend, Counters, Footprint, Program, Read, StepTimes } from '../../plan/runner.ts';
import type { DeviceBuffer, KernelName, Step, TensorRef } from '../../plan/step.ts';
import { webgpuFamilies } from './families.ts';
import type { LiveDevice } from './live-device.ts';
import type { Kernel, Pipelines } from './pipelines.ts';

// Values of GPUBufferUsage and GPUMapMode, which are no globals in Node.
const MAP_READ = 0x1;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const UNIFORM = 0x40;
const STORAGE = 0x80;
const MAP_MODE_READ = 0x1;

/** Bytes between the Params of two steps: the largest minUniformBufferOffsetAlignment there is. */
const PARAMS_BYTES = 256;
const FOOTPRINT: Footprint = {
  buffer: (bytes) => align(Math.max(bytes, 4)),
  program: (steps) => Math.max(1, steps) * PARAMS_BYTES,
  readback: (reads) => align(reads.reduce((sum, { bytes }) => sum + align(bytes, 8), 0)),
};
const MAX_GROUPS = 65535;
/** After a failed call, how long the news of the device's loss may take. */
const LOSS_MILLISECONDS = 50;

/** What the tables of kernels are told about this device. */
export interface WebGpuAdapter {
  /** Runs on the CPU: lavapipe, SwiftShader. */
  readonly software: boolean;
  /** The subgroup size, if the device has the feature and only one size; else false. */
  readonly subgroups: number | false;
  readonly f16: boolean;
  readonly limits: GPUSupportedLimits;
  /** What a tuner found to be faster than the tables' defaults. */
  readonly preferred?: Preferred;
}

export interface WebGpuBackendOptions {
  readonly on: LiveDevice;
  /** Takes the device at dispose(): true when this library asked for it. */
  readonly owned: boolean;
  /** Gets the device at dispose(), if it is owned and sound; else it is destroyed. */
  readonly leave?: ((device: LiveDevice) => void) | undefined;
  readonly why?: string;
  /** Of the host: called before a software device is waited for; what it returns, behind. */
  readonly restWhileWaiting?: (() => () => void) | undefined;
}

interface WebGpuBuffer extends DeviceBuffer {
  readonly gpu: GPUBuffer;
}

interface Prepared {
  readonly kernel: Kernel;
  readonly bindGroup: GPUBindGroup;
}

interface Encoded {
  readonly params: Uint8Array<ArrayBuffer>;
  readonly groups: readonly (readonly [number, number, number])[];
}

class WebGpuProgram implements Program {
  readonly steps: readonly Step[];
  readonly prepared: readonly Prepared[];
  readonly params: GPUBuffer;
  readonly #dispose: () => void;
  loaded: readonly Step[] | undefined;

  constructor(steps: readonly Step[], prepared: readonly Prepared[], params: GPUBuffer, dispose: () => void) {
    this.steps = steps;
    this.prepared = prepared;
    this.params = params;
    this.#dispose = dispose;
  }

  dispose(): void {
    this.#dispose();
  }
}

/** Runs steps as compute dispatches: one pass and one submit a run. Computes in shaders only. */
export class WebGpuBackend implements Backend {
  readonly name = 'webgpu';
  readonly description: string;
  families: Families;
  readonly identity: string;
  readonly footprint = FOOTPRINT;
  readonly zeroBlock = true;
  readonly threadScratch = false;
  readonly maxBufferBytes: number;
  readonly adapter: WebGpuAdapter;
  readonly device: GPUDevice;
  /** Resolves when the device is lost while this backend is in use; never after dispose(). */
  readonly lost: Promise<GPUDeviceLostInfo>;

  readonly #on: LiveDevice;
  readonly #owned: boolean;
  readonly #leave: ((device: LiveDevice) => void) | undefined;
  readonly #restWhileWaiting: (() => () => void) | undefined;
  readonly #pipelines: Pipelines;
  readonly #encoded = new WeakMap<readonly Step[], Encoded>();
  readonly #staging: GPUBuffer[] = [];
  readonly #dummy: GPUBuffer;
  readonly #buffers = new Set<GPUBuffer>();
  /** Params of the programs that live. */
  readonly #params = new Set<GPUBuffer>();
  #bytes = 0;
  #pendingErrors: Promise<void>[] = [];
  #uncaptured: string | undefined;
  #disposed = false;
  #forgetLoss: () => void = () => {};
  readonly #onUncaptured = (event: Event) => {
    this.#uncaptured ??= (event as GPUUncapturedErrorEvent).error.message;
  };

  constructor(options: WebGpuBackendOptions) {
    const { device, info, software } = options.on;
    this.device = device;
    this.#on = options.on;
    this.#owned = options.owned;
    this.#leave = options.leave;
    this.#restWhileWaiting = software ? options.restWhileWaiting : undefined;
    this.#pipelines = options.on.pipelines;
    this.maxBufferBytes = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
    const sizes = info as GPUAdapterInfo & { subgroupMinSize?: number; subgroupMaxSize?: number };
    const fixed =
      device.features.has('subgroups' as GPUFeatureName) && sizes.subgroupMinSize === sizes.subgroupMaxSize
        ? sizes.subgroupMinSize
        : undefined;
    this.adapter = {
      software,
      subgroups: fixed ?? false,
      f16: device.features.has('shader-f16'),
      limits: device.limits,
    };
    this.families = bindFamilies(webgpuFamilies, this.adapter);
    // Browsers hide the driver: their own version stands for it.
    this.identity = JSON.stringify([
      [info.vendor, info.architecture, info.device, info.description],
      [software, this.adapter.subgroups, this.adapter.f16],
      globalThis.navigator?.userAgent ?? '',
    ]);
    this.description =
      options.why ??
      `webgpu on ${[info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(' ')}${software ? ' (software)' : ''}`;
    this.#dummy = this.#makeBuffer({ label: 'absent input', size: 256, usage: STORAGE });
    device.addEventListener('uncapturederror', this.#onUncaptured);
    this.lost = new Promise((resolve) => {
      this.#forgetLoss = options.on.onLoss(resolve);
    });
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#live();
    const size = FOOTPRINT.buffer(bytes);
    const limit = this.device.limits.maxBufferSize;
    if (size > limit)
      throw new FaceNetError(
        'memory',
        `webgpu: ${label} needs ${size} bytes, got a limit of ${limit}. Use a smaller batchSize.`,
      );
    const gpu = this.#makeBuffer({ label, size, usage: UNIFORM | STORAGE | COPY_SRC | COPY_DST });
    this.#buffers.add(gpu);
    this.#bytes += size;
    const buffer: WebGpuBuffer = { bytes: size, gpu };
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    const { gpu, bytes } = buffer as WebGpuBuffer;
    if (!this.#buffers.delete(gpu)) return;
    this.#bytes -= bytes;
    gpu.destroy();
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    this.#live();
    let bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // Whole words only, and never a view of shared memory, which Dawn in Node refuses.
    const shared = typeof SharedArrayBuffer !== 'undefined' && data.buffer instanceof SharedArrayBuffer;
    if (shared || bytes.length % 4 !== 0) {
      const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
      padded.set(bytes);
      bytes = padded;
    }
    if (byteOffset + bytes.length > buffer.bytes) {
      throw new FaceNetError(
        'internal',
        `webgpu: a write must end within ${buffer.bytes} bytes, got ${byteOffset + bytes.length}.`,
      );
    }
    this.device.queue.writeBuffer((buffer as WebGpuBuffer).gpu, byteOffset, bytes as Uint8Array<ArrayBuffer>);
  }

  expect(kernels: readonly KernelName[]): void {
    if (this.#disposed || this.#on.lost) return;
    // What fails is said where it is wanted.
    for (const kernel of kernels) this.#pipelines.get(kernel).catch(() => {});
  }

  async prepare(steps: readonly Step[]): Promise<Program> {
    this.#live();
    const kernels = await this.#orLost(Promise.all(steps.map((step) => this.#pipelines.get(step))));
    this.#live();
    const { device } = this;
    const params = this.#makeBuffer({
      label: 'params',
      size: FOOTPRINT.program(steps.length),
      usage: UNIFORM | COPY_DST,
    });
    this.#params.add(params);
    this.#bytes += params.size;
    const release = () => {
      if (!this.#params.delete(params)) return;
      this.#bytes -= params.size;
      params.destroy();
    };
    try {
      device.pushErrorScope('validation');
      let prepared: Prepared[];
      let validation: Promise<GPUError | null>;
      try {
        prepared = steps.map((step, index) => {
          const kernel = kernels[index] as Kernel;
          return { kernel, bindGroup: this.#bindGroup(step, kernel, params, index) };
        });
      } finally {
        validation = device.popErrorScope();
        validation.catch(() => {});
      }
      const error = await this.#orLost(validation);
      // A buffer without memory makes its bind groups invalid: the memory is the cause.
      await this.#settleErrors();
      if (error) throw new FaceNetError('internal', `webgpu: ${error.message}`);
      const program = new WebGpuProgram(steps, prepared, params, release);
      this.#encode(program, steps);
      return program;
    } catch (failure) {
      release();
      throw failure;
    }
  }

  async run(
    programs: readonly { readonly program: Program; readonly steps?: readonly Step[] }[],
    reads: readonly Read[],
  ): Promise<Uint8Array[]> {
    this.#live();
    const { device } = this;
    const encoder = device.createCommandEncoder();
    const loads = programs.map(({ program, steps = program.steps }) => ({
      program: program as WebGpuProgram,
      steps,
      ...this.#load(program as WebGpuProgram, steps),
    }));
    if (loads.length > 0) {
      const pass = encoder.beginComputePass();
      for (const { program, groups } of loads) record(pass, program, groups);
      pass.end();
    }
    const offsets: number[] = [];
    let total = 0;
    for (const read of reads) {
      offsets.push(total);
      total += align(read.bytes, 8);
    }
    const staging = total > 0 ? this.#stage(total) : undefined;
    reads.forEach((read, index) => {
      if (read.bytes > 0)
        encoder.copyBufferToBuffer(
          (read.buffer as WebGpuBuffer).gpu,
          read.byteOffset,
          staging as GPUBuffer,
          offsets[index] as number,
          align(read.bytes, 4),
        );
    });
    device.queue.submit([encoder.finish()]);
    if (!staging) {
      await this.#orLost(device.queue.onSubmittedWorkDone());
      await this.#settleErrors();
      return reads.map(() => new Uint8Array());
    }
    let results: Uint8Array[];
    try {
      await this.#orLost(staging.mapAsync(MAP_MODE_READ, 0, total));
      const mapped = new Uint8Array(staging.getMappedRange(0, total));
      results = reads.map((read, index) =>
        mapped.slice(offsets[index] as number, (offsets[index] as number) + read.bytes),
      );
      staging.unmap();
    } catch (cause) {
      staging.destroy();
      this.#live();
      await this.#settleErrors();
      throw new FaceNetError('device', `webgpu: reading results back failed: ${(cause as Error).message}`, { cause });
    }
    if (this.#disposed) staging.destroy();
    else this.#staging.push(staging);
    await this.#settleErrors();
    return results;
  }

  async profile(program: Program, steps: readonly Step[] = program.steps): Promise<StepTimes> {
    this.#live();
    const prepared = program as WebGpuProgram;
    const { groups } = this.#load(prepared, steps);
    const { timeDispatches } = await import('./step-times.ts');
    return timeDispatches(
      this.device,
      steps.length,
      (pass, index) => record(pass, prepared, groups, index, index + 1),
      (done) => this.#orLost(done),
    );
  }

  counters(): Counters {
    return {
      buffers: this.#buffers.size,
      bytes: this.#bytes,
      programs: this.#params.size,
      pipelines: this.#pipelines.count,
      workers: 0,
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.removeEventListener('uncapturederror', this.#onUncaptured);
    for (const buffer of [...this.#buffers, ...this.#params, ...this.#staging, this.#dummy]) buffer.destroy();
    this.#buffers.clear();
    this.#params.clear();
    this.#staging.length = 0;
    this.#bytes = 0;
    this.#forgetLoss();
    if (!this.#owned) return;
    if (this.#leave && this.#on.trusted && !this.#on.lost) {
      this.#leave(this.#on);
      return;
    }
    this.device.destroy();
    this.#on.release();
  }

  #bindGroup(step: Step, { file, entryPoint, pipeline }: Kernel, params: GPUBuffer, index: number): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = [];
    if (entryPoint.uses.has('params'))
      entries.push({
        binding: 0,
        resource: { buffer: params, offset: index * PARAMS_BYTES, size: align(file.params.length * 4, 16) },
      });
    for (const name of entryPoint.uses) {
      const binding = file.bindings.get(name);
      if (!binding) continue;
      if (!(name in step.tensors))
        throw new FaceNetError(
          'internal',
          `webgpu: shaders/${step.file}.wgsl ${step.kernel} binds ${name}, the step ${step.label} has no such tensor.`,
        );
      const ref = step.tensors[name];
      if (!ref) {
        entries.push({ binding: binding.binding, resource: { buffer: this.#dummy } });
        continue;
      }
      const { gpu } = ref.buffer as WebGpuBuffer;
      const offset = ref.strided ? 0 : ref.offset * 4;
      const size = ref.strided
        ? gpu.size
        : Math.max(16, align(ref.dtype === 'u8' ? ref.elements : ref.elements * 4, 16));
      entries.push({
        binding: binding.binding,
        resource: { buffer: gpu, offset, size: Math.min(size, gpu.size - offset) },
      });
    }
    return this.device.createBindGroup({ label: step.label, layout: pipeline.getBindGroupLayout(0), entries });
  }

  #load(program: WebGpuProgram, steps: readonly Step[]): Encoded {
    const encoded = this.#encode(program, steps);
    if (program.loaded !== steps) {
      this.device.queue.writeBuffer(program.params, 0, encoded.params);
      program.loaded = steps;
    }
    return encoded;
  }

  #encode(program: WebGpuProgram, steps: readonly Step[]): Encoded {
    let encoded = this.#encoded.get(steps);
    if (!encoded) {
      const params = new Uint8Array(steps.length * PARAMS_BYTES);
      const groups = steps.map((step, index) => {
        const kernel = (program.prepared[index] as Prepared).kernel;
        encodeParams(step, kernel, new DataView(params.buffer, index * PARAMS_BYTES, PARAMS_BYTES));
        return workgroups(step.launch, kernel.workgroupSize);
      });
      encoded = { params, groups };
      this.#encoded.set(steps, encoded);
    }
    return encoded;
  }

  #stage(bytes: number): GPUBuffer {
    const at = this.#staging.findIndex((buffer) => buffer.size >= bytes);
    if (at >= 0) return this.#staging.splice(at, 1)[0] as GPUBuffer;
    this.#staging.pop()?.destroy();
    return this.#makeBuffer({ label: 'readback', size: align(bytes), usage: MAP_READ | COPY_DST });
  }

  /** A device says later whether it had the memory: see #settleErrors. */
  #makeBuffer(descriptor: GPUBufferDescriptor & { label: string }): GPUBuffer {
    this.device.pushErrorScope('out-of-memory');
    const buffer = this.device.createBuffer(descriptor);
    const pending = this.device.popErrorScope().then((error) => {
      if (error)
        throw new FaceNetError(
          'memory',
          `webgpu: ${descriptor.label} needs ${descriptor.size} bytes, got: ${error.message}. Use a smaller batchSize.`,
        );
    });
    pending.catch(() => {});
    this.#pendingErrors.push(pending);
    return buffer;
  }

  async #settleErrors(): Promise<void> {
    const pending = this.#pendingErrors;
    this.#pendingErrors = [];
    try {
      await this.#orLost(Promise.all(pending));
    } catch (cause) {
      // Whatever used the missing buffer has complained as well.
      this.#uncaptured = undefined;
      throw cause;
    }
    if (this.#uncaptured) {
      const message = this.#uncaptured;
      this.#uncaptured = undefined;
      throw new FaceNetError('internal', `webgpu: ${message}`);
    }
  }

  /** Waits, but not beyond the loss of the device. */
  async #orLost<T>(promise: Promise<T>): Promise<T> {
    const stopResting = this.#restWhileWaiting?.();
    try {
      return await this.#notBeyondLoss(promise);
    } finally {
      stopResting?.();
    }
  }

  async #notBeyondLoss<T>(promise: Promise<T>): Promise<T> {
    let forget = () => {};
    const loss = new Promise<undefined>((resolve) => {
      forget = this.#on.onLoss(() => resolve(undefined));
    });
    try {
      const result = await Promise.race([promise.then((value) => ({ value })), loss]).catch(async (cause) => {
        // A call that fails may be the first sign of the loss.
        await Promise.race([loss, new Promise((resolve) => setTimeout(resolve, LOSS_MILLISECONDS))]);
        this.#live();
        throw cause;
      });
      if (result) return result.value;
    } finally {
      forget();
    }
    promise.catch(() => {});
    this.#live();
    throw this.#lossError();
  }

  #live(): void {
    if (this.#disposed) throw new FaceNetError('disposed', 'webgpu: the backend was used after dispose().');
    if (this.#on.lost) throw this.#lossError();
  }

  #lossError(): FaceNetError {
    return new FaceNetError(
      'device-lost',
      `webgpu: the device must stay, got lost (${this.#on.lost?.reason ?? 'unknown'}): ${this.#on.lost?.message ?? ''}`,
    );
  }
}

function record(
  pass: GPUComputePassEncoder,
  program: WebGpuProgram,
  groups: Encoded['groups'],
  from = 0,
  to = program.prepared.length,
): void {
  let last: GPUComputePipeline | undefined;
  for (let index = from; index < to; index++) {
    const { kernel, bindGroup } = program.prepared[index] as Prepared;
    const [x, y, z] = groups[index] as readonly [number, number, number];
    // A call takes microseconds, each argument of it a part.
    if (kernel.pipeline !== last) pass.setPipeline(kernel.pipeline);
    last = kernel.pipeline;
    pass.setBindGroup(0, bindGroup);
    if (y === 1 && z === 1) pass.dispatchWorkgroups(x);
    else pass.dispatchWorkgroups(x, y, z);
  }
}

function workgroups(launch: Launch, workgroupSize: number): readonly [number, number, number] {
  if ('invocations' in launch)
    return [Math.min(MAX_GROUPS, Math.max(1, Math.ceil(launch.invocations / workgroupSize))), 1, 1];
  const [x, y = 1, z = 1] = launch.workgroups;
  if (x <= MAX_GROUPS) return [x, y, z];
  if (y !== 1) throw new FaceNetError('internal', `webgpu: a launch of ${x} x ${y} workgroups cannot be folded.`);
  const folds = Math.ceil(x / MAX_GROUPS);
  return [Math.ceil(x / folds), folds, z];
}

function encodeParams(step: Step, { file }: Kernel, view: DataView): void {
  file.params.forEach(([name, type], index) => {
    const value = parameter(step, name, file.bindings);
    if (value === undefined) return;
    if (type === 'f32') view.setFloat32(index * 4, value, true);
    else if (type === 'i32') view.setInt32(index * 4, value, true);
    else view.setUint32(index * 4, value, true);
  });
}

/** A field of Params: one of the step's numbers, or one derived from a tensor's place. Fields of other entry points stay 0. */
function parameter(step: Step, name: string, bindings: ReadonlyMap<string, { width: number }>): number | undefined {
  if (name in step.params) return step.params[name];
  const [, tensor, what] = /^(\w+?)(Stride|Offset)$/.exec(name) ?? [];
  if (tensor !== undefined && what) {
    const ref: TensorRef | undefined = step.tensors[tensor];
    if (!ref) return undefined;
    const width = bindings.get(tensor)?.width ?? 1;
    const value = what === 'Stride' ? ref.stride : ref.strided ? ref.offset : 0;
    if (value % width !== 0)
      throw new FaceNetError('internal', `webgpu: ${step.label}: ${name} must divide by ${width}, got ${value}.`);
    return value / width;
  }
  if (name.startsWith('has')) {
    const input = name.charAt(3).toLowerCase() + name.slice(4);
    if (input in step.tensors) return step.tensors[input] ? 1 : 0;
  }
  return undefined;
}
