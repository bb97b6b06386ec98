// area: operators
// on: none lavapipe swiftshader
//
// A device that computes wrongly is refused, and the operator named; every device of this machine is accepted.
import { describe, expect, test } from 'vitest';
import { checkAnswers } from '../src/backends/known-answers.ts';
import { FaceNetGPU } from '../src/node.ts';
import { backends, openDevice, title } from './backends.ts';
import { FaultDevice, type FaultOptions } from './fault-device.ts';

const onGpu = (process.env.FACENET_ADAPTER ?? 'none') !== 'none';

test('every backend of this machine gives the known answers, and keeps nothing', { timeout: 60_000 }, async () => {
  for (const backend of await backends()) {
    const before = backend.counters();
    await expect(checkAnswers(backend), title(backend)).resolves.toBeUndefined();
    expect({ ...backend.counters(), pipelines: 0 }).toEqual({ ...before, pipelines: 0 });
    await backend.dispose();
  }
});

/** Operator, and where zeros come from: gradients were zero on the phone of tfjs #8590. */
const faults = [
  ['conv2d.forward', { shader: 'conv2d', tensor: 'y' }],
  ['l2Normalize.forward', { shader: 'l2Normalize', tensor: 'y' }],
  ['conv2d.inputGradient', { shader: 'conv2d', kernel: 'packGradientWeight', tensor: 'packed' }],
] as const;

async function gpuOf(zeros: NonNullable<FaultOptions['zeros']>): Promise<{ gpu: GPU; device: FaultDevice }> {
  const opened = (await openDevice())!;
  const device = new FaultDevice(opened.device, { zeros });
  const { info, features, limits } = opened.adapter;
  const adapter = { info, features, limits, requestDevice: async () => device.device } as unknown as GPUAdapter;
  return { gpu: { requestAdapter: async () => adapter } as unknown as GPU, device };
}

const model = { network: 'nn4.small2', seed: 1, size: 16 } as const;

describe.runIf(onGpu)('a device that gives zeros', () => {
  test.each(faults)('for %s is refused by name', { timeout: 60_000 }, async (operator, zeros) => {
    const { gpu, device } = await gpuOf(zeros);
    await expect(FaceNetGPU.create({ model, backend: 'webgpu', gpu })).rejects.toMatchObject({
      code: 'device',
      message: expect.stringMatching(
        new RegExp(`${operator.replace('.', '\\.')} must give -?\\d+(\\.\\d+)? where the answer is known, got -?0\\. `),
      ),
    });
    expect([device.live, device.destroyed]).toEqual([0, true]);
  });

  test("of a caller's own is refused, and left alive", { timeout: 60_000 }, async () => {
    const { device } = await gpuOf(faults[0][1]);
    await expect(FaceNetGPU.create({ model, device: device.device })).rejects.toMatchObject({ code: 'device' });
    expect([device.live, device.destroyed]).toEqual([0, false]);
    device.device.destroy();
  });
});
