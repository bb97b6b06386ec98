// The ceilings of a GPU, by kernels of ours (peak.wgsl). The same in Node and in a page.
import type { Ceilings } from '../shaders/report.ts';
import peak from './peak.wgsl';

/** Bytes copied: larger than the last cache of most processors. */
const COPIED = 128 * 1024 * 1024;
const TRIES = 5;

/** Measures with the device otherwise idle. */
export async function ceilingsOf(device: GPUDevice): Promise<Ceilings> {
  const module = device.createShaderModule({ code: peak });
  const software = /swiftshader|llvmpipe|lavapipe/i.test(
    `${device.adapterInfo?.architecture} ${device.adapterInfo?.description}`,
  );
  const bytes = Math.min(device.limits.maxStorageBufferBindingSize, software ? COPIED / 2 : COPIED * 2);
  const storage = 0x80;
  const buffers = [0, 1].map(() => device.createBuffer({ size: bytes, usage: storage }));
  const params = device.createBuffer({ size: 16, usage: 0x40 | 0x8 });
  const measure = async (entryPoint: string, rounds: number, groups: number): Promise<number> => {
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint } });
    const used = entryPoint === 'copy' ? [0, 1, 2] : [0, 2];
    const entries = used.map((binding) => ({
      binding,
      resource: { buffer: binding === 0 ? params : (buffers[binding - 1] as GPUBuffer) },
    }));
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    const numbers = new Uint32Array([rounds, bytes / 16, 0, 0]);
    new Float32Array(numbers.buffer)[2] = 0.5;
    device.queue.writeBuffer(params, 0, numbers);
    const run = async () => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(groups);
      pass.end();
      const start = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - start;
    };
    await run();
    const times: number[] = [];
    for (let i = 0; i < TRIES; i++) times.push(await run());
    return Math.min(...times);
  };
  const [rounds, groups] = software ? [2000, 256] : [4000, 16384];
  const computed = await measure('multiplyAdds', rounds, groups);
  const copied = await measure('copy', 0, software ? 256 : 65535);
  for (const buffer of [...buffers, params]) buffer.destroy();
  return {
    gflops: (groups * 64 * rounds * 8 * 4 * 2) / computed / 1e6,
    gigabytes: (2 * bytes) / copied / 1e6,
  };
}
