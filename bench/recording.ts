// What a run costs the calling thread: recording its dispatches and handing them over. Measured on the kernels, bind groups and buffers of a real
// plan, 150 dispatches of it, until the call returns; each launches one workgroup, so that a device in software does not take the processor
// meanwhile. Beside it the floor: as many calls on one pipeline and one bind group, which is what the bindings of WebGPU take.
import { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import type { Plan } from '../src/plan/plan.ts';
import type { Step } from '../src/plan/step.ts';
import { median } from './rounds.ts';

/** Milliseconds on the calling thread, medians. */
export interface Recording {
  readonly dispatches: number;
  /** Recorded and submitted by the library. */
  readonly milliseconds: number;
  /** As many setPipeline, setBindGroup and dispatchWorkgroups of one trivial kernel in one pass, and their submit. */
  readonly floor: number;
}

const DISPATCHES = 150;
const RUNS = 101;

/** Of a plan that has run; undefined on backends that record nothing. Its tensors hold other numbers afterwards. */
export async function recordingOf({ backend, steps }: Plan): Promise<Recording | undefined> {
  if (!(backend instanceof WebGpuBackend) || steps.length === 0) return undefined;
  const { device } = backend;
  const many = Array.from(
    { length: DISPATCHES },
    (_, index): Step => ({
      ...(steps[index % steps.length] as Step),
      launch: { workgroups: [1] },
    }),
  );
  const program = await backend.prepare(many);
  const trivial = device.createShaderModule({ code: '@compute @workgroup_size(1) fn main() {}' });
  const pipeline = await device.createComputePipelineAsync({
    layout: 'auto',
    compute: { module: trivial, entryPoint: 'main' },
  });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [] });
  const bare = async () => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let index = 0; index < DISPATCHES; index++) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(1);
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  };
  const timed = async (start: () => Promise<unknown>): Promise<number> => {
    const begin = performance.now();
    const started = start();
    const took = performance.now() - begin;
    await started;
    await device.queue.onSubmittedWorkDone();
    return took;
  };
  const [own, floor]: [number[], number[]] = [[], []];
  for (let run = 0; run < RUNS; run++) {
    own.push(await timed(() => backend.run([{ program }], [])));
    floor.push(await timed(bare));
  }
  program.dispose();
  return { dispatches: DISPATCHES, milliseconds: median(own), floor: median(floor) };
}
