import type { Backend } from './runner.ts';
import type { DeviceBuffer } from './step.ts';

/**
 * The backend as planning sees it: its limits and kernels, but nothing is allocated, compiled or run. `Store` and `Plan` on it say what memory they
 * would take: `Plan.bytes`, and what `bytes` of the result counts in all: tensors, what programs need besides, and what is kept for reading results
 * back (after `run`, whose results are zeros). The device's buffers after a plan's first full run add up to this exactly.
 */
export function forecasting(backend: Backend): { readonly backend: Backend; readonly bytes: () => number } {
  let bytes = 0;
  let readback = 0;
  const { name, description, families, footprint, zeroBlock, threadScratch, maxBufferBytes } = backend;
  const dry: Backend = {
    name,
    description,
    families,
    zeroBlock,
    threadScratch,
    maxBufferBytes,
    allocate(size, label) {
      const taken = footprint?.buffer(size) ?? size;
      bytes += taken;
      return { bytes: taken, label } as DeviceBuffer;
    },
    free(buffer) {
      bytes -= buffer.bytes;
    },
    write() {},
    async prepare(steps) {
      const taken = footprint?.program(steps.length) ?? 0;
      bytes += taken;
      return { steps, dispose: () => void (bytes -= taken) };
    },
    async run(_, reads) {
      readback = Math.max(readback, footprint?.readback(reads) ?? 0);
      return reads.map((read) => new Uint8Array(read.bytes));
    },
    profile: async () => ({ milliseconds: [], timing: 'wall' }),
    counters: () => ({ buffers: 0, bytes, programs: 0, pipelines: 0, workers: 0 }),
    dispose: async () => {},
  };
  return { backend: dry, bytes: () => bytes + readback };
}
