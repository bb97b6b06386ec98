// The backends of this machine, for tests: wasm always, WebGPU when the process was given an adapter (FACENET_ADAPTER,
// test/adapters.mjs). Runs in Node and in a page.

import type { Thread } from '../src/backends/wasm/crew.ts';
import { WasmBackend } from '../src/backends/wasm/wasm-backend.ts';
import { LiveDevice } from '../src/backends/webgpu/live-device.ts';
import { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import { FaceNetError } from '../src/errors.ts';
import { resting } from '../src/io/node/rest.ts';
import type { Backend } from '../src/plan/runner.ts';

const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/** Bytes of a file of dist/. */
export async function built(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(`../dist/${name}`, import.meta.url);
  if (!inNode) return new Uint8Array(await (await fetch(url)).arrayBuffer());
  const { readFile } = await import(/* @vite-ignore */ `node:fs/promises`);
  return new Uint8Array(await readFile(url));
}

/** Relaxed SIMD: on by default in browsers; behind a flag in Node 20, which may be set before compiling. */
export async function enableRelaxed(): Promise<void> {
  if (!inNode) return;
  const { setFlagsFromString } = await import(/* @vite-ignore */ `node:v8`);
  setFlagsFromString('--experimental-wasm-relaxed-simd');
}

export interface WasmOptions {
  readonly relaxed?: boolean;
  readonly threads?: number;
  readonly spin?: number;
  readonly maximumBytes?: number;
  /** Even one thread is a worker; always in a page. */
  readonly apart?: boolean;
  /** Instead of the usual one. */
  readonly startThread?: () => Thread;
}

export async function wasmBackend({
  relaxed = false,
  threads = 1,
  spin,
  maximumBytes,
  apart = !inNode && globalThis.crossOriginIsolated === true,
  startThread,
}: WasmOptions = {}): Promise<WasmBackend> {
  if (relaxed) await enableRelaxed();
  const shared = inNode || globalThis.crossOriginIsolated === true;
  const module = await WebAssembly.compile(
    await built(`facenet${shared ? '' : '.single'}${relaxed ? '.relaxed' : ''}.wasm`),
  );
  return WasmBackend.create({
    module,
    relaxed,
    shared,
    threads,
    apart,
    ...(threads > 1 || apart ? { startThread: startThread ?? (await threadStarter()) } : {}),
    ...(spin === undefined ? {} : { spin }),
    ...(maximumBytes === undefined ? {} : { maximumBytes }),
  });
}

/** Starts workers on dist/thread.js. */
export async function threadStarter(): Promise<() => Thread> {
  const url = new URL('../dist/thread.js', import.meta.url);
  if (!inNode) {
    return () => {
      const worker = new Worker(url, { type: 'module' });
      return {
        post: (message) => worker.postMessage(message),
        listen: (listener) => worker.addEventListener('message', ({ data }) => listener(data)),
        failed: new Promise<Error>((resolve) => {
          worker.onerror = (event) => resolve(new Error(event.message));
        }),
        terminate: () => worker.terminate(),
      };
    };
  }
  const { Worker: NodeWorker } = (await import(
    /* @vite-ignore */ `node:worker_threads`
  )) as typeof import('node:worker_threads');
  return () => {
    const worker = new NodeWorker(url);
    worker.unref();
    return {
      post: (message) => worker.postMessage(message),
      listen: (listener) => worker.on('message', listener),
      failed: new Promise<Error>((resolve) => {
        worker.once('error', resolve);
        worker.once('exit', (code) => resolve(new Error(`a worker ended with code ${code}`)));
      }),
      hold: (busy) => (busy ? worker.ref() : worker.unref()),
      terminate: () => worker.terminate(),
    };
  };
}

/** Held while in use: Dawn ends when it is collected. */
let instance: GPU | undefined;

async function gpu(): Promise<GPU | undefined> {
  // Deno has its own, by wgpu and naga.
  if (!inNode || globalThis.navigator?.gpu) return navigator.gpu;
  const dawn = (await import(/* @vite-ignore */ `webgpu`)) as typeof import('webgpu');
  Object.assign(globalThis, dawn.globals);
  instance ??= dawn.create([]);
  return instance;
}

/** A device of the adapter that this process was given, with everything it offers; null without one. */
export async function openDevice(): Promise<{ device: GPUDevice; adapter: GPUAdapter } | null> {
  if (inNode && (process.env.FACENET_ADAPTER ?? 'none') === 'none') return null;
  const adapter = await (await gpu())?.requestAdapter();
  if (!adapter)
    throw new Error(`no adapter, though FACENET_ADAPTER is ${inNode ? process.env.FACENET_ADAPTER : 'a page'}`);
  const wanted = ['subgroups', 'shader-f16', 'timestamp-query'] as GPUFeatureName[];
  const device = await adapter.requestDevice({
    requiredFeatures: wanted.filter((feature) => adapter.features.has(feature)),
    requiredLimits: {
      maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
      maxBufferSize: adapter.limits.maxBufferSize,
      maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: adapter.limits.maxComputeWorkgroupStorageSize,
    },
  });
  return { device, adapter };
}

export async function webgpuBackend(): Promise<WebGpuBackend | null> {
  const opened = await openDevice();
  if (!opened) return null;
  const { device, adapter } = opened;
  const { isFallbackAdapter: software } = adapter.info;
  return new WebGpuBackend({
    on: new LiveDevice(device, adapter.info, software),
    owned: true,
    ...(instance && { restWhileWaiting: resting() }),
  });
}

/**
 * Backends under test in this process: with an adapter WebGPU on it; without one wasm, plain and relaxed. FACENET_BACKENDS (a list of
 * wasm, relaxed, threads, webgpu) overrides.
 */
export async function backends(): Promise<Backend[]> {
  const adapter = inNode ? (process.env.FACENET_ADAPTER ?? 'none') : 'page';
  const names =
    (inNode && process.env.FACENET_BACKENDS?.split(',')) ||
    (adapter === 'none' ? ['wasm', 'relaxed'] : adapter === 'page' ? ['wasm', 'webgpu'] : ['webgpu']);
  const opened: Backend[] = [];
  for (const name of names) {
    if (name === 'webgpu') opened.push((await webgpuBackend()) as Backend);
    else opened.push(await wasmBackend({ relaxed: name === 'relaxed', threads: name === 'threads' ? 2 : 1 }));
  }
  return opened;
}

/** What a backend is called in test titles. */
export function title(backend: Backend): string {
  return backend instanceof WasmBackend
    ? `wasm${backend.adapter.relaxed ? ' relaxed' : ''}${backend.adapter.threads > 1 ? ` x${backend.adapter.threads}` : ''}`
    : 'webgpu';
}

/** The backend as one that has no memory left. */
export function withoutRoom(backend: Backend): Backend {
  return new Proxy(backend, {
    get(target, name) {
      if (name === 'allocate')
        return () => {
          throw new FaceNetError('memory', 'test: no room.');
        };
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
