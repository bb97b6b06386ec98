// area: operators
// on: swiftshader
//
// R2: the device is lost at any call. The class replaces it: inference gives the same bits, training those of an undisturbed run.
// The slow tier (FACENET_TIER=all) tries every call; otherwise three of each kind.
import { afterAll, describe, expect, test, vi } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import type { CreateOptions, TrainStep } from '../src/facenet-gpu.ts';
import { FaceNetGPU } from '../src/node.ts';
import { openDevice } from './backends.ts';
import { type Fault, FaultDevice, type FaultPlace } from './fault-device.ts';
import { tinyPeople } from './training-net.ts';

// A network that a software adapter compiles in a second, under a name of the list.
vi.mock('../src/networks/networks.ts', async () => {
  const { tinyNet } = await import('./training-net.ts');
  return { networks: { 'nn4.small2': tinyNet } };
});

const onGpu = (process.env.FACENET_ADAPTER ?? 'none') !== 'none';
const all = process.env.FACENET_TIER === 'all';
const places = ['createBuffer', 'createComputePipelineAsync', 'submit', 'mapAsync'] as const;
const model = { network: 'nn4.small2', seed: 1 } as const;
const data = tinyPeople(6, 4);
const faces = [0, 5, 9].map((index) => data.read(index));
const training = {
  steps: 5,
  people: 3,
  perPerson: 2,
  extraNegatives: 1,
  optimizer: 'adagrad',
  learningRate: 0.05,
  seed: 3,
  snapshotEvery: 2,
} as const;

const made: FaultDevice[] = [];
afterAll(() => {
  for (const { device } of made) device.destroy();
});

/** Where adapters come from: the n-th device has the n-th fault, later ones none. */
function gpuWith(...faults: (Fault | undefined)[]): { gpu: GPU; devices: FaultDevice[] } {
  const devices: FaultDevice[] = [];
  const requestAdapter = async () => {
    const opened = await openDevice();
    if (!opened) throw new Error('these tests need an adapter');
    const requestDevice = async () => {
      const fault = faults[devices.length];
      const device = new FaultDevice(opened.device, fault ? { fault } : {});
      devices.push(device);
      made.push(device);
      return device.device;
    };
    const { info, features, limits } = opened.adapter;
    return { info, features, limits, requestDevice } as unknown as GPUAdapter;
  };
  return { gpu: { requestAdapter } as unknown as GPU, devices };
}

interface Told {
  readonly reason: string;
  readonly recovered: boolean;
}

/** One face, three faces, training with an embedding in between, and what the trained network makes of a face. */
async function everything(options: Partial<CreateOptions>): Promise<{ numbers: Float32Array[]; steps: number[][] }> {
  const net = await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, ...options });
  const pictures = (await Promise.all(faces)).map(({ pixels }) => pixels);
  const numbers: Float32Array[] = [];
  const steps: number[][] = [];
  try {
    numbers.push((await net.embed(pictures[0]!)).data);
    numbers.push((await net.embed(pictures)).data);
    const tell = ({ step, loss, gradientNorm, triplets }: TrainStep) => [step, loss, gradientNorm, triplets];
    for await (const step of net.train(data, training)) {
      steps.push(tell(step));
      if (step.step === 3) numbers.push((await net.embed(pictures[0]!)).data);
    }
    numbers.push((await net.embed(pictures)).data);
    return { numbers, steps };
  } finally {
    await net.dispose();
  }
}

describe.runIf(onGpu)('recovery', () => {
  let expected: Awaited<ReturnType<typeof everything>>;
  const calls: Record<FaultPlace, number> = { createBuffer: 0, createComputePipelineAsync: 0, submit: 0, mapAsync: 0 };

  test('undisturbed', { timeout: 120_000 }, async () => {
    const { gpu, devices } = gpuWith();
    const told: Told[] = [];
    expected = await everything({ gpu, onDeviceLost: (info) => told.push(info) });
    expect(expected.steps.map(([step]) => step)).toEqual([1, 2, 3, 4, 5]);
    expect([devices.length, devices[0]!.live, told]).toEqual([1, 0, []]);
    Object.assign(calls, devices[0]!.calls);
    if (all) console.log('calls that are made to fail:', calls);
  });

  // Parts of the way that hit creating, the first training step and, last, the end; the slow tier takes every call.
  test.each(places.flatMap((at) => (all ? [undefined] : [0, 0.6, 1]).map((part) => [at, part] as const)))(
    'lost at %s, %f of the way: the same bits, told once, nothing stays',
    { timeout: all ? 3_600_000 : 120_000 },
    async (at, part) => {
      const every = Array.from({ length: calls[at] }, (_, index) => index + 1);
      for (const call of part === undefined ? every : [1 + Math.round(part * (calls[at] - 1))]) {
        const { gpu, devices } = gpuWith({ at, call, what: 'lose' });
        const told: Told[] = [];
        const found = await everything({ gpu, onDeviceLost: (info) => told.push(info) });
        const where = `${at} ${call} of ${calls[at]}`;
        expect(found, where).toEqual(expected);
        expect(
          told.map(({ recovered }) => recovered),
          where,
        ).toEqual([true]);
        expect(
          devices.map(({ live }) => live),
          where,
        ).toEqual([0, 0]);
      }
    },
  );

  test('two losses, one after the other, in one training run', { timeout: 120_000 }, async () => {
    // The second device is lost while it repeats steps, or just after.
    const { gpu, devices } = gpuWith(
      { at: 'submit', call: Math.round(calls.submit * 0.55), what: 'lose' },
      { at: 'submit', call: Math.round(calls.submit * 0.5), what: 'lose' },
    );
    const told: Told[] = [];
    const found = await everything({ gpu, onDeviceLost: (info) => told.push(info) }).catch((error: unknown) => error);
    if (found instanceof FaceNetError) expect(found.code).toBe('device-lost');
    else {
      expect(found).toEqual(expected);
      expect(told.map(({ recovered }) => recovered)).toEqual([true, true]);
    }
    expect(devices.length).toBeGreaterThanOrEqual(2);
  });

  test('a second loss in a row is typed, and the object works again', { timeout: 120_000 }, async () => {
    const told: Told[] = [];
    // Creating submits some; the loss comes with the embedding. Making the second object's plan succeeds, its embedding does not.
    const first = gpuWith();
    const counted = await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, gpu: first.gpu });
    const next = first.devices[0]!.calls.submit + 1;
    await counted.dispose();
    const lose = { at: 'submit', call: next, what: 'lose' } as const;
    const { gpu } = gpuWith(lose, lose);
    const onDeviceLost = (info: Told) => told.push(info);
    const net = await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, gpu, onDeviceLost });
    const { pixels } = await faces[0]!;
    await expect(net.embed(pixels)).rejects.toMatchObject({ name: 'FaceNetError', code: 'device-lost' });
    expect((await net.embed(pixels)).data).toEqual(expected.numbers[0]);
    expect(told.map(({ recovered }) => recovered)).toEqual([true, true]);
    await net.dispose();
  });

  test('no other device: typed, told once, and found later', { timeout: 120_000 }, async () => {
    const told: Told[] = [];
    const real = gpuWith();
    let gone = false;
    const requestAdapter = async () => (gone ? null : real.gpu.requestAdapter());
    const onDeviceLost = (info: Told) => told.push(info);
    const gpu = { requestAdapter } as unknown as GPU;
    const net = await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, gpu, onDeviceLost });
    const { pixels } = await faces[0]!;
    gone = true;
    real.devices[0]!.device.destroy();
    for (let time = 0; time < 2; time++)
      await expect(net.embed(pixels)).rejects.toMatchObject({
        code: 'device-lost',
        message: expect.stringMatching(/needs an adapter/),
      });
    gone = false;
    expect((await net.embed(pixels)).data).toEqual(expected.numbers[0]);
    expect(told.map(({ recovered }) => recovered)).toEqual([false]);
    await net.dispose();
  });

  test('lost while nothing runs: replaced before the next call', { timeout: 120_000 }, async () => {
    const { gpu, devices } = gpuWith();
    const recovered = new Promise<Told>((resolve) => {
      void FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, gpu, onDeviceLost: resolve }).then(
        async (net) => {
          devices[0]!.device.destroy();
          await recovered;
          expect(devices).toHaveLength(2);
          await net.dispose();
        },
      );
    });
    expect(await recovered).toMatchObject({ recovered: true, reason: expect.stringMatching(/lost/) });
  });

  test("a caller's device is not replaced, and disposing of it is no loss", { timeout: 120_000 }, async () => {
    const told: Told[] = [];
    const { device } = (await openDevice())!;
    // After the known answers and the warming run.
    const fault = new FaultDevice(device, { fault: { at: 'mapAsync', call: 3, what: 'lose' } });
    made.push(fault);
    const onDeviceLost = (info: Told) => told.push(info);
    const net = await FaceNetGPU.create({ model, batchSize: 4, device: fault.device, onDeviceLost });
    const { pixels } = await faces[0]!;
    for (let time = 0; time < 2; time++) await expect(net.embed(pixels)).rejects.toMatchObject({ code: 'device-lost' });
    await net.dispose();
    await expect(net.embed(pixels)).rejects.toMatchObject({ code: 'disposed' });
    expect(told.map(({ recovered }) => recovered)).toEqual([false]);
  });

  test('snapshotEvery is checked', { timeout: 120_000 }, async () => {
    const net = await FaceNetGPU.create({ model, backend: 'webgpu', batchSize: 4, gpu: gpuWith().gpu });
    await expect(net.train(data, { ...training, snapshotEvery: 0 }).next()).rejects.toMatchObject({ code: 'input' });
    await net.dispose();
  });
});
