// The roofline of this very machine: the most multiply-adds and the most bytes a second that kernels of ours reach in the same sandbox as the
// library's (bench/ceilings/). What a kernel gives is then told as a share of what it could.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { WebGpuBackend } from '../src/backends/webgpu/webgpu-backend.ts';
import type { Backend } from '../src/plan/runner.ts';
import { ceilingsOf } from './ceilings/device.ts';
import type { Ceilings } from './shaders/report.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Larger than the last cache of most processors. */
const COPIED = 128 * 1024 * 1024;
const TRIES = 5;

/** Measures what `backend` computes on, with as many threads. */
export function measureCeilings(backend: Backend, threads: number, relaxed: boolean): Promise<Ceilings> {
  return backend instanceof WebGpuBackend ? ceilingsOf(backend.device) : onProcessor(threads, relaxed);
}

const program = `
const { parentPort, workerData: { bytes, copied, tries } } = require('node:worker_threads');
const memory = new WebAssembly.Memory({ initial: Math.ceil((2 * copied) / 65536) + 1, maximum: 65536 });
const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory, abort() { throw new Error('abort'); } } });
const { multiplyAdds, copy } = instance.exports;
const rounds = 200000;
const rate = (work, run) => {
  let most = 0;
  for (let i = 0; i < tries; i++) { const start = performance.now(); run(); most = Math.max(most, work / (performance.now() - start) / 1e6); }
  return most;
};
parentPort.on('message', () => {
  multiplyAdds(rounds, 0.5);
  const gflops = rate(rounds * 96 * 4 * 2, () => multiplyAdds(rounds, 0.5));
  copy(65536, 65536 + copied, copied);
  parentPort.postMessage({ gflops, gigabytes: rate(2 * copied, () => copy(65536, 65536 + copied, copied)) });
});
`;

async function onProcessor(threads: number, relaxed: boolean): Promise<Ceilings> {
  const folder = join(root, '.cache', 'bench');
  mkdirSync(folder, { recursive: true });
  const output = join(folder, `peak-${relaxed ? 'relaxed' : 'plain'}.wasm`);
  const features = relaxed ? 'simd,relaxed-simd' : 'simd';
  const compiler = join(root, 'node_modules', 'assemblyscript', 'bin', 'asc.js');
  const flags = ['-O3', '--runtime', 'stub', '--noAssert', '--importMemory', '--enable', features, '--outFile', output];
  const made = spawnSync(process.execPath, [compiler, join(root, 'bench/ceilings/peak.as.ts'), ...flags], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`ceilings: peak.as.ts must compile, got: ${made.stderr}`);
  const workerData = { bytes: readFileSync(output), copied: COPIED / threads, tries: TRIES };
  const workers = Array.from({ length: threads }, () => new Worker(program, { eval: true, workerData }));
  // All at once: threads share memory and, where they are siblings, the units that compute.
  const measured = await Promise.all(
    workers.map(
      (worker) =>
        new Promise<Ceilings>((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
          worker.postMessage('measure');
        }),
    ),
  );
  await Promise.all(workers.map((worker) => worker.terminate()));
  return {
    gflops: measured.reduce((sum, { gflops }) => sum + gflops, 0),
    gigabytes: measured.reduce((sum, { gigabytes }) => sum + gigabytes, 0),
  };
}
