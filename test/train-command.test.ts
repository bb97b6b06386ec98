// `facenet train` as a program: a folder of pictures becomes a model; interrupted, resumed, and refused without a trace.
// area: training
// on: none
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { readCheckpoint, writeCheckpoint } from '../src/io/checkpoint.ts';
import { crc32 } from '../src/io/crc32.ts';
import { writeEmbeddings } from '../src/io/embeddings-file.ts';
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

/** Runs the command; when standard output first contains `interruptAt` the signal is sent, `after` milliseconds later. */
function facenet(
  args: readonly string[],
  interruptAt?: string,
  signal: 'SIGINT' | 'SIGKILL' = 'SIGINT',
  after = 0,
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, '--backend', 'wasm', '--threads', '1', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, err, sent] = ['', '', false];
    child.stdout.on('data', (part) => {
      out += part;
      if (interruptAt === undefined || sent || !out.includes(interruptAt)) return;
      sent = true;
      if (after > 0) setTimeout(() => child.kill(signal), after);
      else child.kill(signal);
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

  test('resumed after 1, 7 and 20 steps: the bits of the undisturbed run at step 25', {
    timeout: 300_000,
  }, async () => {
    const run = ['train', people, ...tiny, '--steps', '25'];
    const whole = await facenet([...run, '--checkpoint', at('whole.ckpt')]);
    expect(whole.code, whole.err).toBe(0);
    for (const k of [1, 7, 20]) {
      // The last checkpoint before the interruption is that of step k.
      const broken = await facenet(
        ['--jsonl', ...run, '--checkpoint', at(`r${k}.ckpt`), '--every', String(k)],
        `"step":${k + 1},`,
        'SIGKILL',
      );
      expect(broken.code).toBe(null);
      const kept = Number(weights(at(`r${k}.ckpt`)).step);
      expect(kept % k).toBe(0);
      expect(kept).toBeGreaterThanOrEqual(k);
      const resumed = await facenet([...run, '--checkpoint', at(`r${k}.ckpt`), '--resume', at(`r${k}.ckpt`)]);
      expect(resumed.code, resumed.err).toBe(0);
      expect(weights(at(`r${k}.ckpt`)), `resumed after ${k}`).toEqual(weights(at('whole.ckpt')));
    }
  });

  // By default 5 kills; all of the fifty are in the slow tier, and fifty of the writing itself in io-atomic-file.test.ts.
  const kills = Number(process.env.FACENET_KILLS ?? (process.env.FACENET_TIER === 'all' ? 50 : 5));
  test(`killed (-9) ${kills} times while it writes a checkpoint a step: always a whole file, and it goes on`, {
    timeout: 60_000 + kills * 20_000,
  }, async () => {
    const file = at('killed.ckpt');
    const run = ['--jsonl', 'train', people, ...tiny, '--steps', '4000', '--checkpoint', file, '--every', '1'];
    let reached = 0;
    for (let kill = 0; kill < kills; kill++) {
      const resume = reached > 0 ? ['--resume', file] : [];
      // After a step's line its checkpoint is written: somewhere in there.
      const ended = await facenet([...run, ...resume], `"step":${reached + 3},`, 'SIGKILL', (kill * 13) % 40);
      expect(ended.code, ended.err).toBe(null);
      const kept = Number(weights(file).step);
      expect(kept, `kill ${kill}`).toBeGreaterThanOrEqual(reached + 2);
      reached = kept;
    }
    const strays = readdirSync(folder).filter((name) => name.startsWith('killed.ckpt.'));
    const last = await facenet([...run, '--resume', file, '--steps', '4000'], `"step":${reached + 1},`);
    expect(last.code, last.err).toBe(130);
    expect(
      readdirSync(folder).filter((name) => name.startsWith('killed.ckpt.')),
      `${strays} before`,
    ).toEqual([]);
  });

  test('phases from a file, held-out people, a tar archive', { timeout: 180_000 }, async () => {
    execFileSync('tar', ['-cf', at('people.tar'), '-C', folder, 'people']);
    writeFileSync(
      at('phases.json'),
      JSON.stringify([
        { steps: 2, loss: 'cosine-margin', sampler: 'shuffled', people: 9, perPerson: 1, optimizer: 'adam' },
        {
          steps: 3,
          people: 3,
          perPerson: 3,
          curriculum: [{ miner: 'random', until: { step: 1 } }, { miner: 'semi-hard' }],
        },
      ]),
    );
    const small = '--network nn4.small2 --width 0.1 --size 64 --no-lrn --dimensions 8 --seed 5'.split(' ');
    const run = ['--jsonl', 'train', at('people.tar'), ...small, '--phases', at('phases.json')];
    const ended = await facenet([
      ...run,
      ...['--out', at('p.safetensors'), '--report', at('p.html'), '--validate', people, '--evaluate-every', '2'],
    ]);
    expect(ended.code, ended.err).toBe(0);
    const steps = ended.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: number; phase: number; validation?: { accuracy: number } });
    expect(steps.map(({ phase }) => phase)).toEqual([0, 0, 1, 1, 1]);
    expect(steps.filter(({ validation }) => validation).map(({ step }) => step)).toEqual([2, 4, 5]);
    expect(ended.err).toContain('step 5  held out: accuracy');
    const page = readFileSync(at('p.html'), 'utf8');
    for (const title of ['accuracy on pairs', 'VAL on held-out people']) expect(page).toContain(`<h2>${title}`);
    expect(page).not.toMatch(/NaN|https?:|<script/);
    // The archive holds what the folder holds.
    const folderRun = await facenet(['--jsonl', 'train', people, ...run.slice(3), '--out', at('q.safetensors')]);
    expect(folderRun.code, folderRun.err).toBe(0);
    const loss = (out: string) =>
      out
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { loss: number }).loss);
    expect(loss(folderRun.out)).toEqual(loss(ended.out));
  });

  test('pictures of mixed sizes and shapes are cut to the crop', { timeout: 60_000 }, async () => {
    const mixed = at('mixed');
    for (const person of ['a', 'b', 'c']) {
      mkdirSync(join(mixed, person), { recursive: true });
      [24, 31, 64].forEach((side, i) => {
        const [width, height] = [side, side + 7 * i];
        const data = Uint8Array.from(
          { length: width * height * 3 },
          (_, at) => (at * person.charCodeAt(0) + i * 40) & 255,
        );
        writeFileSync(join(mixed, person, `${i}.png`), png({ data, width, height }));
      });
    }
    const ended = await facenet(['--json', 'train', mixed, ...tiny, '--steps', '2', '--checkpoint', at('mixed.ckpt')]);
    expect(ended.code, ended.err).toBe(0);
    expect(Number.isFinite((JSON.parse(ended.out) as { last: { loss: number } }).last.loss)).toBe(true);
  });

  test('a teacher: target embeddings found by folder and name', { timeout: 120_000 }, async () => {
    const files = readdirSync(people).flatMap((name) =>
      readdirSync(join(people, name)).map((file) => join('x', name, file)),
    );
    const random = new Philox(3, 3);
    const vectors = Float32Array.from({ length: files.length * 8 }, () => random.uniform() - 0.5);
    const file = { vectors, count: files.length, dimensions: 8, fingerprint: 't', paths: files };
    writeFileSync(at('teacher.safetensors'), writeEmbeddings(file));
    const run = ['--json', 'train', people, ...tiny, '--loss', 'distill', '--steps', '3', '--out', at('t.safetensors')];
    const ended = await facenet([...run, '--teacher', at('teacher.safetensors')]);
    expect(ended.code, ended.err).toBe(0);
    writeFileSync(
      at('fewer.safetensors'),
      writeEmbeddings({ ...file, vectors: vectors.subarray(8), count: files.length - 1, paths: files.slice(1) }),
    );
    const fewer = await facenet([...run, '--teacher', at('fewer.safetensors')]);
    expect([fewer.code, fewer.err]).toEqual([3, expect.stringContaining('an embedding of every picture')]);
    const none = await facenet(run);
    expect([none.code, none.err]).toEqual([3, expect.stringContaining('needs a teacher')]);
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
      [
        'an archive that is cut off',
        3,
        'It was cut off',
        () => {
          execFileSync('tar', ['-cf', at('whole.tar'), '-C', folder, 'people']);
          writeFileSync(at('cut.tar'), readFileSync(at('whole.tar')).subarray(0, 5000));
          return [at('cut.tar')];
        },
      ],
      [
        'a file that is no archive',
        3,
        'another format',
        () => {
          writeFileSync(at('text.tar'), 'x'.repeat(2000));
          return [at('text.tar')];
        },
      ],
      [
        'phases with a field that is none',
        3,
        'phase 0: a field is one of steps',
        () => {
          writeFileSync(at('strange.json'), '[{ "steps": 3, "persons": 4 }]');
          return [people, '--phases', at('strange.json')];
        },
      ],
      [
        'phases that hold text for a number',
        3,
        'phase 0: margin: must be a number, got "0.2"',
        () => {
          writeFileSync(at('text.json'), '[{ "steps": 3, "margin": "0.2" }]');
          return [people, '--phases', at('text.json')];
        },
      ],
      ['held-out people that are not there', 3, 'ENOENT', () => [people, '--validate', at('nowhere')]],
      [
        'held-out people who cannot make a pair',
        3,
        'pairs of one person and of two',
        () => {
          mkdirSync(at('single/x'), { recursive: true });
          writeFileSync(at('single/x/1.png'), readFileSync(join(people, 'person 0', '0.png')));
          return [people, '--validate', at('single')];
        },
      ],
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
      const phases = title.startsWith('phases');
      const target = phases ? nothing(name).slice(0, -2) : nothing(name);
      const shape = phases ? tiny.filter((_, i) => i < 9 || i > 12) : tiny;
      const ended = await facenet(['train', ...target, ...shape, ...prepare()]);
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
