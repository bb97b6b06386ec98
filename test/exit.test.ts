// area: tasks
// on: none lavapipe swiftshader
//
// Node ends by itself, whatever a program did with the library (reliability R6): processes of their own on dist/.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'facenet-exit-'));
afterAll(() => rmSync(folder, { recursive: true }));
const library = new URL('../dist/facenet-gpu.node.js', import.meta.url).href;
const adapter = process.env.FACENET_ADAPTER ?? 'none';
const rounds = process.env.FACENET_TIER === 'all' ? 50 : 1;
/** A process that has not ended by then hangs; one that ends by itself takes a fraction of a second. */
const HANGS_AFTER = 120_000;

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** From its last line to its end. */
  readonly milliseconds: number;
}

/** Runs a program until it ends, and SIGKILLs it when it hangs: then `signal` says so. */
function run(program: string): Promise<Ended> {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(file, program);
  return new Promise((done) => {
    const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr, last] = ['', '', performance.now()];
    child.stdout.on('data', (part: Buffer) => {
      stdout += part;
      last = performance.now();
    });
    child.stderr.on('data', (part: Buffer) => {
      stderr += part;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), HANGS_AFTER);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      done({ code, signal, stdout, stderr, milliseconds: performance.now() - last });
    });
  });
}

/** A program that embeds a face, prints a line, and goes on with `then`. */
const embeds = (options: object, then: string): string => `
  import { FaceNetGPU } from ${JSON.stringify(library)};
  const net = await FaceNetGPU.create(${JSON.stringify({ model: 'dlib-resnet', batchSize: 1, ...options })});
  const grey = { data: new Uint8Array(150 * 150 * 3).fill(90), width: 150, height: 150 };
  const { data } = await net.embed(grey);
  console.log(net.backend, data.length);
  ${then}`;

/** The same in a worker. */
const inWorker = (options: object): string => {
  const file = join(folder, 'worker.mjs');
  writeFileSync(
    file,
    `${embeds(options, 'await net.dispose(); (await import("node:worker_threads")).parentPort.postMessage("done");')}`,
  );
  return `
    import { Worker } from 'node:worker_threads';
    const worker = new Worker(new URL(${JSON.stringify(pathToFileURL(file).href)}));
    worker.on('error', (error) => { throw error; });
    worker.on('message', (text) => console.log(text));`;
};

const ways: readonly (readonly [name: string, program: (options: object) => string, code: number, words: RegExp])[] = [
  ['after dispose', (options) => embeds(options, 'await net.dispose();'), 0, /^$/],
  ['without dispose', (options) => embeds(options, ''), 0, /^$/],
  ['with a call still running', (options) => embeds(options, 'net.embed(grey);'), 0, /^$/],
  ['after an error', (options) => embeds(options, 'throw new Error("planted");'), 1, /Error: planted/],
  [
    'after a rejection nobody handles',
    (options) => embeds(options, 'Promise.reject(new Error("planted"));'),
    1,
    /Error: planted/,
  ],
  [
    'after an error of ours',
    (options) => embeds(options, 'await net.embed("gone.jpg");'),
    1,
    /gone\.jpg: a readable file, got nothing there/,
  ],
  ['by process.exit', (options) => embeds(options, 'process.exit(3);'), 3, /^$/],
  ['in a worker', inWorker, 0, /^$/],
];

const settings =
  adapter === 'none'
    ? [
        { backend: 'wasm', threads: 1 },
        { backend: 'wasm', threads: 2 },
      ]
    : [{ backend: 'webgpu' }];

describe.each(settings)('Node ends by itself, %o', (options) => {
  test.each(ways)('%s', { timeout: rounds * (HANGS_AFTER + 5_000) }, async (_, program, code, words) => {
    for (let round = 0; round < rounds; round++) {
      const ended = await run(program(options));
      // A core dump or a kill shows as a signal.
      expect(ended, ended.stderr).toMatchObject({ code, signal: null });
      expect(ended.stdout).toContain(`${options.backend} 128\n`);
      // On a machine that has nothing else to do; in the ordinary run only a hang counts.
      if (rounds > 1) expect(ended.milliseconds).toBeLessThan(2000);
      // What Dawn says when it starts is no complaint of ours.
      expect(ended.stderr.replaceAll(/^Warning: max\w+ artificially reduced .*\n/gm, '')).toMatch(words);
    }
  });
});

test('a program that never creates one ends as well', async () => {
  const ended = await run(
    `import { FaceNetGPU } from ${JSON.stringify(library)}; console.log(JSON.stringify(await FaceNetGPU.probe()));`,
  );
  expect(ended).toMatchObject({ code: 0, signal: null });
  expect(JSON.parse(ended.stdout)).toMatchObject({ webgpu: { available: adapter !== 'none' } });
});
