// Reliability R4: create, embed, dispose, again and again, in Node or in Chromium. Prints what is alive after cycle 10 and after the last one,
// and the growth of memory a cycle (least squares over all cycles after the first tenth).
//
//   node build.mjs run bench/cycles.ts [node|chromium] [wasm|webgpu] [CYCLES]       default: node wasm 1000; VK_ICD_FILENAMES chooses the adapter
//
// Fails where counters or active resources grow, where bits change, or where memory grows by 2 kB a cycle and more.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const [, , where = 'node', backend = 'wasm', count = '1000'] = process.argv;
const cycles = Number(count);
const root = process.cwd();

/** A cycle: what is alive afterwards as text, the bits of the embedding as text, and bytes in use. */
interface Cycle {
  readonly alive: string;
  readonly bits: string;
  readonly bytes: number;
}

/** Source of one cycle in both places; the object is small and its network random. */
const cycle = `async (FaceNetGPU, backend) => {
  const pixels = { data: Uint8Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 31) & 255), width: 32, height: 32 };
  const net = await FaceNetGPU.create({ model: { network: 'nn4.small2', seed: 1, size: 32 }, backend, threads: 2, batchSize: 1 });
  const { data } = await net.embed(pixels);
  await net.dispose();
  return { counters: JSON.stringify(net.counters()), bits: data.join() };
}`;

/** Bytes a cycle: slope of the line through the points. */
function slope(values: readonly number[]): number {
  const mean = (values.length - 1) / 2;
  const level = values.reduce((sum, value) => sum + value, 0) / values.length;
  const above = values.reduce((sum, value, i) => sum + (i - mean) * (value - level), 0);
  return above / values.reduce((sum, _, i) => sum + (i - mean) ** 2, 0);
}

async function inNode(): Promise<() => Promise<Cycle>> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const library = pathToFileURL(join(root, 'dist', 'facenet-gpu.node.js')).href;
  const { FaceNetGPU } = (await import(library)) as { FaceNetGPU: unknown };
  const run = runInNewContext(`(${cycle})`, { Uint8Array, JSON }) as (
    ...args: unknown[]
  ) => Promise<{ counters: string; bits: string }>;
  return async () => {
    const { counters, bits } = await run(FaceNetGPU, backend);
    collect();
    await new Promise((done) => setTimeout(done, 0));
    const resources = process
      .getActiveResourcesInfo()
      .filter((name) => !/Timeout|TTY|Pipe|FSReq|Immediate/.test(name)).length;
    const files = existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0;
    return { alive: `${counters}, ${resources} resources, ${files} files`, bits, bytes: process.memoryUsage().rss };
  };
}

async function inChromium(): Promise<{ next: () => Promise<Cycle>; close: () => Promise<void> }> {
  const { chromium } = await import('playwright-core');
  const { findChromium } = (await import(pathToFileURL(join(root, 'test/machine.mjs')).href)) as {
    findChromium(): string | null;
  };
  const { chromiumArguments, serve } = (await import(pathToFileURL(join(root, 'test/browser.mjs')).href)) as {
    chromiumArguments: string[];
    serve(extra: object): Promise<{ origin: string; close(): Promise<void> }>;
  };
  const { origin, close } = await serve({ '/': { type: 'text/html', body: '<!doctype html><title>cycles</title>' } });
  const profile = mkdtempSync(join(tmpdir(), 'facenet-gpu-cycles-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: findChromium() as string,
    headless: true,
    args: chromiumArguments,
  });
  const page = await context.newPage();
  await page.goto(`${origin}/`);
  const session = await context.newCDPSession(page);
  const browser = await context.browser()?.newBrowserCDPSession();
  await session.send('Performance.enable');
  const next = async (): Promise<Cycle> => {
    const { counters, bits } = (await page.evaluate(
      `(async () => (${cycle})((await import('/dist/facenet-gpu.js')).FaceNetGPU, ${JSON.stringify(backend)}))()`,
    )) as { counters: string; bits: string };
    await session.send('HeapProfiler.collectGarbage');
    const { metrics } = await session.send('Performance.getMetrics');
    const metric = (name: string) => metrics.find((one) => one.name === name)?.value ?? Number.NaN;
    // All processes of the browser: linear memories and GPU buffers are outside of the page's heap.
    const { processInfo } = (await (browser as NonNullable<typeof browser>).send('SystemInfo.getProcessInfo')) as {
      processInfo: { id: number }[];
    };
    const resident = processInfo.reduce((sum, { id }) => {
      const status = existsSync(`/proc/${id}/status`) ? readFileSync(`/proc/${id}/status`, 'utf8') : '';
      return sum + 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    }, 0);
    const alive = `${counters}, ${metric('JSEventListeners')} listeners, ${metric('Nodes')} nodes, ${page.workers().length} workers`;
    return { alive, bits, bytes: resident };
  };
  return {
    next,
    close: async () => {
      await context.close();
      await close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

const chromium = where === 'chromium' ? await inChromium() : undefined;
const next = chromium?.next ?? (await inNode());
const found: Cycle[] = [];
const start = performance.now();
for (let i = 0; i < cycles; i++) found.push(await next());
const seconds = (performance.now() - start) / 1000;
await chromium?.close();
const tenth = found[Math.min(9, cycles - 1)] as Cycle;
const last = found.at(-1) as Cycle;
const growth = slope(found.slice(Math.max(1, Math.floor(cycles / 10))).map(({ bytes }) => bytes));
const megabytes = ({ bytes }: Cycle) => `${(bytes / 1e6).toFixed(1)} MB`;
console.log(`${where}, ${backend}: ${cycles} cycles in ${seconds.toFixed(0)} s`);
console.log(`after cycle 10: ${tenth.alive}; ${megabytes(tenth)}`);
console.log(`after the last: ${last.alive}; ${megabytes(last)}; ${(growth / 1000).toFixed(2)} kB a cycle`);
const same = tenth.alive === last.alive && found.every(({ bits }) => bits === tenth.bits);
if (!same || growth >= 2000) {
  console.error(same ? 'memory grows' : 'what is alive, or the bits, changed');
  process.exitCode = 1;
}
