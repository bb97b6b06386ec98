// Reliability R26 in a page: a model that arrives broken is refused with its reason and never kept; a whole one is kept, and works offline.
// area: browser
import type { FaceNetGPU as Class } from '../src/index.ts';
import type { DownloadServer } from './downloads.node.ts';
import { Checks, type PageReport, rejectsWith } from './page-report.ts';

/** Everything in the Cache API. */
async function kept(): Promise<number> {
  let entries = 0;
  for (const name of await caches.keys()) entries += (await (await caches.open(name)).keys()).length;
  return entries;
}

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU } = (await import(/* @vite-ignore */ library)) as { FaceNetGPU: typeof Class };
  const { origin, sha256 } = (await (await fetch('/expected.json')).json()) as DownloadServer;
  const create = (path: string, hash = sha256) =>
    FaceNetGPU.create({ model: `${origin}${path}`, sha256: hash, backend: 'wasm', threads: 1, batchSize: 1 });

  for (const path of ['/page', '/missing', '/zeros', '/gzip', '/nothing', '/half', '/almost'])
    await checks.check(`${path}: 'model', and nothing is kept`, async () => {
      const refused = await rejectsWith('model', () => create(path));
      return refused === true ? (await kept()) === 0 || `${await kept()} kept` : refused;
    });
  await checks.check("a wrong hash: 'model', and nothing is kept", async () => {
    const refused = await rejectsWith('model', () => create('/good', '0'.repeat(64)));
    return refused === true ? (await kept()) === 0 || `${await kept()} kept` : refused;
  });
  await checks.check('cut off, then whole: the next try works', async () => {
    const refused = await rejectsWith('model', () => create('/flaky'));
    if (refused !== true) return refused;
    await (await create('/flaky')).dispose();
    return true;
  });
  await checks.check('progress in bytes, up to the whole', async () => {
    let [last, total] = [0, 0];
    const net = await FaceNetGPU.create({
      model: `${origin}/watched`,
      sha256,
      backend: 'wasm',
      threads: 1,
      batchSize: 1,
      onProgress: (progress) => {
        if (progress.phase === 'download') [last, total] = [progress.done, progress.total ?? 0];
      },
    });
    await net.dispose();
    return (last === total && total > 5e6) || `${last} of ${total}`;
  });
  await checks.check('offline afterwards, from what is kept', async () => {
    await (await create('/good')).dispose();
    await fetch(`${origin}/gone`).catch(() => {});
    const unreachable = await fetch(`${origin}/good`).then(
      () => 'still there',
      () => true,
    );
    if (unreachable !== true) return unreachable;
    await (await create('/good')).dispose();
    return true;
  });
  await checks.check('what is kept is checked as well', async () => {
    const [name = ''] = await caches.keys();
    const cache = await caches.open(name);
    for (const request of await cache.keys()) await cache.put(request, new Response(new Uint8Array(1000)));
    return rejectsWith('model', () => create('/good'));
  });
  return checks.report;
}
