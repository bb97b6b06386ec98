// area: operators
// on: none lavapipe swiftshader
//
// A device that computes wrongly is refused, and the operator named; every device of this machine is accepted.
import { describe, expect, test } from 'vitest';
import { checkAnswers } from '../src/backends/known-answers.ts';
import { FaceNetGPU } from '../src/node.ts';
import { backends, openDevice, title } from './backends.ts';
import { FaultDevice } from './fault-device.ts';

const onGpu = (process.env.FACENET_ADAPTER ?? 'none') !== 'none';

test('every backend of this machine gives the known answers, and keeps nothing', { timeout: 60_000 }, async () => {
  for (const backend of await backends()) {
    const before = backend.counters();
    await expect(checkAnswers(backend), title(backend)).resolves.toBeUndefined();
    expect({ ...backend.counters(), pipelines: 0 }).toEqual({ ...before, pipelines: 0 });
    await backend.dispose();
  }
});

/** Operator, its shader, and the tensor that is zero, as gradients are on the phone of tfjs #8590. */
const faults = [
  ['conv2d.forward', 'conv2d', 'y'],
  ['sumOfSquares.forward', 'sumOfSquares', 'y'],
  ['conv2d.weightGradient', 'conv2d', 'dweight'],
] as const;

async function gpuOf(zeros: { shader: string; tensor: string }): Promise<{ gpu: GPU; device: FaultDevice }> {
  const opened = (await openDevice())!;
  const device = new FaultDevice(opened.device, { zeros });
  const { info, features, limits } = opened.adapter;
  const adapter = { info, features, limits, requestDevice: async () => device.device } as unknown as GPUAdapter;
  return { gpu: { requestAdapter: async () => adapter } as unknown as GPU, device };
}

const model = { network: 'nn4.small2', seed: 1, size: 16 } as const;

describe.runIf(onGpu)('a device that gives zeros', () => {
  test.each(faults)('for %s is refused by name', { timeout: 60_000 }, async (operator, shader, tensor) => {
    const { gpu, device } = await gpuOf({ shader, tensor });
    await expect(FaceNetGPU.create({ model, backend: 'webgpu', gpu })).rejects.toMatchObject({
      code: 'device',
      message: new RegExp(`${operator.replace('.', '\\.')} must give -?\\d+ where the answer is known, got -?0\\.`),
    });
    expect([device.live, device.destroyed]).toEqual([0, true]);
  });

  test("of a caller's own is refused, and left alive", { timeout: 60_000 }, async () => {
    const { device } = await gpuOf({ shader: 'conv2d', tensor: 'dweight' });
    await expect(FaceNetGPU.create({ model, device: device.device })).rejects.toMatchObject({ code: 'device' });
    expect([device.live, device.destroyed]).toEqual([0, false]);
    device.device.destroy();
  });
});
