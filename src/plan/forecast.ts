import type { Backend } from './runner.ts';
import type { DeviceBuffer } from './step.ts';

/**
 * The backend as planning sees it: its limits and kernels, but nothing is allocated, compiled or run. `Store` and `Plan` on it say what memory they
 * would take: `Plan.bytes`, and what `bytes` of the result counts in all.
 */
export function forecasting(backend: Backend): { readonly backend: Backend; readonly bytes: () => number } {
  let bytes = 0;
  const { name, description, families, zeroBlock, threadScratch, maxBufferBytes } = backend;
  const dry: Backend = {
    name,
    description,
    families,
    zeroBlock,
    threadScratch,
    maxBufferBytes,
    allocate(size, label) {
      bytes += size;
      return { bytes: size, label } as DeviceBuffer;
    },
    free(buffer) {
      bytes -= buffer.bytes;
    },
    write() {},
    prepare: async (steps) => ({ steps, dispose() {} }),
    run: async () => [],
    profile: async () => ({ milliseconds: [], timing: 'wall' }),
    counters: () => ({ buffers: 0, bytes, programs: 0, pipelines: 0, workers: 0 }),
    dispose: async () => {},
  };
  return { backend: dry, bytes: () => bytes };
}
