// From nothing to the first embedding: loading the library, making the object, embedding one face. Each row in fresh processes (Node) or fresh
// browser profiles (Chromium), whose first object is "cold"; "warm" is a second object in the same process or page. For pages, also what
// was fetched until the first embedding, each file gzipped by itself, without model files.
//
//   node build.mjs run bench/first-result.ts [PEERS [HUMAN]]
//
// PEERS: folder of a harness with node_modules (onnxruntime-web, @tensorflow/tfjs*), adapters/ort-web.mjs and tfjs.mjs (make(opts) with
// load(folder) and run({ data, shape }), 1 x 96 x 96 x 3 in the adapter's `layout`) and models/nn4small2. HUMAN: folder whose node_modules
// hold @vladmandic/human, which cannot embed without detecting: its row is detection and its own network, faceres.
// All others compute nn4.small2, random weights. REPEAT (default 3), ROWS (text in the names).
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { median } from './rounds.ts';

interface Row {
  readonly name: string;
  readonly where: 'node' | 'chromium';
  /** What computes: ours, a peer by its adapter, or human. */
  readonly by: 'ours' | 'ort-web' | 'tfjs' | 'human';
  readonly opts: Readonly<Record<string, unknown>>;
  readonly driver?: 'lavapipe' | 'swiftshader';
}

interface Found {
  readonly cold: number;
  readonly warm: number;
  readonly kilobytes?: number;
}

type Made = { create(): Promise<void>; embed(): Promise<number>; drop(): Promise<void> };

const root = process.cwd();
const kept = join(root, '.cache', 'bench', 'nn4.small2.safetensors');
const [, program = '', ...args] = process.argv;

const rows: readonly Row[] = [
  { name: 'ours, wasm', where: 'node', by: 'ours', opts: { backend: 'wasm', threads: 1 } },
  { name: 'onnxruntime-web, wasm', where: 'node', by: 'ort-web', opts: { threads: 1 } },
  { name: 'tfjs, wasm', where: 'node', by: 'tfjs', opts: { threads: 1 } },
  { name: 'ours, lavapipe', where: 'node', by: 'ours', opts: { backend: 'webgpu' }, driver: 'lavapipe' },
  { name: 'ours, SwiftShader', where: 'node', by: 'ours', opts: { backend: 'webgpu' }, driver: 'swiftshader' },
  { name: 'ours, wasm', where: 'chromium', by: 'ours', opts: { backend: 'wasm', threads: 1 } },
  { name: 'onnxruntime-web, wasm', where: 'chromium', by: 'ort-web', opts: { threads: 1 } },
  { name: 'tfjs, wasm', where: 'chromium', by: 'tfjs', opts: { threads: 1 } },
  { name: 'human, wasm (detects too)', where: 'chromium', by: 'human', opts: {} },
  { name: 'ours, SwiftShader', where: 'chromium', by: 'ours', opts: { backend: 'webgpu' } },
  { name: 'onnxruntime-web, SwiftShader', where: 'chromium', by: 'ort-web', opts: { ep: 'webgpu' } },
  { name: 'tfjs, SwiftShader', where: 'chromium', by: 'tfjs', opts: { backend: 'webgpu' } },
];

/** Source of a module of both places: contestants by name. `at` turns a name into what import() takes. */
const contestants = `
const pixels = Uint8Array.from({ length: 96 * 96 * 3 }, (_, i) => (i * 37) & 255);
const flat = (layout) => Float32Array.from(pixels, (_, i) =>
  pixels[layout === 'NCHW' ? (i % 9216) * 3 + Math.floor(i / 9216) : i] / 255);
export const contestants = {
  async ours(at, opts) {
    const { FaceNetGPU } = await import(at.ours);
    let net;
    return {
      create: async () => { net = await FaceNetGPU.create({ ...opts, model: at.model }); },
      embed: async () => (await net.embed({ data: pixels, width: 96, height: 96 })).data.length,
      drop: () => net.dispose(),
    };
  },
  async peer(at, opts) {
    const { default: make, layout } = await import(at.adapter);
    let one;
    return {
      create: async () => { one = make(opts); await one.init(); await one.load(at.network); },
      embed: async () => (await one.run({ data: flat(layout), shape: layout === 'NCHW' ? [1, 3, 96, 96] : [1, 96, 96, 3] })).length,
      drop: () => one.unload(),
    };
  },
  async human(at) {
    const { default: Human } = await import(at.human);
    const off = { enabled: false };
    const photo = new Image();
    photo.src = at.photo;
    await photo.decode();
    let human;
    return {
      create: async () => {
        human = new Human({
          backend: 'wasm', wasmPath: at.wasm, modelBasePath: at.models, cacheSensitivity: 0, warmup: 'none',
          filter: off, gesture: off, body: off, hand: off, object: off, segmentation: off,
          face: { enabled: true, mesh: off, iris: off, emotion: off, antispoof: off, liveness: off, detector: { maxDetected: 1 }, description: { enabled: true } },
        });
        await human.load();
      },
      embed: async () => (await human.detect(photo)).face[0].embedding.length,
      drop: async () => {},
    };
  },
};
export async function twice(make) {
  const start = performance.now();
  const made = await make();
  const times = [];
  for (const from of [start, undefined]) {
    const begin = from ?? performance.now();
    await made.create();
    if (!((await made.embed()) > 0)) throw new Error('no embedding');
    times.push(performance.now() - begin);
    await made.drop();
  }
  return times;
}
`;

/** Names as a Node program knows them. */
const inNode = ({ by }: Row, peers: string) => ({
  ours: pathToFileURL(join(root, 'dist', 'facenet-gpu.node.js')).href,
  model: kept,
  adapter: pathToFileURL(join(peers, 'adapters', `${by}.mjs`)).href,
  network: join(peers, 'models', 'nn4small2'),
});

async function measureInNode(row: Row, peers: string): Promise<Found> {
  const shaders = mkdtempSync(join(tmpdir(), 'facenet-gpu-shaders-'));
  const manifest = row.driver && process.env[`${row.driver.toUpperCase()}_ICD`];
  const environment = {
    ...process.env,
    MESA_SHADER_CACHE_DIR: shaders,
    ...(manifest && { VK_ICD_FILENAMES: manifest, VK_DRIVER_FILES: manifest }),
  };
  try {
    const { stdout, stderr, status } = spawnSync(process.execPath, [program, 'child', JSON.stringify(row), peers], {
      encoding: 'utf8',
      env: environment,
    });
    if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1));
    const [cold, warm] = JSON.parse(stdout.trim().split('\n').at(-1) as string) as [number, number];
    return { cold, warm };
  } finally {
    rmSync(shaders, { recursive: true });
  }
}

/** Serves the project, the peers' folder and human's beside each other, and adds up what is fetched. */
async function serve(peers: string, human: string) {
  const places: Record<string, string> = {
    '/ours/': `${root}/dist/`,
    '/human/': join(human, 'node_modules/@vladmandic/human/'),
    '/photos/': join(root, 'node_modules/@vladmandic/face-api/demo/'),
    '/kept/': join(root, '.cache/bench/'),
    '/models/': join(peers, 'models/'),
    '/node_modules/': join(peers, 'node_modules/'),
  };
  const bundles = new Map<string, Uint8Array>();
  const fetched = new Map<string, number>();
  const types: Record<string, string> = { '.wasm': 'application/wasm', '.json': 'application/json' };
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    if (path === '/') {
      response.setHeader('Content-Type', 'text/html');
      response.end('<!doctype html><title>first result</title>');
      return;
    }
    const place = Object.keys(places).find((start) => path.startsWith(start)) ?? '';
    const file = places[place] && join(places[place] as string, path.slice(place.length));
    const bytes = bundles.get(path) ?? (file && existsSync(file) && statSync(file).isFile() && readFileSync(file));
    if (!bytes) {
      response.statusCode = 404;
      response.end();
      return;
    }
    const code = ['.js', '.mjs'].includes(extname(path));
    if (path !== '/contestants.js' && (code || path.endsWith('.wasm'))) fetched.set(path, gzipSync(bytes).length);
    response.setHeader('Content-Type', code ? 'text/javascript' : (types[extname(path)] ?? 'application/octet-stream'));
    response.end(bytes);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, origin, bundles, fetched };
}

async function measureInChromium(row: Row, { origin, fetched }: Awaited<ReturnType<typeof serve>>): Promise<Found> {
  const { chromium } = await import('playwright-core');
  const { findChromium } = (await import(pathToFileURL(join(root, 'test/machine.mjs')).href)) as {
    findChromium(): string | null;
  };
  const { chromiumArguments } = (await import(pathToFileURL(join(root, 'test/browser.mjs')).href)) as {
    chromiumArguments: string[];
  };
  const profile = mkdtempSync(join(tmpdir(), 'facenet-gpu-first-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: findChromium() as string,
    headless: true,
    args: chromiumArguments,
  });
  try {
    const page = await context.newPage();
    await page.goto(origin);
    fetched.clear();
    const at = {
      ours: '/ours/facenet-gpu.js',
      model: '/kept/nn4.small2.safetensors',
      adapter: `/adapter-${row.by}.js`,
      network: '/models/nn4small2',
      human: '/human/dist/human.esm.js',
      photo: '/photos/sample1.jpg',
      models: '/human/models/',
      wasm: '/node_modules/@tensorflow/tfjs-backend-wasm/dist/',
    };
    const [cold, warm] = (await page.evaluate(
      async ([by, names, opts]) => {
        const own = '/contestants.js';
        const { contestants: all, twice } = await import(own);
        return twice(() => (by === 'ours' || by === 'human' ? all[by](names, opts) : all.peer(names, opts)));
      },
      [row.by, at, row.opts] as const,
    )) as [number, number];
    return { cold, warm, kilobytes: [...fetched.values()].reduce((sum, bytes) => sum + bytes, 0) / 1000 };
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The adapter of a peer for pages, minified. */
async function bundle(peers: string, by: string): Promise<Uint8Array> {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    entryPoints: [join(peers, 'adapters', `${by}.mjs`)],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    external: ['node:*', 'webgpu', 'fs', 'path', 'url'],
    write: false,
    logLevel: 'error',
  });
  return outputFiles[0]?.contents as Uint8Array;
}

async function child(row: Row, peers: string): Promise<void> {
  const { contestants: all, twice } = (await import(
    `data:text/javascript,${encodeURIComponent(contestants)}`
  )) as unknown as {
    contestants: Record<string, (at: object, opts: object) => Promise<Made>>;
    twice(make: () => Promise<Made>): Promise<number[]>;
  };
  const make = all[row.by === 'ours' ? 'ours' : 'peer'] as (typeof all)[string];
  console.log(JSON.stringify(await twice(() => make(inNode(row, peers), row.opts))));
  process.exit(0);
}

async function main(): Promise<void> {
  const [peers = '', human = ''] = args.map((folder) => resolve(folder));
  if (!existsSync(kept)) {
    const { FaceNetGPU } = (await import(inNode(rows[0] as Row, peers).ours)) as typeof import('../src/node.ts');
    const net = await FaceNetGPU.create({ model: { network: 'nn4.small2', seed: 1 }, backend: 'wasm', threads: 1 });
    mkdirSync(join(root, '.cache', 'bench'), { recursive: true });
    writeFileSync(kept, await net.save());
    await net.dispose();
  }
  const site = await serve(peers, human);
  site.bundles.set('/contestants.js', new TextEncoder().encode(contestants));
  const wanted = rows.filter(
    ({ name, where, by }) =>
      `${where} ${name}`.includes(process.env.ROWS ?? '') && (by === 'ours' || (by === 'human' ? human : peers)),
  );
  for (const { by } of wanted)
    if (by === 'ort-web' || by === 'tfjs') site.bundles.set(`/adapter-${by}.js`, await bundle(peers, by));
  const found = new Map<Row, Found[]>(wanted.map((row) => [row, []]));
  for (let round = 0; round < Number(process.env.REPEAT ?? 3); round++)
    for (const row of wanted)
      try {
        found.get(row)?.push(await (row.where === 'node' ? measureInNode(row, peers) : measureInChromium(row, site)));
      } catch (error) {
        console.error(`${row.where} ${row.name}: ${(error as Error).message.split('\n')[0]}`);
      }
  site.server.close();
  const middle = (values: readonly number[]) => (values.length === 0 ? '-' : Math.round(median(values)));
  console.log('| runtime | library | cold, ms | warm, ms | code until then, kB gzipped |\n|---|---|---:|---:|---:|');
  for (const [{ name, where }, times] of found) {
    const kilobytes = times[0]?.kilobytes;
    console.log(
      `| ${where === 'node' ? 'Node' : 'Chromium'} | ${name} | ${middle(times.map(({ cold }) => cold))} | ${middle(times.map(({ warm }) => warm))} | ${kilobytes === undefined ? '' : Math.round(kilobytes)} |`,
    );
  }
}

if (args[0] === 'child') await child(JSON.parse(args[1] as string) as Row, args[2] as string);
else await main();
