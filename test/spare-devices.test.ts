// area: operators
// on: lavapipe swiftshader
//
// An object that is disposed of leaves its device, with what was compiled for it, to the next one.
import { expect, test } from 'vitest';
import { type Opened, openBackend } from '../src/backends/open.ts';
import { LiveDevice } from '../src/backends/webgpu/live-device.ts';
import type { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { Spares } from '../src/io/spares.ts';
import { FaceNetGPU } from '../src/node.ts';
import { openDevice } from './backends.ts';
import { FaultDevice } from './fault-device.ts';

const deviceOf = ({ backend }: Opened) => (backend as WebGpuBackend).device;
/** A host of this test alone. */
const hostWith = (spares: Spares) => ({ ...createNodeHost(), spares });
const open = (spares: Spares, options = {}) => openBackend(hostWith(spares), { backend: 'webgpu', ...options });

test('the next object gives the same bits, with no kernel twice', { timeout: 60_000 }, async () => {
  const model = { network: 'nn4.small2', seed: 1, size: 16 } as const;
  const face = { data: Uint8Array.from({ length: 40 * 40 * 3 }, (_, i) => (i * 37) & 255), width: 40, height: 40 };
  const made: { data: Float32Array; pipelines: number }[] = [];
  for (let round = 0; round < 3; round++) {
    const net = await FaceNetGPU.create({ model, backend: 'webgpu' });
    const { data } = await net.embed(face);
    made.push({ data, pipelines: net.counters().pipelines });
    await net.dispose();
  }
  expect(made[1]).toEqual(made[0]);
  expect(made[2]).toEqual(made[0]);
});

test('objects that live at the same time have devices of their own', { timeout: 60_000 }, async () => {
  const spares = new Spares();
  const [first, second] = [await open(spares), await open(spares)];
  const devices = [deviceOf(first), deviceOf(second)];
  expect(devices[0]).not.toBe(devices[1]);
  await first.backend.dispose();
  await second.backend.dispose();
  const again = [await open(spares), await open(spares)];
  expect(new Set(again.map(deviceOf))).toEqual(new Set(devices));
  for (const { backend } of again) await backend.dispose();
});

test('a device that was lost meanwhile is not taken', { timeout: 60_000 }, async () => {
  const spares = new Spares();
  const first = await open(spares);
  await first.backend.dispose();
  deviceOf(first).destroy();
  await deviceOf(first).lost;
  const second = await open(spares);
  expect(deviceOf(second)).not.toBe(deviceOf(first));
  await expect(second.backend.run([], [])).resolves.toEqual([]);
  await second.backend.dispose();
});

test("nothing is left of a caller's device or adapter, or of a device that was lost", { timeout: 60_000 }, async () => {
  const spares = new Spares();
  const opened = (await openDevice())!;
  const callers = await open(spares, { device: opened.device });
  await callers.backend.dispose();
  expect(spares.take()).toBeUndefined();

  const { info, features, limits } = opened.adapter;
  const fault = new FaultDevice(opened.device);
  const requestDevice = async () => fault.device;
  const adapter = { info, features, limits, requestDevice } as unknown as GPUAdapter;
  const given = await open(spares, { gpu: { requestAdapter: async () => adapter } });
  await given.backend.dispose();
  expect([spares.take(), fault.destroyed]).toEqual([undefined, true]);

  const lost = await open(spares);
  deviceOf(lost).destroy();
  await deviceOf(lost).lost;
  await lost.backend.dispose();
  expect(spares.take()).toBeUndefined();
});

test('a software device is left alone where nobody asked for WebGPU', { timeout: 60_000 }, async () => {
  const spares = new Spares();
  const first = await open(spares);
  await first.backend.dispose();
  const second = await openBackend(hostWith(spares), { threads: 1 });
  expect(second.backend.name).toBe('wasm');
  await second.backend.dispose();
  const spare = spares.take();
  expect(spare).toBeInstanceOf(LiveDevice);
  expect((spare as LiveDevice).device).toBe(deviceOf(first));
  (spare as LiveDevice).device.destroy();
  (spare as LiveDevice).release();
});
