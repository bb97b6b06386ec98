// area: networks
//
// `facenet bench`: where the time of a batch goes, how galleries are searched, an earlier run beside it, and the report.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type BenchSubject, bench } from '../src/cli/bench.ts';
import { type Comparison, compare, comparisonTable, readEarlier } from '../src/cli/bench-against.ts';
import { type KernelTime, kernelTimes, type LayerTime, layerTimes } from '../src/cli/bench-profile.ts';
import { type SearchTime, searchTimes } from '../src/cli/bench-search.ts';
import type { Context } from '../src/cli/context.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { FaceGallery, type FingerprintedVectors } from '../src/faces/gallery.ts';
import type { FaceNetGPU } from '../src/node.ts';

const cli = process.env.FACENET_CLI ?? fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

const facenet = (...args: string[]) =>
  spawnSync(process.execPath, [cli, '--backend', 'wasm', '--threads', '1', ...args], { encoding: 'utf8' });

interface Answer {
  schema: string;
  what: BenchSubject;
  network: string;
  backend: string;
  batch: number;
  timing: string;
  milliseconds: number;
  gflops: number;
  best: { gflops: number; gigabytes: number };
  layers: LayerTime[];
  kernels: KernelTime[];
  searches: SearchTime[];
  against: Comparison;
}

const total = (rows: readonly (LayerTime | KernelTime)[], field: 'milliseconds' | 'multiplyAdds' | 'share') =>
  rows.reduce((sum, row) => sum + row[field], 0);

const unsafe = /<script(?! type="application\/json")|https?:\/\/(?!www\.w3)|NaN|Infinity|undefined/;

describe('sums of a profile', () => {
  const kernel = (name: string, operator: string, milliseconds: number, multiplyAdds: number, bytes: number) => ({
    name,
    operator,
    milliseconds,
    multiplyAdds,
    bytes,
  });
  const profile = {
    milliseconds: 10.01,
    layers: [
      kernel('a', 'conv2d.transformInput', 1, 0, 8e6),
      kernel('b', 'relu.forward', 2, 0, 6e6),
      kernel('a', 'conv2d.forward', 3, 40e6, 8e6),
      kernel('c', 'conv2d.forward', 4, 10e6, 20e6),
      kernel('d', 'add.forward', 0.01, 1e6, 1e6),
    ],
  };
  const { layers, best } = layerTimes(profile);

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

  test('runs of one kernel are one row, the longest first', () => {
    const { kernels } = kernelTimes(profile);
    expect(kernels.map(({ name, count }) => [name, count])).toEqual([
      ['conv2d.forward', 2],
      ['relu.forward', 1],
      ['conv2d.transformInput', 1],
      ['add.forward', 1],
    ]);
    expect(kernels[0]).toMatchObject({ milliseconds: 7, multiplyAdds: 50e6, bytes: 28e6, gigabytes: 4 });
    expect(kernels[0]?.gflops).toBeCloseTo(100 / 7, 12);
    expect(total(kernels, 'share')).toBeCloseTo(1, 12);
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
    what: 'model',
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
  expect(html).not.toMatch(unsafe);
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

test('kernels: the layers summed otherwise; beside their own earlier run, as text, JSON and page', {
  timeout: 120_000,
}, () => {
  const [report, file] = ['html', 'json'].map((type) => join(folder, `kernels.${type}`)) as [string, string];
  const first = facenet('bench', 'ops', 'nn4.small2', '--runs', '1', '--jsonl', '--report', report);
  expect([first.status, first.stderr]).toEqual([0, `facenet: ${report} written\n`]);
  const { kernels, layers, milliseconds, ...answer } = JSON.parse(first.stdout) as Answer;
  expect(answer).toMatchObject({ schema: 'facenet/bench@1', what: 'ops', network: 'nn4.small2', batch: 1 });
  expect(layers).toBeUndefined();
  expect(total(kernels, 'milliseconds')).toBeCloseTo(milliseconds, 6);
  const names = kernels.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);

  const model = JSON.parse(facenet('bench', 'model', 'nn4.small2', '--runs', '1', '--json').stdout) as Answer;
  expect(total(kernels, 'multiplyAdds')).toBe(total(model.layers, 'multiplyAdds'));
  const every = model.layers.flatMap((layer) => layer.kernels);
  for (const { name, count } of kernels) expect(every.filter((kernel) => kernel === name)).toHaveLength(count);
  expect(new Set(every).size).toBe(names.length);

  const html = readFileSync(report, 'utf8');
  for (const words of ['<svg', 'Kernels of nn4.small2', 'l2Pool.forward']) expect(html).toContain(words);
  expect(html).not.toMatch(unsafe);

  // The report takes the place of what it is compared with, which is read first.
  const before = JSON.parse(readFileSync(file, 'utf8')) as Answer;
  const again = facenet('bench', 'ops', 'nn4.small2', '--runs', '1', '--json', '--against', file, '--report', report);
  expect(again.status).toBe(0);
  const now = JSON.parse(again.stdout) as Answer;
  const { rows, total: all } = now.against;
  expect(rows.map(({ name }) => name)).toEqual(now.kernels.map(({ name }) => name));
  for (const row of rows) {
    expect(row.before).toBe(before.kernels.find(({ name }) => name === row.name)?.milliseconds);
    expect(row.now).toBe(now.kernels.find(({ name }) => name === row.name)?.milliseconds);
    if (row.before) expect(row.ratio).toBe((row.now as number) / row.before);
  }
  expect(all.before).toBeCloseTo(before.milliseconds, 6);
  expect(all.now).toBeCloseTo(now.milliseconds, 6);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(now);
  const compared = readFileSync(report, 'utf8');
  for (const words of [`Against ${file}: nn4.small2; wasm`, 'now / before']) expect(compared).toContain(words);
  expect(compared).not.toMatch(unsafe);

  const { stdout } = facenet('bench', 'ops', 'nn4.small2', '--runs', '1', '--against', file);
  expect(stdout).toContain(`\n\nagainst ${file}; nn4.small2; wasm`);
  expect(stdout).toMatch(/\n +before, ms +now, ms +now \/ before\n/);
  expect(stdout).toMatch(/\nconv2d\.\w+ +\d+\.\d{3} +\d+\.\d{3} +\d+\.\d\d\n/);
  expect(stdout).toMatch(/\ntotal +\d+\.\d{3} +\d+\.\d{3} +\d+\.\d\d\n$/);
});

describe('an earlier run', () => {
  const run = {
    schema: 'facenet/bench@1',
    what: 'model',
    model: 'a',
    network: 'nn4.small2',
    backend: 'wasm',
    batch: 1,
    why: 'wasm',
    layers: [
      { name: 'one', milliseconds: 2 },
      { name: 'two', milliseconds: 0 },
      { name: 'three', milliseconds: 4 },
    ],
  };
  const file = join(folder, 'earlier.json');
  const keep = (content: object | string) =>
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));

  test('rows by name: ratios, those that are new or gone, sums of all', async () => {
    keep(run);
    const earlier = await readEarlier(file, 'model');
    const same = compare(earlier, run.layers);
    expect(same.rows.map(({ name, ratio }) => [name, ratio])).toEqual([
      ['one', 1],
      ['two', null],
      ['three', 1],
    ]);
    expect(same.total).toEqual({ before: 6, now: 6, ratio: 1 });

    const other = compare(earlier, [
      { name: 'three', milliseconds: 1 },
      { name: 'one', milliseconds: 3 },
      { name: 'four\n', milliseconds: 5 },
    ]);
    expect(other).toEqual({
      file,
      model: 'a',
      why: 'wasm',
      rows: [
        { name: 'three', before: 4, now: 1, ratio: 0.25 },
        { name: 'one', before: 2, now: 3, ratio: 1.5 },
        { name: 'four\n', before: null, now: 5, ratio: null },
        { name: 'two', before: 0, now: null, ratio: null },
      ],
      total: { before: 6, now: 9, ratio: 1.5 },
    });
    expect(comparisonTable(other).slice(1)).toEqual([
      ['three', '4.000', '1.000', '0.25'],
      ['one', '2.000', '3.000', '1.50'],
      ['four\\u{a}', '', '5.000', 'new'],
      ['two', '0.000', '', 'gone'],
      ['total', '6.000', '9.000', '1.50'],
    ]);
  });

  test.each<[string, object | string, RegExp]>([
    ['no JSON', 'facenet', /the JSON of an earlier run, got .+\. Write it by facenet bench model --json\.$/],
    ['no object', '[]', /JSON with schema "facenet\/bench@1", got \[\]\. /],
    ['another schema', { ...run, schema: 'facenet/bench@2' }, /JSON with schema .*, got "facenet\/bench@2"\. /],
    ['another subject', { ...run, what: 'ops' }, /a run of bench model, got "ops"\. /],
    ['no network', { ...run, network: undefined }, /network: a text, got nothing\. The file is damaged/],
    ['a batch in words', { ...run, batch: '1' }, /batch: a number, got "1"\. /],
    ['no rows', { ...run, layers: [] }, /layers: a list with at least one row, got \[\]\. /],
    ['a row without name', { ...run, layers: [{ milliseconds: 1 }] }, /name of row 0: a text, got nothing\. /],
    [
      'a time below 0',
      { ...run, layers: [...run.layers, { name: 'four', milliseconds: -1 }] },
      /milliseconds of row 3: a number from 0, got -1\. /,
    ],
    ['a name twice', { ...run, layers: [...run.layers, run.layers[1]] }, /layers: each name once, got "two"\. /],
  ])('%s is refused', async (_, content, message) => {
    keep(content);
    await expect(readEarlier(file, 'model')).rejects.toMatchObject({
      name: 'FaceNetError',
      code: 'input',
      message: expect.stringMatching(message),
    });
    await expect(readEarlier(file, 'model')).rejects.toThrow(`--against ${file}`);
  });

  test.each<[string, object, string, RegExp]>([
    [
      'network',
      { network: 'nn2' },
      'mismatch',
      /network nn4\.small2 as this one, got "nn2"\. Measure that network, or/,
    ],
    ['batch', { batch: 2 }, 'input', /batch 1 as this one, got 2\. Give --batch 2, or/],
    ['backend', { backend: 'webgpu' }, 'input', /backend wasm as this one, got "webgpu"\. Give --backend webgpu, or/],
  ])('of another %s is refused before anything is measured', async (_, other, code, message) => {
    const measured = () => Promise.reject(new Error('measured'));
    const net = { model: { network: 'nn4.small2' }, backend: 'wasm', dimensions: 128, profile: measured };
    const context = {
      terminal: new Terminal(process, { format: 'text', quiet: true, colour: false }),
      modelName: 'a',
      withModel: (use: (opened: typeof net) => Promise<number>) => use(net),
    } as unknown as Context;
    const against = () => bench(context, 'model', undefined, { runs: 1, against: file });
    keep({ ...run, ...other });
    await expect(against()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    keep(run);
    await expect(against()).rejects.toThrow('measured');
  });

  test('exit codes: 3 for a file that is none, 4 for another network', () => {
    const none = facenet('bench', '--against', join(folder, 'none.json'), '--json');
    expect(none.status).toBe(3);
    expect(JSON.parse(none.stdout)).toMatchObject({ schema: 'facenet/error@1', error: { code: 'input' } });
    keep(run);
    const other = facenet('bench', '--against', file);
    expect([other.status, other.stdout]).toEqual([4, '']);
    expect(other.stderr).toMatch(/network dlib-resnet as this one, got "nn4\.small2"/);
  });
});

test('galleries of each size and kind are asked so many queries, none of them twice, and closed', async () => {
  const asked: FingerprintedVectors[] = [];
  const sizes: number[] = [];
  const names = { fingerprint: 'bench', dimensions: 8 };
  const net = {
    ...names,
    operatingPoint: () => ({ threshold: 1 }),
    async gallery(options: Parameters<FaceNetGPU['gallery']>[0]) {
      const gallery = await FaceGallery.open({ ...options, ...names });
      const [identify, close] = [gallery.identify.bind(gallery), gallery.close.bind(gallery)];
      gallery.identify = (queries, ...rest) => {
        asked.push({ ...queries, data: queries.data.slice() });
        return identify(queries, ...rest);
      };
      gallery.close = () => {
        sizes.push(gallery.size);
        return close();
      };
      return gallery;
    },
  } as unknown as FaceNetGPU;
  const searches = await searchTimes(net, { sizes: [6, 30], runs: 3, warmUp: 0 });
  expect(searches.map(({ templates, kind, queries }) => [templates, kind, queries])).toEqual(
    [6, 30].flatMap((size) => ['float32', 'int8'].flatMap((kind) => [1, 64].map((count) => [size, kind, count]))),
  );
  expect(new Set(searches.map(({ name }) => name)).size).toBe(8);
  expect(sizes).toEqual([6, 6, 30, 30]);
  expect(asked.map(({ count }) => count)).toEqual(searches.flatMap(({ queries }) => Array(3).fill(queries)));
  const rows = asked.flatMap(({ data, count }) =>
    Array.from({ length: count }, (_, i) => data.subarray(8 * i, 8 * i + 8).join()),
  );
  expect(new Set(rows).size).toBe(rows.length);
  for (const { templates, kind, queries, milliseconds, queriesPerSecond, gigabytes } of searches) {
    expect(queriesPerSecond).toBeCloseTo((1000 * queries) / milliseconds, 6);
    expect(gigabytes).toBeCloseTo((queriesPerSecond * templates * 8 * (kind === 'int8' ? 1 : 4)) / 1e9, 12);
  }
  const stopped = searchTimes(net, { sizes: [6], runs: 1, warmUp: 0, signal: AbortSignal.abort() });
  await expect(stopped).rejects.toMatchObject({ code: 'aborted' });
});

test('search in galleries: twelve times, beside an earlier run of other galleries', { timeout: 120_000 }, () => {
  const file = join(folder, 'search-before.json');
  const common = { schema: 'facenet/bench@1', what: 'search', model: 'a', network: 'dlib-resnet', backend: 'wasm' };
  const searches = [
    { name: '1000 float32, 1 query', milliseconds: 1 },
    { name: '7 float32, 1 query', milliseconds: 2 },
  ];
  writeFileSync(file, JSON.stringify({ ...common, dimensions: 64, why: 'wasm', searches }));
  expect(facenet('bench', 'search', '--against', file)).toMatchObject({
    status: 4,
    stdout: '',
    stderr: expect.stringMatching(/dimensions 128 as this one, got 64/),
  });
  writeFileSync(file, JSON.stringify({ ...common, dimensions: 128, why: 'wasm', searches }));
  const report = join(folder, 'search.html');
  const { status, stdout } = facenet('bench', 'search', '--runs', '1', '--against', file, '--report', report);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^dlib-resnet \(dlib-resnet\): galleries of templates of 128 numbers; wasm/);
  expect(stdout).toMatch(/\n +100000 +int8 +64 +\d+\.\d{3} +\d+ +\d+\.\d\n/);
  expect(stdout).toMatch(/\n7 float32, 1 query +2\.000 +gone\n/);
  const answer = JSON.parse(readFileSync(join(folder, 'search.json'), 'utf8')) as Answer;
  expect(answer).toMatchObject({ schema: 'facenet/bench@1', what: 'search', dimensions: 128, runs: 1 });
  expect(answer.searches).toHaveLength(12);
  const { rows } = answer.against;
  expect(rows.filter(({ ratio }) => ratio !== null).map(({ name }) => name)).toEqual(['1000 float32, 1 query']);
  expect(rows.filter(({ before }) => before === null)).toHaveLength(11);
  const html = readFileSync(report, 'utf8');
  for (const words of ['<polyline', 'Search in galleries of dlib-resnet', '>100000<']) expect(html).toContain(words);
  expect(html).not.toMatch(unsafe);
});

test('a word that names nothing to measure is the model; beside a model it is refused', () => {
  const named = facenet('bench', 'model', 'ops');
  expect([named.status, named.stdout, named.stderr]).toEqual([4, '', expect.stringMatching(/\bops\b/)]);
  const two = facenet('bench', 'nn2', 'ops');
  expect([two.status, two.stdout]).toEqual([2, '']);
  expect(two.stderr).toContain('what is measured is one of model, ops, search, got nn2 beside ops');
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
