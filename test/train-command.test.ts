// `facenet train` as a program: a folder of pictures becomes a model; interrupted, resumed, and refused without a trace.
// area: training
// on: none
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCheckpoint, writeCheckpoint } from '../src/io/checkpoint.ts';
import { crc32 } from '../src/io/crc32.ts';
import { readModelFile } from '../src/io/model-file.ts';
import { bundleSource } from './bundle.mjs';
import { tinyPeople } from './training-net.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const program = join(root, '.cache', 'programs', `train-command-${process.pid}.mjs`);
const folder = mkdtempSync(join(tmpdir(), 'facenet-train-'));
const people = join(folder, 'people');

/** PNG of RGB pixels, filter 0 in every row (PNG specification, sections 5 and 9). */
function png({ data, width, height }: { data: Uint8Array; width: number; height: number }): Uint8Array {
  const chunk = (type: string, body: Uint8Array): Buffer => {
    const content = Buffer.concat([Buffer.from(type, 'latin1'), body]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(body.length, 0);
    frame.writeUInt32BE(crc32(content) >>> 0, 4);
    return Buffer.concat([frame.subarray(0, 4), content, frame.subarray(4)]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Buffer.alloc(height * (3 * width + 1));
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * width * 3, (y + 1) * width * 3), y * (3 * width + 1) + 1);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', new Uint8Array()),
  ]);
}

beforeAll(async () => {
  await bundleSource({ entry: join(root, 'src', 'cli', 'main.ts'), output: program, platform: 'node' });
  const data = tinyPeople(4, 4);
  for (let i = 0; i < data.labels.length; i++) {
    const person = join(people, `person ${data.labels[i]}`);
    mkdirSync(person, { recursive: true });
    const { pixels } = await data.read(i);
    writeFileSync(join(person, `${i}.png`), png(pixels as { data: Uint8Array; width: number; height: number }));
  }
}, 120_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(program, { force: true });
});

const tiny =
  '--network nn4.small2 --width 0.1 --size 64 --no-lrn --dimensions 8 --people 3 --per-person 3 --seed 5'.split(' ');

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Runs the command; `interruptAt` sends SIGINT when standard output first contains this text. */
function facenet(args: readonly string[], interruptAt?: string): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, '--backend', 'wasm', '--threads', '1', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, err, sent] = ['', '', false];
    child.stdout.on('data', (part) => {
      out += part;
      if (interruptAt !== undefined && !sent && out.includes(interruptAt)) sent = child.kill('SIGINT');
    });
    child.stderr.on('data', (part) => {
      err += part;
    });
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

const weights = (path: string) => {
  const { tensors, metadata } = readCheckpoint(new Uint8Array(readFileSync(path)), path);
  return {
    step: metadata.get('step'),
    tensors: [...tensors].map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64'),
    ]),
  };
};

describe('facenet train', () => {
  const at = (name: string) => join(folder, name);

  test('writes a model with its card, a checkpoint and a report', { timeout: 180_000 }, async () => {
    const files = [
      '--checkpoint',
      at('a.ckpt'),
      '--every',
      '2',
      '--out',
      at('a.safetensors'),
      '--half',
      '--report',
      at('a.html'),
      '--licence',
      'made by a test',
    ];
    const { code, out, err } = await facenet(['--json', 'train', people, ...tiny, '--steps', '4', ...files]);
    expect(code, err).toBe(0);
    const answer = JSON.parse(out) as Record<string, unknown>;
    expect(answer).toMatchObject({
      schema: 'facenet/train@1',
      network: 'nn4.small2',
      steps: 4,
      out: at('a.safetensors'),
      last: { step: 4 },
    });
    expect(err).toContain('step 4/4');
    const { metadata, tensors } = readModelFile(new Uint8Array(readFileSync(at('a.safetensors'))));
    expect(metadata).toMatchObject({
      network: 'nn4.small2',
      dimensions: 8,
      input: { width: 64, height: 64 },
      licence: 'made by a test',
      trainedOn: '16 pictures of 4 people in people',
      operatingPoints: [],
    });
    expect(metadata.source).toContain('4 steps, seed 5');
    expect([...tensors.values()].some(({ dtype }) => dtype === 'F16')).toBe(true);
    const page = readFileSync(at('a.html'), 'utf8');
    for (const title of ['loss', 'share of selected triplets', 'mean squared distance', 'gradient norm'])
      expect(page).toContain(`<h2>${title}`);
    expect(page.match(/<polyline/g)).toHaveLength(6);
    expect(page).not.toMatch(/NaN|https?:|<script/);
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
    // The model is one that the other commands open.
    const info = await facenet(['--json', 'info', at('a.safetensors')]);
    expect(info.code, info.err).toBe(0);
  });

  test('interrupted, it keeps the last whole step and ends with 130; resumed, it has the bits of the undisturbed run', {
    timeout: 180_000,
  }, async () => {
    const run = ['--jsonl', 'train', people, ...tiny, '--steps', '12'];
    const broken = await facenet([...run, '--checkpoint', at('b.ckpt'), '--every', '1000'], '"step":2,');
    expect(broken.code, broken.err).toBe(130);
    const kept = Number(weights(at('b.ckpt')).step);
    expect(kept).toBeGreaterThanOrEqual(2);
    expect(kept).toBeLessThan(12);
    const resumed = await facenet([...run, '--checkpoint', at('b.ckpt'), '--resume', at('b.ckpt')]);
    expect(resumed.code, resumed.err).toBe(0);
    expect(resumed.out.split('\n')[0]).toContain(`"step":${kept + 1},`);
    const whole = await facenet([...run, '--checkpoint', at('c.ckpt')]);
    expect(whole.code, whole.err).toBe(0);
    expect(weights(at('b.ckpt'))).toEqual(weights(at('c.ckpt')));
  });

  describe('refuses without writing', () => {
    const nothing = (name: string) => [
      '--out',
      at(`${name}.safetensors`),
      '--checkpoint',
      at(`${name}.ckpt`),
      '--report',
      at(`${name}.html`),
      '--steps',
      '3',
    ];
    const unwritten = (name: string) =>
      expect(readdirSync(folder).filter((file) => file.startsWith(`${name}.`))).toEqual([]);

    test.each([
      [
        'an empty folder',
        3,
        'one folder a person',
        () => {
          mkdirSync(at('none'));
          return [at('none')];
        },
      ],
      [
        'one person',
        3,
        'got 1 such people',
        () => {
          mkdirSync(at('one/x'), { recursive: true });
          for (const name of ['1', '2', '3'])
            writeFileSync(at(`one/x/${name}.png`), png({ data: new Uint8Array(24 * 24 * 3), width: 24, height: 24 }));
          return [at('one')];
        },
      ],
      ['a folder that is not there', 3, 'ENOENT', () => [at('nowhere')]],
      ['no place to write to', 3, '--out', () => [people, '--out', at('nowhere/x.safetensors')]],
      ['fewer people than asked', 3, '40 x 3', () => [people, '--people', '40']],
      [
        'a resume file that is none',
        4,
        'broken.ckpt',
        () => {
          writeFileSync(at('broken.ckpt'), 'x');
          return [people, '--resume', at('broken.ckpt')];
        },
      ],
    ] as const)('%s', { timeout: 60_000 }, async (title, code, part, prepare) => {
      const name = `refused ${title}`;
      const ended = await facenet(['train', ...nothing(name), ...tiny, ...prepare()]);
      expect(ended.code, ended.err).toBe(code);
      expect(ended.err).toContain(part);
      unwritten(name);
    });

    test('an image in the middle that cannot be read', { timeout: 60_000 }, async () => {
      const half = at('half');
      for (const person of ['a', 'b', 'c']) {
        mkdirSync(join(half, person), { recursive: true });
        for (const name of ['1.png', '2.png', '3.png'])
          writeFileSync(join(half, person, name), readFileSync(join(people, 'person 0', '0.png')));
      }
      writeFileSync(join(half, 'b', '2.png'), readFileSync(join(people, 'person 0', '0.png')).subarray(0, 200));
      const ended = await facenet(['train', half, ...nothing('middle'), ...tiny]);
      expect(ended.code, ended.err).toBe(3);
      expect(ended.err).toContain(join('b', '2.png'));
      unwritten('middle');
    });

    test('a checkpoint of another network, of other options, of a newer version', { timeout: 120_000 }, async () => {
      const made = await facenet(['train', people, ...tiny, '--steps', '2', '--checkpoint', at('d.ckpt')]);
      expect(made.code, made.err).toBe(0);
      const state = readCheckpoint(new Uint8Array(readFileSync(at('d.ckpt'))));
      writeFileSync(
        at('newer.ckpt'),
        writeCheckpoint({
          tensors: state.tensors,
          metadata: new Map(
            [...state.metadata]
              .filter(([key]) => key !== 'format')
              .map(([key, value]) => [key, key === 'version' ? '2' : value]),
          ),
        }),
      );
      for (const [args, part] of [
        [['--resume', at('d.ckpt'), '--network', 'nn4.small1'], 'network must be'],
        [['--resume', at('d.ckpt'), '--seed', '6'], 'seed must be'],
        [['--resume', at('newer.ckpt')], 'version'],
      ] as const) {
        const ended = await facenet(['train', people, ...tiny, ...nothing('resume'), '--steps', '2', ...args]);
        expect(ended.code, ended.err).toBe(4);
        expect(ended.err).toContain(part);
        unwritten('resume');
      }
    });

    test('a run that leads nowhere', { timeout: 60_000 }, async () => {
      const ended = await facenet(['train', people, ...tiny]);
      expect(ended.code).toBe(2);
      expect(ended.err).toContain('--checkpoint');
    });
  });
});
