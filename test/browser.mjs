// Runs one test entry in headless Chromium: node test/browser.mjs test/x.browser.ts [--output FILE] [--seconds N]
//   [--no-isolation]   serve without COOP and COEP: no SharedArrayBuffer, so one thread
//   [--headed]         with a window, for debugging
// An entry with the line `// isolation: none` in its head is always served like that. Beside test/x.browser.ts there may be
// test/x.node.ts: what its expected() resolves to, in Node, is served as /expected.json.
// The entry exports run(): Promise<{ passed, failed, skipped, failures: string[], skips?: string[] }>, which is called
// in the page. WebGPU is SwiftShader's. The page can fetch the project's files under their own paths (/dist/...).
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, extname, join, normalize, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bundleSource } from './bundle.mjs';
import { findChromium } from './machine.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const served = ['dist', 'src', 'test', 'demo', 'models', 'shaders', 'node_modules/@vladmandic/face-api'];
const types = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.html': 'text/html',
  '.css': 'text/css',
  '.jpg': 'image/jpeg',
  '.png': 'image/png',
};

/** Serves the project's files and `extra` (path -> { type, body }) on 127.0.0.1; resolves to { origin, close }. */
export async function serve(extra, { isolated = true } = {}) {
  const server = createServer((request, response) => {
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
      response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    }
    response.setHeader('Cache-Control', 'no-store');
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    if (Object.hasOwn(extra, path)) {
      response.setHeader('Content-Type', extra[path].type);
      response.end(extra[path].body);
      return;
    }
    const name = relative(root, normalize(join(root, path))).replaceAll('\\', '/');
    const file = join(root, name);
    if (!served.some((folder) => name.startsWith(`${folder}/`)) || !existsSync(file) || !statSync(file).isFile()) {
      response.statusCode = 404;
      response.end(`no such file: ${path}`);
      return;
    }
    response.setHeader('Content-Type', types[extname(file)] ?? 'application/octet-stream');
    response.setHeader('Content-Length', statSync(file).size);
    createReadStream(file).pipe(response);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

/** Command line of a Chromium with WebGPU on SwiftShader that talks to nobody. */
export const chromiumArguments = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Tests crash the GPU process on purpose; after a few times Chromium would go on without one, and give this site no other device.
  '--disable-gpu-process-crash-limit',
  '--disable-domain-blocking-for-3d-apis',
];

/** What the entry's companion in Node expects, ready to be served; nothing without a companion. */
async function expectations(entry) {
  const companion = entry.replace(/\.browser\.ts$/, '.node.ts');
  if (companion === entry || !existsSync(companion)) return {};
  const output = join(root, '.cache', 'programs', `${basename(companion, '.ts')}.mjs`);
  await bundleSource({ entry: companion, output, platform: 'node' });
  const { expected } = await import(pathToFileURL(output).href);
  return { '/expected.json': { type: 'application/json', body: JSON.stringify(await expected()) } };
}

async function main(args) {
  const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  const entry = args[0];
  if (entry === undefined || !existsSync(resolve(entry))) {
    throw new Error(`browser: the first argument must be an existing test entry, got ${entry}`);
  }
  const executablePath = findChromium();
  if (executablePath === null) throw new Error('browser: this machine has no Chromium. Run: node test/machine.mjs');
  const { chromium } = await import('playwright-core');

  const profile = mkdtempSync(join(tmpdir(), 'facenet-gpu-chromium-'));
  let site;
  let context;
  try {
    const bundle = join(profile, 'entry.js');
    await bundleSource({ entry: resolve(entry), output: bundle, platform: 'browser' });
    const isolated =
      !args.includes('--no-isolation') && !/^\/\/ isolation: none$/m.test(readFileSync(resolve(entry), 'utf8'));
    site = await serve(
      {
        ...(await expectations(resolve(entry))),
        '/': { type: 'text/html', body: '<!doctype html><meta charset="utf-8"><title>test</title>' },
        '/favicon.ico': { type: 'image/png', body: '' },
        '/entry.js': { type: 'text/javascript', body: readFileSync(bundle) },
      },
      { isolated },
    );
    context = await chromium.launchPersistentContext(join(profile, 'data'), {
      executablePath,
      headless: !args.includes('--headed'),
      args: chromiumArguments,
    });
    const page = await context.newPage();
    const uncaught = [];
    page.on('console', (message) => console.log(`[page] ${message.text()}`));
    // A real crash: Chromium starts another process, and every device of the old one is lost. Resolves when the old one is gone.
    await page.exposeFunction('crashGpuProcess', async () => {
      const session = await context.browser().newBrowserCDPSession();
      const running = async () =>
        (await session.send('SystemInfo.getProcessInfo')).processInfo.find(({ type }) => type === 'GPU')?.id;
      const before = await running();
      if (before === undefined) throw new Error('browser: no GPU process is there to be crashed');
      await session.send('Browser.crashGpuProcess');
      while ((await running()) === before) await new Promise((done) => setTimeout(done, 10));
      await session.detach();
    });
    page.on('pageerror', (error) => uncaught.push(`uncaught: ${error.message}`));
    await page.goto(`${site.origin}/`);
    const seconds = Number(option('--seconds') ?? 600);
    let timer;
    const report = await Promise.race([
      page.evaluate(async () => {
        const { run } = await import('/entry.js');
        return run();
      }),
      new Promise((_, fail) => {
        timer = setTimeout(() => fail(new Error(`browser: ${entry} must end within ${seconds} s`)), seconds * 1000);
      }),
      new Promise((_, fail) => {
        page.on('crash', () => fail(new Error(`browser: the page of ${entry} crashed`)));
      }),
    ]).finally(() => clearTimeout(timer));
    report.failures.push(...uncaught);
    report.failed += uncaught.length;
    if (report.passed + report.failed + report.skipped === 0) {
      report.failures.push('run() reported no test');
      report.failed++;
    }
    for (const failure of report.failures) console.error(`FAILED ${failure}`);
    console.log(`${entry} in Chromium: ${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
    const output = option('--output');
    if (output !== undefined) writeFileSync(output, JSON.stringify(report));
    process.exitCode = report.failed > 0 ? 1 : 0;
  } finally {
    await context?.close();
    await site?.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
