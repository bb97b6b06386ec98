// area: networks
//
// `facenet info` without a name: what every network costs on this machine, and the report of Figure 4.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { surveyNetworks } from '../src/facenet-gpu/survey.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { published } from '../src/networks/published.ts';
import { FaceNetGPU } from '../src/node.ts';

const cli = process.env.FACENET_CLI ?? fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-networks-'));
afterAll(() => rmSync(folder, { recursive: true }));

const facenet = (...args: string[]) =>
  spawnSync(process.execPath, [cli, '--backend', 'wasm', ...args], { encoding: 'utf8' });

interface Row {
  name: keyof typeof published;
  parameters: number;
  statistics: number;
  multiplyAdds: number;
  input: { width: number; height: number };
  memory: Record<string, number>;
  milliseconds?: Record<string, number>;
}

test('all networks, their memory as planned, and a report that says which figures are published', {
  timeout: 60_000,
}, () => {
  const report = join(folder, 'networks.html');
  const { status, stdout } = facenet('--json', 'info', '--no-time', '--report', report);
  expect(status).toBe(0);
  const answer = JSON.parse(stdout) as { schema: string; networks: Row[] };
  expect(answer.schema).toBe('facenet/probe@1');
  expect(answer.networks.map(({ name }) => name)).toEqual(Object.keys(published));
  const by = new Map(answer.networks.map((row) => [row.name, row]));
  // Counts that OpenFace publishes, and the sizes of Table 3.
  expect(by.get('nn4.small2')?.parameters).toBe(3_733_968);
  expect(by.get('nn2')?.parameters).toBe(7_472_144);
  expect(by.get('nns2')?.input).toEqual({ width: 116, height: 140 });
  for (const { name, parameters, statistics, memory, milliseconds } of answer.networks) {
    // Weights at least once, and more with more faces.
    expect(memory['1'], name).toBeGreaterThan(4 * (parameters + statistics));
    expect(memory['32'], name).toBeGreaterThan(memory['1'] as number);
    expect(milliseconds).toBeUndefined();
  }
  // NN1 within 2 GiB.
  expect(by.get('nn1')?.memory['32']).toBeLessThan(2 ** 31);
  const html = readFileSync(report, 'utf8');
  for (const words of ['nns1', 'published', 'dlib-resnet (measured)', 'untrained', '<svg', '87.9'])
    expect(html).toContain(words);
  expect(html).not.toMatch(/<script(?! type="application\/json")|https?:\/\/(?!www\.w3)/);
  expect(JSON.parse(readFileSync(join(folder, 'networks.json'), 'utf8'))).toEqual(answer);
});

test('the forecast is what is then taken; times are measured', { timeout: 60_000 }, async () => {
  const { networks } = await surveyNetworks(createNodeHost(), {
    backend: 'wasm',
    threads: 1,
    batches: [1, 3],
    timed: [1],
    only: ['nns2'],
  });
  const [row] = networks;
  expect(row?.milliseconds?.[1]).toBeGreaterThan(0);
  for (const batch of [1, 3]) {
    const net = await FaceNetGPU.create({
      model: { network: 'nns2', seed: 1 },
      backend: 'wasm',
      threads: 1,
      batchSize: batch,
    });
    const taken = net.counters().bytes;
    await net.dispose();
    expect(
      Math.abs((row?.memory[batch] as number) / taken - 1),
      `${row?.memory[batch]} planned, ${taken} taken`,
    ).toBeLessThan(0.01);
  }
});

test('--report beside a name is refused', () => {
  const { status, stderr } = facenet('info', 'nn2', '--report', join(folder, 'x.html'));
  expect([status, stderr]).toEqual([3, expect.stringMatching(/--report shows all networks, got nn2/)]);
});
