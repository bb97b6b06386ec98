// Milliseconds of distances, selection, loss and gradient of a batch of 1,800 embeddings of 128 numbers (45 people x 40), by kernel.
//
//   node build.mjs run bench/mining.ts [--backend wasm|webgpu] [--threads N] [--miner semi-hard] [--runs 5] [--chromium]
//
// Medians over runs, from the backend's own times of every kernel; the machine should do nothing else. VK_ICD_FILENAMES chooses Node's adapter;
// --chromium runs it in a page, on WebGPU.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { openBackend } from '../src/backends/open.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import type { SelectionRule } from '../src/ops/tripletSelection.ts';
import { miningTimes } from './mining-times.ts';

const { values: flags } = parseArgs({
  options: {
    backend: { type: 'string', default: 'wasm' },
    threads: { type: 'string', default: '2' },
    miner: { type: 'string', default: 'semi-hard' },
    runs: { type: 'string', default: '5' },
    chromium: { type: 'boolean', default: false },
  },
});
const backend = flags.backend as 'wasm' | 'webgpu';
const [threads, runs, rule] = [Number(flags.threads), Number(flags.runs), flags.miner as SelectionRule];

if (flags.chromium && backend !== 'webgpu') throw new Error('mining: --chromium is for --backend webgpu.');

async function inNode(): Promise<string[]> {
  const opened = await openBackend(createNodeHost(), { backend, threads });
  try {
    return await miningTimes(opened, rule, runs);
  } finally {
    await opened.backend.dispose();
  }
}

async function inChromium(): Promise<string[]> {
  const root = process.cwd();
  const load = (file: string) => import(pathToFileURL(join(root, file)).href);
  const [{ bundleSource }, { chromiumArguments, serve }, { findChromium }, { chromium }] = await Promise.all([
    load('test/bundle.mjs'),
    load('test/browser.mjs'),
    load('test/machine.mjs'),
    import('playwright-core'),
  ]);
  const output = join(root, '.cache', 'programs', 'bench-mining-page.js');
  await bundleSource({ entry: join(root, 'bench', 'mining-page.ts'), output, platform: 'browser' });
  const server = await serve({
    '/': { type: 'text/html', body: '<!doctype html><title>mining</title>' },
    '/entry.js': { type: 'text/javascript', body: readFileSync(output) },
  });
  const browser = await chromium.launch({ executablePath: findChromium(), args: chromiumArguments });
  try {
    const page = await browser.newPage();
    await page.goto(`${server.origin}/`);
    const call = `import('/entry.js').then(({ run }) => run(...${JSON.stringify([rule, runs])}))`;
    return (await page.evaluate(call)) as string[];
  } finally {
    await browser.close();
    server.close();
  }
}

for (const line of await (flags.chromium ? inChromium() : inNode())) console.log(line);
