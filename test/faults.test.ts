// area: operators
// on: none swiftshader
//
// What happens when the device fails: lost at any call, out of memory, with small limits, not there at all. And that nothing is left behind.
import { afterAll, describe, expect, test } from 'vitest';
import { LiveDevice } from '../src/backends/webgpu/live-device.ts';
import { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import { FaceNetError } from '../src/errors.ts';
import { Embedder, pack } from '../src/faces/embedder.ts';
import { type Pixels, type Preprocessing, place } from '../src/faces/preprocessing.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { defineNetwork, type Network } from '../src/networks/network.ts';
import { FaceNetGPU } from '../src/node.ts';
import { globalAveragePool } from '../src/ops/globalAveragePool.ts';
import { linear } from '../src/ops/linear.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { openDevice, wasmBackend } from './backends.ts';
import { type Fault, FaultDevice, type FaultOptions } from './fault-device.ts';
import { tinyNet, tinyPreprocessing } from './training-net.ts';

const adapter = process.env.FACENET_ADAPTER ?? 'none';
const onGpu = adapter !== 'none';

/** Five kernels, so that a software adapter compiles it fast. */
const microNet: Network = defineNetwork({
  ...tinyNet,
  features: (x, { dimensions = 16 } = {}) =>
    linear(globalAveragePool(x), x.graph.parameter('weight', [3, dimensions]), {
      bias: x.graph.parameter('bias', [dimensions]),
    }),
});

const faces: readonly Pixels[] = [1, 2, 3].map((seed) => ({
  data: Uint8Array.from({ length: 24 * 24 * 3 }, (_, i) => (i * 37 * seed + (i >> 3)) & 255),
  width: 24,
  height: 24,
}));
const packed = (count: number, preprocessing: Preprocessing = tinyPreprocessing) =>
  pack(
    faces.slice(0, count).map((face) => place(face, undefined, preprocessing)),
    preprocessing,
  );

/** Loads a network, embeds one face and three, and frees everything, whatever happens in between. */
async function embedAndLeave(backend: Backend, network: Network): Promise<Float32Array> {
  const store = new Store(backend);
  let embedder: Embedder | undefined;
  try {
    const parameters = parametersOf(network);
    const values = initialise(parameters, 1);
    for (const { name, shape } of parameters) store.set(name, values.get(name) as Float32Array, shape);
    embedder = await Embedder.create(network, {}, tinyPreprocessing, backend, store, 4);
    await embedder.embed(packed(1));
    return await embedder.embed(packed(3));
  } finally {
    await embedder?.dispose();
    store.dispose();
    await backend.dispose();
  }
}

async function faulty(
  options: FaultOptions = {},
): Promise<{ fault: FaultDevice; backend: WebGpuBackend; real: GPUDevice }> {
  const opened = await openDevice();
  if (!opened) throw new Error('these tests need an adapter');
  const fault = new FaultDevice(opened.device, options);
  devices.push(opened.device);
  return {
    fault,
    real: opened.device,
    backend: new WebGpuBackend({
      on: new LiveDevice(fault.device, opened.adapter.info, true),
      owned: false,
      restWhileWaiting: () => {
        rests.begun++;
        rests.going++;
        return () => rests.going--;
      },
    }),
  };
}
/** What backends told their host of waiting for the device. */
const rests = { begun: 0, going: 0 };
const devices: GPUDevice[] = [];
afterAll(() => {
  for (const device of devices) device.destroy();
});

/** The error `action` ends with, within `seconds`. */
async function errorOf(action: () => Promise<unknown>, seconds = 30): Promise<FaceNetError> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`nothing within ${seconds} s`), seconds * 1000);
  });
  const ended = action().then(
    () => 'no error',
    (error: unknown) => error,
  );
  const error = await Promise.race([ended, late]);
  clearTimeout(timer);
  expect(error).toBeInstanceOf(FaceNetError);
  return error as FaceNetError;
}

describe.runIf(onGpu)('a device that fails', () => {
  let expected: Float32Array;
  const calls = { createBuffer: 0, createComputePipelineAsync: 0, submit: 0, mapAsync: 0 };

  test('undisturbed: every call is counted, nothing stays', async () => {
    const { fault, backend } = await faulty();
    rests.begun = 0;
    expected = await embedAndLeave(backend, microNet);
    expect(rests.begun, 'kernels were compiled and results awaited').toBeGreaterThan(2);
    expect(rests.going).toBe(0);
    Object.assign(calls, fault.calls);
    expect(Math.min(...Object.values(calls)), JSON.stringify(calls)).toBeGreaterThan(1);
    expect(fault.live).toBe(0);
    expect(fault.destroyed, 'a device of the caller is not destroyed').toBe(false);
  });

  const losses: (readonly [Fault['at'], number])[] = (
    ['createBuffer', 'createComputePipelineAsync', 'submit', 'mapAsync'] as const
  ).flatMap((at) => [0, 1].map((part) => [at, part] as const));
  test.each(losses)('lost at %s, %f of the way: device-lost, nothing stays', async (at, part) => {
    const call = 1 + Math.round(part * (calls[at] - 1));
    const { fault, backend } = await faulty({ fault: { at, call, what: 'lose' } });
    const error = await errorOf(() => embedAndLeave(backend, microNet));
    expect(error.code, `${error.message} at ${at} ${call} of ${calls[at]}`).toBe('device-lost');
    expect(fault.live).toBe(0);
    expect(rests.going, 'nobody waits any more').toBe(0);
    expect(backend.counters()).toMatchObject({ buffers: 0, bytes: 0, programs: 0 });
  });

  test('after a loss a new device gives the same bits', async () => {
    expect(await embedAndLeave((await faulty()).backend, microNet)).toEqual(expected);
  });

  test('no room for a buffer: memory, nothing stays', { timeout: 300_000 }, async () => {
    // Of the backend itself, the weights, the plan, and, last, the readback. The slow tier tries every one.
    const every = Array.from({ length: calls.createBuffer }, (_, i) => i + 1);
    const sample = [1, 2, calls.createBuffer >> 1, calls.createBuffer - 1, calls.createBuffer];
    for (const call of process.env.FACENET_TIER === 'all' ? every : sample) {
      const { fault, backend } = await faulty({ fault: { at: 'createBuffer', call, what: 'memory' } });
      const error = await errorOf(() => embedAndLeave(backend, microNet));
      expect(error.code, `${error.message} at buffer ${call} of ${calls.createBuffer}`).toBe('memory');
      expect(fault.live, `buffer ${call}`).toBe(0);
    }
  });

  test('20 cycles on one device of the caller: no growth', { timeout: 300_000 }, async () => {
    const { fault, backend: first, real } = await faulty();
    const info = { vendor: '', architecture: '', device: '', description: '' } as GPUAdapterInfo;
    await embedAndLeave(first, microNet);
    for (let cycle = 0; cycle < 20; cycle++) {
      const backend = new WebGpuBackend({ on: new LiveDevice(fault.device, info, true), owned: false });
      expect(await embedAndLeave(backend, microNet)).toEqual(expected);
      expect(fault.live, `cycle ${cycle}`).toBe(0);
    }
    // Still usable by its owner.
    const buffer = real.createBuffer({ size: 16, usage: 8 });
    await real.queue.onSubmittedWorkDone();
    buffer.destroy();
  });

  const small = {
    'bindings of 16 MiB': { limits: { maxStorageBufferBindingSize: 2 ** 24, maxBufferSize: 2 ** 24 } },
    '128 invocations': { limits: { maxComputeInvocationsPerWorkgroup: 128, maxComputeWorkgroupSizeX: 128 } },
    '16 KiB of workgroup memory': { limits: { maxComputeWorkgroupStorageSize: 2 ** 14 } },
    'no f16, subgroups or timestamps': { without: ['shader-f16', 'subgroups', 'timestamp-query'] },
  } satisfies Record<string, FaultOptions>;
  test('small limits one by one give the results of wasm', { timeout: 300_000 }, async () => {
    const right = await embedAndLeave(await wasmBackend(), tinyNet);
    for (const [name, options] of Object.entries(small)) {
      const { fault, backend } = await faulty(options);
      const found = await embedAndLeave(backend, tinyNet);
      const worst = Math.max(...found.map((value, i) => Math.abs(value - (right[i] as number))));
      expect(worst, name).toBeLessThan(1e-5);
      expect(fault.live, name).toBe(0);
    }
  });

  test('a tensor above the limit is refused before anything is allocated', async () => {
    const { fault, backend } = await faulty({ limits: { maxStorageBufferBindingSize: 4096 } });
    const error = await errorOf(() => embedAndLeave(backend, tinyNet));
    expect([error.code, fault.live]).toEqual(['memory', 0]);
    expect(error.message).toMatch(/4096/);
  });
});

describe.runIf(!onGpu)('without a GPU', () => {
  const model = { network: 'nn4.small2', seed: 1 } as const;
  const noAdapter = { requestAdapter: async () => null } as unknown as GPU;

  test("'webgpu' is refused with the reason", async () => {
    const error = await errorOf(() => FaceNetGPU.create({ model, backend: 'webgpu', gpu: noAdapter }));
    expect(error.code).toBe('device');
    expect(error.message).toMatch(/needs an adapter, got none: .*driver/);
  });

  test.each([
    ['isFallbackAdapter', { vendor: 'x', architecture: '', device: '', description: '', isFallbackAdapter: true }],
    ['the name', { vendor: 'mesa', architecture: '', device: '', description: 'llvmpipe (LLVM 19)' }],
  ])("'auto' never takes a software adapter, known by %s", async (_, info) => {
    let asked = 0;
    const adapter = {
      info,
      features: new Set(),
      limits: {},
      requestDevice: async () => {
        asked++;
        throw new Error('must not be asked');
      },
    };
    const net = await FaceNetGPU.create({
      model,
      gpu: { requestAdapter: async () => adapter } as unknown as GPU,
      threads: 1,
      batchSize: 1,
    });
    expect([net.backend, asked]).toEqual(['wasm', 0]);
    expect(net.why).toMatch(/software/);
    await net.dispose();
  });

  test('an adapter that gives no device is a typed error', async () => {
    const info = { vendor: 'real', architecture: '', device: '', description: '' };
    const adapter = {
      info,
      features: new Set(),
      limits: {},
      requestDevice: async () => {
        throw new Error('refused');
      },
    };
    const error = await errorOf(() =>
      FaceNetGPU.create({ model, gpu: { requestAdapter: async () => adapter } as unknown as GPU }),
    );
    expect([error.code, /refused/.test(error.message)]).toEqual(['device', true]);
  });

  test('20 cycles of create, embed, dispose: the same bits, no growth', { timeout: 300_000 }, async () => {
    const pixels = { data: Uint8Array.from({ length: 96 * 96 * 3 }, (_, i) => (i * 31) & 255), width: 96, height: 96 };
    const resources = () =>
      process.getActiveResourcesInfo().filter((name) => !/Timeout|TTY|Pipe|FSReq/.test(name)).length;
    let first: { data: Float32Array; counters: object; resources: number } | undefined;
    for (let cycle = 0; cycle < 20; cycle++) {
      const net = await FaceNetGPU.create({ model, backend: 'wasm', threads: 2, batchSize: 1 });
      const { data } = await net.embed(pixels);
      const counters = net.counters();
      await net.dispose();
      first ??= { data, counters, resources: resources() };
      expect(counters).toEqual(first.counters);
      expect(data).toEqual(first.data);
      expect(net.counters().workers).toBe(0);
      expect(resources()).toBe(first.resources);
    }
  });

  test('a full linear memory is a typed error, and what was taken is given back', async () => {
    const backend = await wasmBackend({ maximumBytes: 2 ** 26 });
    const before = backend.counters();
    const store = new Store(backend);
    expect(() => store.set('weights', new Float32Array(2 ** 24), [2 ** 24])).toThrow(
      expect.objectContaining({ code: 'memory' }),
    );
    store.set('weights', new Float32Array(2 ** 10), [2 ** 10]);
    store.dispose();
    expect(backend.counters()).toEqual(before);
    await backend.dispose();
  });
});
