// area: detection
// `facenet detect` and --detect as programs call them: JSON, files, exit codes. Runs dist/cli.js.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { canAlign } from '../src/cli/detection.ts';
import { photoPath } from './tiny-face.ts';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-detect-'));
afterAll(() => rmSync(folder, { recursive: true }));

function facenet(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, '--backend', 'wasm', ...args], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

const photo = photoPath('sample1.jpg');
const blank = join(folder, 'blank.ppm');
writeFileSync(blank, Buffer.concat([Buffer.from('P6 64 48 255\n'), Buffer.alloc(64 * 48 * 3, 90)]));
const broken = join(folder, 'broken.jpg');
writeFileSync(broken, 'no picture');

test('a line a photo, which is a list for --landmarks; crops and drawings; a photo without faces is an answer', {
  timeout: 180_000,
}, () => {
  const [crops, drawn] = [join(folder, 'crops'), join(folder, 'drawn')];
  const { status, stdout } = facenet('--jsonl', 'detect', photo, blank, '--crops', crops, '--draw', drawn);
  expect(status).toBe(0);
  const [first, second] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(first.faces).toHaveLength(3);
  expect(first.faces[0].landmarks).toHaveLength(5);
  expect(second).toMatchObject({ image: blank, width: 64, height: 48, faces: [] });
  expect(readdirSync(crops)).toHaveLength(3);
  for (const { crop } of first.faces) expect(existsSync(crop)).toBe(true);
  expect(readdirSync(drawn).sort()).toEqual(['blank.png', 'sample1.png']);
  const list = join(folder, 'faces.jsonl');
  writeFileSync(list, stdout);
  const listed = JSON.parse(facenet('--json', 'embed', photo, '--landmarks', list).stdout);
  const found = JSON.parse(facenet('--json', 'embed', photo, '--detect').stdout);
  expect(found.faces).toHaveLength(3);
  // Points are printed in hundredths of a pixel.
  found.faces.forEach(({ embedding }: { embedding: number[] }, i: number) =>
    embedding.forEach((value, k) => expect(Math.abs(value - listed.faces[i].embedding[k])).toBeLessThan(2e-3)),
  );
});

test('how many, of one and of several', { timeout: 60_000 }, () => {
  expect(facenet('detect', blank).stderr).toMatch(/^0 faces in 1 photo, /m);
  expect(facenet('detect', blank, blank).stderr).toMatch(/^0 faces in 2 photos, /m);
});

test('exit codes: no face 3, several faces 3, left out 6, no such detector 4, usage 2', { timeout: 180_000 }, () => {
  expect(facenet('embed', blank, '--detect')).toMatchObject({ status: 3 });
  const several = facenet('verify', photo, photo, '--detect');
  expect([several.status, several.stderr]).toEqual([3, expect.stringContaining('--largest')]);
  expect(facenet('verify', photo, photo, '--detect', '--largest').status).toBe(0);
  expect(facenet('--jsonl', 'detect', broken, photo, '--skip-bad').status).toBe(6);
  expect(facenet('detect', broken).status).toBe(3);
  expect(facenet('detect', photo, '--detector', 'nothing-here').status).toBe(4);
  expect(facenet('embed', photo, '--detect', '--aligned').status).toBe(2);
});

test('a face whose middle lies outside the photo cannot be aligned', () => {
  const face = (y: number) => ({
    landmarks: [
      [30, y - 10],
      [60, y - 10],
      [45, y],
      [34, y + 10],
      [56, y + 10],
    ] as const,
  });
  const picture = { data: new Uint8Array(90 * 96 * 3), width: 90, height: 96 };
  const able = (count: number) => [-3, 2, 50, 99].map((y) => canAlign(face(y), picture, { points: Array(count) }));
  // Of two points the eyes count alone, which lie ten pixels higher.
  expect([5, 2, 0].map(able)).toEqual([
    [false, true, true, false],
    [false, false, true, true],
    [true, true, true, true],
  ]);
});

const data = join(process.env.FACENET_SHARED ?? fileURLToPath(new URL('../../shared', import.meta.url)), 'data');
const cut = join(data, 'photos', 'openface', 'aligned', 'clapton-1.png');
test.runIf(existsSync(cut))(
  `one that reaches beyond its picture: found, not cut out (skipped loudly without ${cut})`,
  {
    timeout: 60_000,
  },
  () => {
    const detector = ['--detector', join(data, 'weights', 'mtcnn.safetensors')];
    const { status, stdout } = facenet('--jsonl', 'detect', cut, ...detector, '--crops', join(folder, 'cut'));
    const { faces } = JSON.parse(stdout);
    expect([status, faces.length, faces[0].crop]).toEqual([0, 1, undefined]);
    expect(facenet('embed', cut, ...detector)).toMatchObject({ status: 3, stderr: expect.stringContaining('outside') });
  },
);
