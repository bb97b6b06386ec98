// area: browser
//
// The package in projects of users: bare, and through Vite, webpack 5 and esbuild, each loaded in headless Chromium under a strict content
// security policy, isolated or not; and imported where there is no browser at all.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build as esbuild } from 'esbuild';
import type { BrowserContext } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findChromium } from './machine.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-bundlers-'));
const dist = join(root, 'dist');
const photos = join(root, 'node_modules', '@vladmandic', 'face-api', 'demo');
const chromiumPath = findChromium() as string | null;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a user writes; the result lies where the test finds it. */
const program = (from: string): string => `import { FaceNetGPU } from '${from}';
(async () => {
  const net = await FaceNetGPU.create({ model: 'dlib-resnet', threads: 2 });
  const { same, distance } = await net.verify(
    { image: 'ada.jpg', landmarks: [[444, 454], [517, 459]] },
    { image: 'eve.jpg', landmarks: [[636, 432], [726, 434]] },
  );
  globalThis.answer = { same, distance, why: net.why };
  await net.dispose();
})().catch((error) => { globalThis.answer = { error: String(error.stack) }; });
`;

/** A project of a user with the package installed, and where its page is to go. */
function project(name: string): { home: string; output: string } {
  const home = join(folder, name);
  const output = join(home, 'out');
  mkdirSync(join(home, 'node_modules'), { recursive: true });
  mkdirSync(output);
  symlinkSync(root, join(home, 'node_modules', 'facenet-gpu'), 'junction');
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name, type: 'module', private: true }));
  writeFileSync(join(home, 'app.js'), program('facenet-gpu'));
  return { home, output };
}

function page(output: string, script: string): void {
  writeFileSync(
    join(output, 'index.html'),
    `<!doctype html><title>x</title><script type="module" src="${script}"></script>`,
  );
  cpSync(join(photos, 'sample1.jpg'), join(output, 'ada.jpg'));
  cpSync(join(photos, 'sample3.jpg'), join(output, 'eve.jpg'));
}

/** Files of dist/ that a page may fetch: what the README tells users of esbuild to copy. */
function copyAssets(output: string): void {
  for (const name of readdirSync(dist))
    if (/\.wasm$|^(thread|worker-service|chunk-browser-.*)\.js$/.test(name))
      cpSync(join(dist, name), join(output, name));
  cpSync(join(dist, 'models', 'dlib-resnet.safetensors'), join(output, 'models', 'dlib-resnet.safetensors'));
}

const builders: Record<string, () => Promise<string>> = {
  async bare() {
    const { output } = project('bare');
    cpSync(dist, join(output, 'dist'), { recursive: true, filter: (path) => !/\.node\.js$|types/.test(path) });
    writeFileSync(join(output, 'app.js'), program('./dist/facenet-gpu.js'));
    page(output, './app.js');
    return output;
  },
  async esbuild() {
    const { home, output } = project('esbuild');
    await esbuild({
      absWorkingDir: home,
      entryPoints: ['app.js'],
      outdir: 'out',
      bundle: true,
      format: 'esm',
      splitting: true,
      logLevel: 'error',
    });
    copyAssets(output);
    page(output, './app.js');
    return output;
  },
  async vite() {
    const { home } = project('vite');
    const { build } = await import('vite');
    writeFileSync(
      join(home, 'index.html'),
      '<!doctype html><title>x</title><script type="module" src="./app.js"></script>',
    );
    await build({
      root: home,
      configFile: false,
      logLevel: 'error',
      worker: { format: 'es' },
      build: { outDir: 'built', target: 'es2022', modulePreload: { polyfill: false } },
    });
    const output = join(home, 'built');
    cpSync(join(photos, 'sample1.jpg'), join(output, 'ada.jpg'));
    cpSync(join(photos, 'sample3.jpg'), join(output, 'eve.jpg'));
    return output;
  },
  async webpack() {
    const { home, output } = project('webpack');
    const webpack = createRequire(import.meta.url)('webpack') as typeof import('webpack');
    const stats = await new Promise<{ hasErrors(): boolean; toString(): string }>((resolve, reject) => {
      webpack(
        {
          context: home,
          entry: './app.js',
          mode: 'production',
          target: 'web',
          optimization: { minimize: false },
          performance: { hints: false },
          output: { path: output, filename: 'app.js', publicPath: 'auto' },
        },
        (error, found) => (found ? resolve(found) : reject(error)),
      );
    });
    expect(stats.hasErrors(), stats.toString()).toBe(false);
    page(output, './app.js');
    return output;
  },
};

const policy =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; worker-src 'self'; connect-src 'self'";
const types: Record<string, string> = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };

/** Serves a folder under the policy. */
async function serve(output: string, isolated: boolean): Promise<{ address: string; close(): void }> {
  const server = createServer((request, response) => {
    const path = join(output, new URL(request.url as string, 'http://x').pathname.replace(/\/$/, '/index.html'));
    response.setHeader('Content-Security-Policy', policy);
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) response.statusCode = 404;
    else response.setHeader('Content-Type', types[extname(path)] ?? 'application/octet-stream');
    response.end(response.statusCode === 404 ? 'not there' : readFileSync(path));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

describe.skipIf(chromiumPath === null)('a page (skipped loudly without Chromium)', () => {
  let context: BrowserContext;
  beforeAll(async () => {
    const { chromium } = await import('playwright-core');
    context = await chromium.launchPersistentContext(join(folder, 'profile'), {
      executablePath: chromiumPath as string,
      headless: true,
      args: ['--no-sandbox', '--disable-background-networking'],
    });
  }, 60_000);
  afterAll(() => context?.close());

  test.each(Object.keys(builders))(
    '%s: embeds and verifies, isolated or not, without a violation',
    { timeout: 180_000 },
    async (name) => {
      const output = await (builders[name] as () => Promise<string>)();
      for (const isolated of name === 'bare' || name === 'vite' ? [true, false] : [true]) {
        const { address, close } = await serve(output, isolated);
        const tab = await context.newPage();
        const complaints: string[] = [];
        tab.on('console', (message) => {
          if (message.type() === 'error' && !/favicon/.test(message.location().url)) complaints.push(message.text());
        });
        tab.on('pageerror', (error) => complaints.push(error.message));
        try {
          await tab.goto(address);
          const found = await tab.waitForFunction(() => (globalThis as { answer?: object }).answer, undefined, {
            timeout: 60_000,
          });
          const answer = (await found.jsonValue()) as { same: boolean; distance: number; why: string };
          expect(answer).toMatchObject({ same: false });
          expect(answer.distance).toBeGreaterThan(0.25);
          expect(answer.distance).toBeLessThan(0.29);
          expect(answer.why).toMatch(isolated ? /2 threads/ : /1 thread;.*not cross-origin isolated/);
          expect(complaints).toEqual([]);
        } finally {
          await tab.close();
          close();
        }
      }
    },
  );
});

describe('what a page loads', () => {
  const entries = ['facenet-gpu.js', 'detection.js', 'evaluate.js', 'worker.js', 'worker-service.js', 'thread.js'];

  test('imports nothing but its own files', () => {
    const seen = new Set<string>();
    const visit = (name: string): void => {
      if (seen.has(name)) return;
      seen.add(name);
      const text = readFileSync(join(dist, name), 'utf8');
      for (const [, address = ''] of text.matchAll(/(?<!")(?:\bfrom|\bimport)\s*\(?\s*"([^"\n]+)"/g)) {
        expect(address, name).toMatch(/^\.\/[\w.-]+\.js$/);
        visit(address.slice(2));
      }
    };
    for (const entry of entries) visit(entry);
    expect(seen.size).toBeGreaterThan(entries.length);
  });

  test('touches no global when it is imported, as on a server that renders pages', () => {
    // What exists in Node is left alone; reading what only a browser has is reported.
    const script = `
      const touched = [];
      for (const name of ['window', 'document', 'navigator', 'self', 'location', 'Worker', 'caches', 'indexedDB', 'createImageBitmap', 'OffscreenCanvas'])
        Object.defineProperty(globalThis, name, { configurable: true, get() { touched.push(name); return undefined; } });
      const before = Object.getOwnPropertyNames(globalThis).length;
      for (const name of ${JSON.stringify(['facenet-gpu.js', 'evaluate.js', 'worker.js'])}) await import(${JSON.stringify(new URL('../dist/', import.meta.url).href)} + name);
      console.log(JSON.stringify({ touched, added: Object.getOwnPropertyNames(globalThis).length - before }));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({ touched: [], added: 0 });
  });
});
