// A page without COOP and COEP: no shared memory, so one thread, and `.why` says what is missing. The bits stay the same.
// area: browser
// isolation: none
import type { FaceNetGPU as Class } from '../src/index.ts';
import { Checks, type PageReport, sameBits } from './page-report.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU } = (await import(/* @vite-ignore */ library)) as { FaceNetGPU: typeof Class };
  await checks.check('the page is not isolated', () => crossOriginIsolated === false);
  const model = { network: 'nn4.small2', seed: 1 } as const;
  const data = Uint8Array.from({ length: 96 * 96 * 3 }, (_, i) => (i * 37 + (i >> 4)) & 255);
  const pixels = { data, width: 96, height: 96 };
  const net = await FaceNetGPU.create({ model, backend: 'wasm', threads: 4, batchSize: 1 });
  await checks.check(
    'one thread, and why',
    () =>
      /1 thread;.*on the page's own thread;.*not cross-origin isolated.*Cross-Origin-Opener-Policy/.test(net.why) ||
      net.why,
  );
  await checks.check('no worker', () => net.counters().workers === 0 || net.counters().workers);
  await checks.check('a unit vector, twice the same', async () => {
    const first = (await net.embed(pixels)).data;
    const length = Math.hypot(...first);
    return Math.abs(length - 1) < 1e-5 ? sameBits(first, (await net.embed(pixels)).data) : length;
  });
  await checks.check('probe says one thread', async () => {
    const { wasm } = await FaceNetGPU.probe();
    return (wasm.threads === 1 && /isolated/.test(wasm.why)) || JSON.stringify(wasm);
  });
  await net.dispose();
  return checks.report;
}
