// area: tasks
//
// enroll, identify, cluster, evaluate and calibrate as a user types them: dist/cli.js in processes of its own, on photos of people whose
// names are known. Distances are compared with those of the class on the same crops.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { squaredDistance } from '../src/faces/distance.ts';
import { readModelFile } from '../src/io/model-file.ts';
import { FaceNetGPU } from '../src/node.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const photos = join(root, 'node_modules', '@vladmandic', 'face-api', 'demo');
const folder = mkdtempSync(join(tmpdir(), 'facenet-tasks-'));
const at = (name: string): string => join(folder, name);
const crop = (name: string): string => join(folder, 'crops', `${name}.png`);

/** 1c and 3b are one woman; all others are strangers to each other. */
const [ada, adaAgain, bea, stranger] = ['sample1-1c', 'sample3-3b', 'sample3-3a', 'sample1-1a'].map(crop) as [
  string,
  string,
  string,
  string,
];
const distances = new Map<string, number>();
const between = (a: string, b: string): number => distances.get(`${a} ${b}`) as number;

function facenet(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'dist', 'cli.js'), '--backend', 'wasm', '--threads', '1', ...args],
    { cwd: folder, encoding: 'utf8' },
  );
  return { code: status, stdout, stderr, json: () => JSON.parse(stdout) };
}

beforeAll(async () => {
  const names = ['sample1.jpg', 'sample2.jpg', 'sample3.jpg'].map((name) => join(photos, name));
  const made = facenet('align', ...names, '--landmarks', join(root, 'demo', 'faces.json'), '--out', at('crops'));
  expect(made.code).toBe(0);
  const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: 'wasm', threads: 1 });
  const faces = [ada, adaAgain, bea, stranger];
  const { data } = await net.embed(faces);
  const row = (index: number) => data.subarray(index * 128, (index + 1) * 128);
  for (const [i, a] of faces.entries())
    for (const [j, b] of faces.entries()) distances.set(`${a} ${b}`, squaredDistance(row(i), row(j)));
  await net.dispose();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('enroll and identify', () => {
  const gallery = () => ['--gallery', at('people.safetensors')];

  test('people are enrolled, known again, and strangers are nobody', () => {
    const first = facenet('--json', 'enroll', ...gallery(), 'Ada L\u00f6ve\u200d', ada, '--aligned');
    expect(first).toMatchObject({ code: 0 });
    expect(first.json()).toMatchObject({ schema: 'facenet/enroll@1', people: 1, templates: 1, new: 1 });
    mkdirSync(at('root/Bea'), { recursive: true });
    copyFileSync(bea, at('root/Bea/1.png'));
    expect(facenet('enroll', ...gallery(), '--dir', at('root'), '--aligned').code).toBe(0);

    const known = facenet('--json', 'identify', ...gallery(), adaAgain, bea, '--aligned');
    expect(known.code).toBe(0);
    const { faces, people } = known.json();
    expect(people).toBe(2);
    expect(faces.map((face: { label: string }) => face.label)).toEqual(['Ada L\u00f6ve\u200d', 'Bea']);
    expect(faces[0].matches.map((match: { label: string }) => match.label)).toEqual(['Ada L\u00f6ve\u200d', 'Bea']);
    expect(faces[0].matches[0].distance).toBeCloseTo(between(adaAgain, ada), 6);
    expect(faces[0].matches[1].distance).toBeCloseTo(between(adaAgain, bea), 6);

    const unknown = facenet('--json', 'identify', ...gallery(), stranger, '--aligned', '--limit', '1');
    expect(unknown.code).toBe(1);
    expect(unknown.json().faces).toMatchObject([{ label: null, matches: [{ accepted: false }] }]);
  });

  test('a locked gallery opens with its passphrase alone, and is left as it was', () => {
    writeFileSync(at('word'), 'correct horse');
    writeFileSync(at('wrong'), 'battery');
    const locked = ['--gallery', at('locked.safetensors')];
    expect(facenet('enroll', ...locked, '--passphrase-file', at('word'), 'Bea', bea, '--aligned').code).toBe(0);
    const bytes = readFileSync(at('locked.safetensors'));
    expect(bytes.includes('Bea')).toBe(false);
    expect(facenet('identify', ...locked, '--passphrase-file', at('wrong'), bea, '--aligned').code).toBe(4);
    expect(facenet('enroll', ...locked, '--passphrase-file', at('wrong'), 'Ada', ada, '--aligned').code).toBe(4);
    expect(readFileSync(at('locked.safetensors')).equals(bytes)).toBe(true);
    expect(facenet('identify', ...locked, '--passphrase-file', at('word'), bea, '--aligned').code).toBe(0);
  });

  test('a bad photo is an error and nothing is written; with --skip-bad it alone is left out', () => {
    writeFileSync(at('bad.png'), 'no picture');
    const place = at('skip.safetensors');
    const refused = facenet('enroll', '--gallery', place, 'Bea', at('bad.png'), bea, '--aligned');
    expect(refused.code).toBe(3);
    expect(existsSync(place)).toBe(false);
    const skipped = facenet(
      '--json',
      'enroll',
      '--gallery',
      place,
      'Bea',
      at('bad.png'),
      bea,
      '--aligned',
      '--skip-bad',
    );
    expect(skipped.code).toBe(6);
    expect(skipped.json()).toMatchObject({ new: 1, skipped: [{ index: 0, error: { code: 'image' } }] });
  });

  test('a gallery that does not exist cannot be searched, and usage errors are 2', () => {
    expect(facenet('identify', '--gallery', at('none.safetensors'), bea, '--aligned').code).toBe(3);
    expect(facenet('enroll', '--gallery', at('x.safetensors'), 'Bea').code).toBe(2);
    expect(facenet('identify', bea).code).toBe(2);
  });
});

describe('evaluate and calibrate', () => {
  const rows = () =>
    [
      [ada, adaAgain, 1],
      [ada, bea, 0],
      [adaAgain, bea, 0],
      [stranger, ada, 0],
      [stranger, bea, 0],
      [stranger, adaAgain, 0],
    ] as const;
  const list = () => {
    const name = (path: string) => path.slice(at('crops/').length);
    writeFileSync(
      at('pairs.csv'),
      rows()
        .map(([a, b, same]) => `${name(a)},${name(b)},${same}\n`)
        .join(''),
    );
    return ['--pairs', at('pairs.csv'), '--images', at('crops'), '--aligned'];
  };

  test('figures equal a count by hand, and the report needs nothing else', () => {
    const report = at('report.html');
    const answer = facenet('--json', 'evaluate', ...list(), '--folds', '2', '--far', '0.2', '--report', report);
    expect(answer.code).toBe(0);
    const figures = answer.json();
    // The largest threshold with at most one of the five pairs of strangers under it; the pairs were chosen apart.
    const apart = rows().filter(([, , same]) => !same);
    const sorted = apart.map(([a, b]) => between(a, b)).sort((x, y) => x - y);
    const [point] = figures.valAtFar;
    expect(point.far).toBe(0.2);
    expect(point.threshold).toBeGreaterThanOrEqual(sorted[0] as number);
    expect(point.threshold).toBeLessThan(sorted[1] as number);
    expect(point.val).toBe(between(ada, adaAgain) <= point.threshold ? 1 : 0);
    expect(figures).toMatchObject({ samePairs: 1, differentPairs: 5, skipped: 0 });
    const page = readFileSync(report, 'utf8');
    for (const part of ['<svg', 'ROC', 'DET', 'Histogram']) expect(page).toContain(part);
    expect(page).not.toMatch(/<script[^>]* src=|<link|src="http/);
  });

  test('--write keeps a threshold in the model file, which verify then finds; the weights stay', () => {
    const model = at('model.safetensors');
    copyFileSync(join(root, 'dist', 'models', 'dlib-resnet.safetensors'), model);
    const before = readModelFile(new Uint8Array(readFileSync(model)), model);
    const answer = facenet('--json', '--model', model, 'calibrate', ...list(), '--far', '0.2', '--write');
    expect(answer.code).toBe(0);
    const { point } = answer.json();
    const after = readModelFile(new Uint8Array(readFileSync(model)), model);
    expect(after.metadata.operatingPoints.length).toBe(before.metadata.operatingPoints.length + 1);
    expect(after.metadata.operatingPoints.at(-1)).toMatchObject({ threshold: point.threshold, far: point.far });
    const again = facenet('--json', '--model', model, 'verify', ada, adaAgain, '--aligned', '--far', '0.2');
    expect(again.json().point.threshold).toBe(point.threshold);
    expect(facenet('calibrate', ...list(), '--far', '0.2', '--write').code).toBe(3);
  });

  test('a list that names a missing picture is an error, or leaves out its pair', () => {
    const [, , ...rest] = list();
    writeFileSync(
      at('gap.csv'),
      'sample1-1c.png,nobody.png,1\nsample1-1c.png,sample3-3b.png,1\nsample1-1c.png,sample3-3a.png,0\n',
    );
    expect(facenet('evaluate', '--pairs', at('gap.csv'), ...rest, '--folds', '2').code).toBe(3);
  });
});

describe('cluster', () => {
  test('the two photos of one woman join, strangers stay alone, and the page shows the group', () => {
    const report = at('groups.html');
    const threshold = String((between(ada, adaAgain) + between(adaAgain, bea)) / 2);
    const answer = facenet(
      ...['--json', 'cluster', ada, bea, adaAgain, stranger, '--aligned', '--min-size', '2'],
      ...['--threshold', threshold, '--linkage', 'complete', '--report', report],
    );
    expect(answer.code).toBe(0);
    const groups = new Map<string, number>();
    for (const { image, group } of answer.json().faces) groups.set(image, group);
    expect(groups.get(ada)).toBe(groups.get(adaAgain));
    expect(groups.get(ada)).toBeGreaterThanOrEqual(0);
    expect(groups.get(bea)).not.toBe(groups.get(ada));
    expect(readFileSync(report, 'utf8')).toContain('data:image/');
  });
});
