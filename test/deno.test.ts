// area: tasks
// on: none
//
// The package in Deno: on wasm the bits of Node, for one thread and for two.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sampleFaces } from './golden-faces.ts';

const folder = mkdtempSync(join(tmpdir(), 'facenet-deno-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The program of the package `deno`, which has one package for each system; null where it is not installed. */
function denoProgram(): string | null {
  const libc = process.platform === 'linux' ? '-glibc' : '';
  try {
    return createRequire(import.meta.url).resolve(`@deno/${process.platform}-${process.arch}${libc}/deno`);
  } catch {
    return null;
  }
}

const deno = denoProgram();
const { image, landmarks } = sampleFaces()[0]!;
const library = new URL('../dist/facenet-gpu.node.js', import.meta.url).href;
const program = (options: object): string => `
  import { FaceNetGPU } from ${JSON.stringify(library)};
  const net = await FaceNetGPU.create(${JSON.stringify({ model: 'dlib-resnet', batchSize: 1, ...options })});
  const { data } = await net.embed(${JSON.stringify({ image, landmarks })});
  console.log(JSON.stringify({ why: net.why, data: [...data] }));
  await net.dispose();`;

function run(command: string, args: readonly string[]): { why: string; data: number[] } {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 170_000 });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout) as { why: string; data: number[] };
}

let files = 0;
function inDeno(options: object): { why: string; data: number[] } {
  const file = join(folder, `${++files}.mjs`);
  writeFileSync(file, program(options));
  return run(deno as string, ['run', '--allow-all', '--no-prompt', file]);
}

describe.skipIf(deno === null)('Deno (skipped loudly without the package deno)', () => {
  let node: { data: number[] };
  const plain = { backend: 'wasm', relaxed: false, threads: 1 };
  beforeAll(() => {
    node = run(process.execPath, ['--input-type=module', '-e', program(plain)]);
  }, 60_000);

  test.each([1, 2])('plain wasm, %i threads: the bits of Node', { timeout: 60_000 }, (threads) => {
    const { why, data } = inDeno({ ...plain, threads });
    expect(why).toContain(`${threads} thread`);
    expect(data).toEqual(node.data);
  });
});
