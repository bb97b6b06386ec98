import { FaceNetError } from '../errors.ts';
import type { Backend } from '../plan/runner.ts';
import type { BackendHost } from './host.ts';
import { checkAnswers } from './known-answers.ts';
import type { Thread } from './wasm/crew.ts';
import { WasmBackend } from './wasm/wasm-backend.ts';
import { LiveDevice } from './webgpu/live-device.ts';
import { WebGpuBackend } from './webgpu/webgpu-backend.ts';

export interface OpenOptions {
  readonly backend?: 'auto' | 'webgpu' | 'wasm';
  /** A device of the caller: used, never destroyed. */
  readonly device?: GPUDevice;
  readonly gpu?: GPU;
  /** Wanted threads of the wasm backend; default: the cores, at most 8. */
  readonly threads?: number;
  /** False: never the build with fused multiply-add, whose bits depend on the processor. */
  readonly relaxed?: boolean;
}

/** An open backend, and why it is this one. */
export interface Opened {
  readonly backend: Backend;
  readonly why: string;
}

/** Most threads taken unasked: beyond it, barriers cost more than another core gives. */
const MAX_THREADS = 8;

/** A module that only a runtime with relaxed SIMD accepts: one function with f32x4.relaxed_madd. */
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 0, 253, 17, 65, 0, 253, 17, 65,
  0, 253, 17, 253, 133, 2, 11,
]);
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 17, 11,
]);

export const hasRelaxedSimd = (): boolean => WebAssembly.validate(RELAXED_PROBE);
export const hasSimd = (): boolean => WebAssembly.validate(SIMD_PROBE);

/**
 * Opens the backend asked for. 'auto' takes WebGPU if there is a hardware adapter, else wasm: a software adapter is
 * slower than wasm on the same processor. 'webgpu' takes a software adapter too, and says so.
 * A device that gives wrong numbers (known-answers.ts) counts as none.
 * @throws 'device' when 'webgpu' cannot be had (with the reason), or when wasm SIMD is missing.
 */
export async function openBackend(host: BackendHost, options: OpenOptions = {}): Promise<Opened> {
  const { backend = 'auto' } = options;
  if (!['auto', 'webgpu', 'wasm'].includes(backend)) {
    throw new FaceNetError('input', `create: backend must be 'auto', 'webgpu' or 'wasm', got ${String(backend)}.`);
  }
  if (options.device && backend === 'wasm')
    throw new FaceNetError('input', "create: a device was given with backend: 'wasm'. Use 'webgpu' or 'auto'.");
  if (options.device) return trusted(openDevice(options.device, host));
  if (backend === 'wasm') return openWasm(host, options, 'asked for');
  const spare = options.gpu ? undefined : spareDevice(host);
  if (spare && (backend === 'webgpu' || !spare.software)) return openOn(spare, host, reasonFor(backend));
  if (spare) host.spares?.leave(spare);
  const found = await findAdapter(host, options.gpu);
  if (typeof found === 'string') {
    if (backend === 'webgpu')
      throw new FaceNetError(
        'device',
        `create: backend 'webgpu' needs an adapter, got none: ${found} Use backend: 'wasm' or 'auto'.`,
      );
    return openWasm(host, options, `no WebGPU: ${found}`);
  }
  if (backend === 'auto' && found.software) {
    found.release();
    return openWasm(
      host,
      options,
      `the only WebGPU adapter, ${found.name}, computes in software, which wasm does faster`,
    );
  }
  const opened = await openAdapter(found, host, reasonFor(backend), options.gpu === undefined);
  try {
    return await trusted(opened);
  } catch (error) {
    if (!(backend === 'auto' && error instanceof FaceNetError && error.code === 'device')) throw error;
    return openWasm(host, options, `no WebGPU: ${error.message}`);
  }
}

const reasonFor = (backend: 'auto' | 'webgpu') => (backend === 'webgpu' ? 'asked for' : 'a hardware adapter is there');

/** A device that an earlier object let go of, unless it was lost since. */
function spareDevice(host: BackendHost): LiveDevice | undefined {
  for (let spare = host.spares?.take(); spare; spare = host.spares?.take())
    if (spare instanceof LiveDevice && !spare.lost) return spare;
  return undefined;
}

/** What was opened, once it has given the right answers; closed otherwise. @throws as checkAnswers(). */
async function trusted(opened: Opened & { readonly on?: LiveDevice }): Promise<Opened> {
  try {
    await checkAnswers(opened.backend);
    if (opened.on) opened.on.trusted = true;
    return opened;
  } catch (error) {
    await opened.backend.dispose();
    throw error;
  }
}

/** Whether the device of an adapter gives the right answers, for people. Never throws. */
export async function answersOf(found: FoundAdapter, host: BackendHost): Promise<string> {
  try {
    const { backend } = await openAdapter(found, host, 'to be checked', false);
    const start = performance.now();
    try {
      await checkAnswers(backend);
      return `convolution, reduction and gradient are right (${Math.round(performance.now() - start)} ms with compiling)`;
    } finally {
      await backend.dispose();
    }
  } catch (error) {
    return `wrong: ${(error as Error).message}`;
  }
}

/** An adapter that was found, and how to let go of where it comes from. */
export interface FoundAdapter {
  readonly adapter: GPUAdapter;
  readonly name: string;
  readonly software: boolean;
  release(): void;
}

/** The adapter a runtime offers, or why there is none. Never throws. */
export async function findAdapter(host: BackendHost, given?: GPU): Promise<FoundAdapter | string> {
  try {
    const source = given ? { gpu: given, release: () => {} } : await host.gpu();
    if (typeof source === 'string') return source;
    const adapter = await source.gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) {
      source.release();
      return 'the system has no driver that WebGPU accepts (on Debian without a GPU: apt-get install mesa-vulkan-drivers from backports).';
    }
    return {
      adapter,
      name: nameOf(adapter.info),
      software: isSoftware(adapter.info),
      release: source.release,
    };
  } catch (cause) {
    return `requesting an adapter failed: ${(cause as Error).message}`;
  }
}

const nameOf = ({ vendor, architecture, device, description }: GPUAdapterInfo): string =>
  [vendor, architecture, device || description].filter(Boolean).join(' ');

function isSoftware(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe|software/i.test(`${info.architecture} ${info.description} ${info.device}`)
  );
}

/** @param kept the device may be left for a later object */
async function openAdapter(
  { adapter, name, software, release }: FoundAdapter,
  host: BackendHost,
  reason: string,
  kept: boolean,
) {
  const wanted = ['subgroups', 'shader-f16', 'timestamp-query'] as GPUFeatureName[];
  const { limits } = adapter;
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      label: 'facenet-gpu',
      requiredFeatures: wanted.filter((feature) => adapter.features.has(feature)),
      requiredLimits: {
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxBufferSize: limits.maxBufferSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      },
    });
  } catch (cause) {
    release();
    throw new FaceNetError(
      'device',
      `create: the adapter ${name} must give a device, got: ${(cause as Error).message}. Use backend: 'wasm'.`,
      { cause },
    );
  }
  return openOn(new LiveDevice(device, adapter.info, software, release), host, reason, kept);
}

/** A device of this library's own. */
function openOn(on: LiveDevice, { restWhileWaiting, spares }: BackendHost, reason: string, kept = true) {
  const why = `WebGPU on ${nameOf(on.info)}${on.software ? ' (software)' : ''}: ${reason}`;
  const leave = kept && spares ? (device: LiveDevice) => spares.leave(device) : undefined;
  return { backend: new WebGpuBackend({ on, owned: true, leave, why, restWhileWaiting }), why, on };
}

/** The caller's. */
function openDevice(device: GPUDevice, { restWhileWaiting }: BackendHost): Opened {
  const info =
    (device as GPUDevice & { adapterInfo?: GPUAdapterInfo }).adapterInfo ??
    ({ vendor: '', architecture: '', device: '', description: '' } as GPUAdapterInfo);
  const on = new LiveDevice(device, info, isSoftware(info));
  const why = `WebGPU on the caller's device${on.software ? ' (software)' : ''}`;
  return { backend: new WebGpuBackend({ on, owned: false, why, restWhileWaiting }), why };
}

async function openWasm(
  host: BackendHost,
  { threads, relaxed: wanted = true }: OpenOptions,
  reason: string,
): Promise<Opened> {
  if (!hasSimd())
    throw new FaceNetError(
      'device',
      'create: WebAssembly SIMD is needed, got a runtime without it. Update the runtime.',
    );
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 64)) {
    throw new FaceNetError('input', `create: threads must be a whole number from 1 to 64, got ${threads}.`);
  }
  const asked = threads ?? Math.max(1, Math.min(MAX_THREADS, host.cores));
  const count = host.singleThreadReason === undefined && host.startThread ? asked : 1;
  const shared = host.singleThreadReason === undefined;
  const relaxed = wanted && (host.relaxedSimd?.() ?? hasRelaxedSimd());
  const apart = Boolean(shared && host.apart && host.startThread);
  const notes = [
    `${count} thread${count === 1 ? '' : 's'}`,
    relaxed
      ? 'fused multiply-add'
      : wanted
        ? 'plain SIMD, since this runtime has no relaxed SIMD'
        : 'plain SIMD, as asked',
    ...(host.apart ? [apart ? "the page's own thread stays free" : "on the page's own thread"] : []),
    ...(count < asked && host.singleThreadReason ? [`one thread, since ${host.singleThreadReason}`] : []),
  ];
  const why = `wasm (${notes.join('; ')}): ${reason}`;
  // Workers take longest to start: before anything else.
  const workers = Array.from({ length: count > 1 || apart ? count : 0 }, () => host.startThread!());
  let backend: WasmBackend;
  try {
    const module = await host.wasmModule(`facenet${shared ? '' : '.single'}${relaxed ? '.relaxed' : ''}.wasm`);
    const startThread = () => workers.shift() as Thread;
    backend = await WasmBackend.create({
      module,
      relaxed,
      shared,
      threads: count,
      cores: host.cores,
      apart,
      why,
      startThread,
    });
  } catch (error) {
    await Promise.all(workers.map((worker) => worker.terminate()));
    throw error;
  }
  return trusted({ backend, why });
}
