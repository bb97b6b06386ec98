// area: networks
//
// `facenet bench`: where the time of a batch goes, and its report.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type LayerTime, layerTimes } from '../src/cli/bench.ts';

const cli = process.env.FACENET_CLI ?? fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

const facenet = (...args: string[]) =>
  spawnSync(process.execPath, [cli, '--backend', 'wasm', '--threads', '1', ...args], { encoding: 'utf8' });

interface Answer {
  schema: string;
  network: string;
  backend: string;
  batch: number;
  timing: string;
  milliseconds: number;
  gflops: number;
  best: { gflops: number; gigabytes: number };
  layers: LayerTime[];
}

const total = (layers: readonly LayerTime[], field: 'milliseconds' | 'multiplyAdds' | 'share') =>
  layers.reduce((sum, layer) => sum + layer[field], 0);

describe('layers of a profile', () => {
  const kernel = (name: string, operator: string, milliseconds: number, multiplyAdds: number, bytes: number) => ({
    name,
    operator,
    milliseconds,
    multiplyAdds,
    bytes,
  });
  const { layers, best } = layerTimes({
    milliseconds: 10.01,
    layers: [
      kernel('a', 'conv2d.transformInput', 1, 0, 8e6),
      kernel('b', 'relu.forward', 2, 0, 6e6),
      kernel('a', 'conv2d.forward', 3, 40e6, 8e6),
      kernel('c', 'conv2d.forward', 4, 10e6, 20e6),
      kernel('d', 'add.forward', 0.01, 1e6, 1e6),
    ],
  });

  test('kernels of one layer are one row, in the order of their first', () => {
    expect(layers.map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd']);
    expect(layers[0]).toMatchObject({
      kernels: ['conv2d.transformInput', 'conv2d.forward'],
      milliseconds: 4,
      multiplyAdds: 40e6,
      bytes: 16e6,
      gflops: 20,
      gigabytes: 4,
    });
    expect(total(layers, 'share')).toBeCloseTo(1, 12);
  });

  test('rates beside the highest; what hardly takes time sets none', () => {
    expect(best).toEqual({ gflops: 20, gigabytes: 5 });
    expect(layers.map(({ ofBest }) => ofBest)).toEqual([1, 0.6, 1, 1]);
  });

  test('kernels that the clock does not see have no rate', () => {
    const { layers: none, best: nothing } = layerTimes({ milliseconds: 0, layers: [kernel('a', 'add', 0, 5, 5)] });
    expect(nothing).toEqual({ gflops: 0, gigabytes: 0 });
    expect(none[0]).toMatchObject({ gflops: 0, gigabytes: 0, share: 0, ofBest: 0 });
  });
});

test('a network without weights: every layer, its operations, and a report that needs nothing else', {
  timeout: 60_000,
}, () => {
  const report = join(folder, 'layers.html');
  const { status, stdout, stderr } = facenet('bench', 'nn4.small2', '--runs', '2', '--json', '--report', report);
  expect([status, stderr]).toEqual([0, `facenet: ${report} written\n`]);
  const answer = JSON.parse(stdout) as Answer;
  expect(answer).toMatchObject({
    schema: 'facenet/bench@1',
    network: 'nn4.small2',
    backend: 'wasm',
    batch: 1,
    timing: 'wall',
  });
  const { layers, milliseconds, gflops } = answer;
  const operations = JSON.parse(facenet('info', 'nn4.small2', '--json').stdout) as { multiplyAdds: number };
  expect(total(layers, 'multiplyAdds')).toBe(operations.multiplyAdds);
  expect(total(layers, 'milliseconds')).toBeCloseTo(milliseconds, 6);
  expect(gflops).toBeCloseTo((2 * operations.multiplyAdds) / (milliseconds * 1e6), 6);
  expect(layers.at(-1)?.kernels).toEqual(['l2Normalize.forward']);
  expect(Math.max(...layers.map(({ ofBest }) => ofBest))).toBe(1);
  const html = readFileSync(report, 'utf8');
  for (const words of ['<svg', 'conv1/conv2d', 'GB/s', 'wall clock']) expect(html).toContain(words);
  expect(html).not.toMatch(/<script(?! type="application\/json")|https?:\/\/(?!www\.w3)|NaN|Infinity|undefined/);
  expect(JSON.parse(readFileSync(join(folder, 'layers.json'), 'utf8'))).toEqual(answer);
});

test('the packaged model as text; twice the faces are twice the operations', { timeout: 60_000 }, () => {
  const { status, stdout } = facenet('bench', '--runs', '1');
  expect(status).toBe(0);
  expect(stdout).toMatch(/^dlib-resnet \(dlib-resnet\), batch 1: \d/);
  expect(stdout).toMatch(/conv2d\.\w+ .* \d+\.\d %\n/);
  const [one, two] = ['1', '2'].map((batch) => {
    const answer = JSON.parse(facenet('--batch', batch, 'bench', '--runs', '1', '--jsonl').stdout) as Answer;
    expect(answer.batch).toBe(Number(batch));
    return total(answer.layers, 'multiplyAdds');
  });
  expect(two).toBe(2 * (one as number));
});

test('what cannot be measured or written is refused before anything runs', () => {
  const missing = facenet('bench', join(folder, 'none.safetensors'));
  expect([missing.status, missing.stdout]).toEqual([3, '']);
  const broken = join(folder, 'broken.safetensors');
  writeFileSync(broken, 'no weights');
  expect(facenet('bench', broken).status).toBe(4);
  const report = facenet('bench', '--report', join(folder, 'layers.txt'));
  expect([report.status, report.stderr]).toEqual([3, expect.stringMatching(/--report: a file ending in \.html/)]);
  expect(facenet('bench', '--runs', '0').status).toBe(2);
  expect(readdirSync(folder).filter((name) => name.endsWith('.txt'))).toEqual([]);
});
