// area: tasks
//
// The command `facenet` as a program: dist/cli.js in processes of its own.
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FaceList, readFaceList } from '../src/cli/face-list.ts';
import { type OutputOptions, Terminal, table } from '../src/cli/terminal.ts';
import { FaceNetError } from '../src/errors.ts';
import { readEmbeddings, readEmbeddingsCsv, readEmbeddingsNpy } from '../src/io/embeddings-file.ts';
import { readModelFile, writeModelFile } from '../src/io/model-file.ts';
import { ImageReader } from '../src/io/node/image-files.ts';
import { FaceNetGPU } from '../src/node.ts';
import { pngChunk, writeFlatJpeg } from './oracles/plain-images.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const cli = join(root, 'dist', 'cli.js');
const photos = join(root, 'node_modules', '@vladmandic', 'face-api', 'demo');
const facesFile = join(root, 'demo', 'faces.json');
const folder = mkdtempSync(join(tmpdir(), 'facenet-cli-'));
const crops = join(folder, 'crops');
const at = (name: string): string => join(folder, name);

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The answer as JSON. */
  readonly json: () => Record<string, unknown>;
  readonly lines: () => Record<string, unknown>[];
}

interface Start {
  readonly input?: string | Uint8Array;
  readonly program?: string;
  readonly nodeOptions?: readonly string[];
  /** Called once something was written to standard error. */
  readonly meanwhile?: (child: ReturnType<typeof spawn>) => void;
}

/** Runs the command to its end. Its standard input is closed unless there is `input` or something to do meanwhile. */
function facenet(
  args: readonly string[],
  { input, program = cli, nodeOptions = [], meanwhile }: Start = {},
): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [...nodeOptions, program, ...args], { cwd: folder, stdio: 'pipe' });
    const [out, err]: Buffer[][] = [[], []];
    child.stdout.on('data', (part: Buffer) => out.push(part));
    child.stderr.on('data', (part: Buffer) => err.push(part));
    child.stdin.on('error', () => {});
    if (meanwhile) meanwhile(child);
    else child.stdin.end(input ?? '');
    child.on('close', (code, signal) => {
      const stdout = Buffer.concat(out).toString();
      done({
        code,
        signal,
        stdout,
        stderr: Buffer.concat(err).toString(),
        json: () => JSON.parse(stdout) as Record<string, unknown>,
        lines: () =>
          stdout
            .trimEnd()
            .split('\n')
            .map((line) => JSON.parse(line) as Record<string, unknown>),
      });
    });
  });
}

/** On the backend that every machine has. */
const onWasm = (args: readonly string[], start?: Start) => facenet(['--backend', 'wasm', ...args], start);

let net: FaceNetGPU;
/** Two photos of one woman, one of another. */
const [first, again, other] = ['sample1-1c.png', 'sample3-3b.png', 'sample3-3a.png'].map((name) =>
  join(crops, name),
) as [string, string, string];

beforeAll(async () => {
  net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: 'wasm' });
  const made = await onWasm([
    'align',
    join(photos, 'sample1.jpg'),
    join(photos, 'sample3.jpg'),
    '--landmarks',
    facesFile,
    '--out',
    crops,
    '--quiet',
  ]);
  expect(made).toMatchObject({ code: 0, stderr: '' });
});
afterAll(async () => {
  await net?.dispose();
  rmSync(folder, { recursive: true });
});

describe('usage', () => {
  test('help and version are answers', async () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    expect(await facenet(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
    const help = await facenet(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    for (const word of ['embed', 'verify', 'align', 'info', '--backend', 'Exit codes: 0'])
      expect(help.stdout).toContain(word);
  });

  test.each([
    [['embde'], /Did you mean embed/],
    [[], /Usage/],
    [['embed'], /missing required argument/],
    [['verify', 'a.png'], /two photos to compare/],
    [['verify', 'a.png', 'b.png', '--threshold', '5'], /from 0 to 4/],
    [['verify', 'a.png', 'b.png', '--threshold', '1', '--far', '0.1'], /cannot be used with/],
    [['embed', 'a.png', '--aligned', '--landmarks', 'x.json'], /cannot be used with/],
    [['--threads', '1.5', 'info'], /whole number/],
    [['--backend', 'cuda', 'info'], /Allowed choices/],
    [['--json', '--jsonl', 'info'], /cannot be used with/],
    [['align', 'a.png'], /--out/],
  ] as const)('%j: exit code 2, nothing on standard output', async (args, words) => {
    const { code, stdout, stderr } = await facenet(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(words);
    if (!args.some((word) => word.startsWith('--json'))) expect(stdout).toBe('');
  });
});

describe('embed', () => {
  test('text, JSON, JSON lines and three kinds of file hold the same numbers as the API', async () => {
    const { data } = await net.embed([first, again]);
    const close = (values: ArrayLike<number>, row: number) => {
      expect(values.length).toBe(128);
      expect(Float32Array.from(values)).toEqual(data.slice(row * 128, (row + 1) * 128));
    };
    const args = ['embed', '--aligned', first, again];
    const text = await onWasm(args);
    expect(text.code).toBe(0);
    text.stdout
      .trimEnd()
      .split('\n')
      .forEach((line, row) => {
        const [path, ...values] = line.split('\t');
        expect(path).toBe([first, again][row]);
        close(values.map(Number), row);
      });
    expect(text.stderr).toMatch(/^2 faces in .* on wasm/);

    const document = (await onWasm([...args, '--json'])).json() as {
      schema: string;
      fingerprint: string;
      faces: { image: string; embedding: number[] }[];
    };
    expect(document).toMatchObject({
      schema: 'facenet/embed@1',
      model: 'dlib-resnet',
      dimensions: 128,
      backend: 'wasm',
      fingerprint: net.fingerprint,
      skipped: [],
    });
    document.faces.forEach(({ embedding }, row) => close(embedding, row));

    const lines = (await onWasm([...args, '--jsonl'])).lines() as { index: number; embedding: number[] }[];
    expect(lines.map(({ index }) => index)).toEqual([0, 1]);
    lines.forEach(({ embedding }, row) => close(embedding, row));

    for (const ending of ['safetensors', 'npy', 'csv']) {
      const file = at(`out.${ending}`);
      expect(await onWasm([...args, '--quiet', '--out', file])).toMatchObject({
        code: 0,
        stdout: `${file}: 2 x 128\n`,
        stderr: '',
      });
      const bytes = new Uint8Array(readFileSync(file));
      const beside = existsSync(`${file}.json`) ? readFileSync(`${file}.json`, 'utf8') : undefined;
      const read =
        ending === 'safetensors'
          ? readEmbeddings(bytes)
          : ending === 'npy'
            ? readEmbeddingsNpy(bytes, beside)
            : readEmbeddingsCsv(new TextDecoder().decode(bytes), beside);
      expect(read).toMatchObject({ count: 2, dimensions: 128, fingerprint: net.fingerprint, paths: [first, again] });
      expect(read.vectors).toEqual(data);
    }
    expect(await onWasm([...args, '--out', at('out.txt')])).toMatchObject({ code: 3, stdout: '' });
  }, 120_000);

  test('a folder stands for its images, sorted; - for an image or a list', async () => {
    const names = ['1a', '1b', '1c'].map((name) => join(crops, `sample1-${name}.png`));
    const sorted = [...names, ...['3a', '3b', '3c'].map((name) => join(crops, `sample3-${name}.png`))];
    writeFileSync(join(crops, 'notes.txt'), 'no image');
    const images = async (args: string[], input?: string | Uint8Array) =>
      (await onWasm(['--jsonl', 'embed', '--aligned', ...args], input === undefined ? {} : { input }))
        .lines()
        .map(({ image }) => image);
    expect(await images([crops])).toEqual(sorted);
    expect(await images(['-'], `${names.join('\n')}\n\n`)).toEqual(names);
    expect(await images(['-', names[1] as string], readFileSync(first))).toEqual(['-', names[1]]);
  });

  test('without landmarks it says what it assumes', async () => {
    const { code, stderr } = await onWasm(['embed', join(photos, 'sample1.jpg'), first]);
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /warning: .*sample1\.jpg and all others are taken for face crops \(this one cut to the middle square\).*--landmarks FILE/,
    );
    expect(stderr.match(/warning/g)).toHaveLength(1);
    expect((await onWasm(['embed', '--aligned', join(photos, 'sample1.jpg')])).stderr).toMatch(
      /sample1\.jpg: --aligned needs crops of the proportions 150 x 150, got 1920 x 1280/,
    );
  });

  test('several faces of a photo, by landmarks', async () => {
    const { json } = await onWasm(['--json', 'embed', join(photos, 'sample1.jpg'), '--landmarks', facesFile]);
    const { faces } = json() as { faces: { face: number; name: string; embedding: number[] }[] };
    expect(faces.map(({ face, name }) => [face, name])).toEqual([
      [0, '1a'],
      [1, '1b'],
      [2, '1c'],
    ]);
    const { data } = await net.embed({
      image: join(photos, 'sample1.jpg'),
      landmarks: [
        [1558, 281],
        [1618, 335],
      ],
    });
    expect(Float32Array.from(faces[2]!.embedding)).toEqual(data);
  });
});

describe('verify', () => {
  test('exit code 0 for one person, 1 for two', async () => {
    const same = await onWasm(['verify', '--aligned', first, again]);
    expect(same.code).toBe(0);
    expect(same.stdout).toMatch(
      /^same person: 0\.\d{4} <= 0\.1474\n.*0\.10 % of pairs of strangers pass \(95 %: .* % to .* %\)/,
    );
    const different = await onWasm(['verify', '--aligned', first, other]);
    expect(different.code).toBe(1);
    expect(different.stdout).toMatch(/^different people: 0\.\d{4} > 0\.1474\n/);
  });

  test('JSON gives distance and operating point; threshold and FAR choose another', async () => {
    const answer = await onWasm(['verify', '--aligned', '--json', '--far', '0.01', first, again]);
    const { distance } = await net.verify(first, again);
    expect(answer.json()).toMatchObject({
      schema: 'facenet/verify@1',
      same: true,
      distance,
      a: first,
      b: again,
      fingerprint: net.fingerprint,
      backend: 'wasm',
    });
    expect((answer.json().point as { far: number }).far).toBeCloseTo(0.01, 4);
    expect((await onWasm(['verify', '--aligned', '--threshold', '0.01', first, again])).code).toBe(1);
    const uncalibrated = await onWasm(['verify', '--aligned', '--json', '--far', '1e-9', first, again]);
    expect(uncalibrated.code).toBe(4);
    expect(uncalibrated.json()).toMatchObject({ error: { code: 'not-calibrated' } });
  });

  test('one of both from standard input', async () => {
    expect((await onWasm(['verify', '--aligned', '-', again], { input: readFileSync(first) })).code).toBe(0);
  });

  test('pairs from a file: a line each, in order; with --skip-bad past what cannot be read', async () => {
    writeFileSync(
      at('pairs.txt'),
      `${first}\t${again}\n\n${first}\t${other}\n${first}\t${at('gone.png')}\n${again}\t${again}\n`,
    );
    const strict = await onWasm(['verify', '--aligned', '--pairs', at('pairs.txt')]);
    expect(strict).toMatchObject({ code: 3 });
    expect(strict.stderr).toContain(`facenet: ${at('gone.png')}: a readable file, got nothing there.`);
    const { code, lines } = await onWasm(['verify', '--aligned', '--skip-bad', '--pairs', at('pairs.txt')]);
    expect(code).toBe(6);
    expect(
      lines().map(({ index, same, error }) => [index, same, (error as { code: string } | undefined)?.code]),
    ).toEqual([
      [0, true, undefined],
      [1, false, undefined],
      [2, undefined, 'input'],
      [3, true, undefined],
    ]);
    expect(lines()[3]).toMatchObject({ distance: 0 });
    expect((await onWasm(['verify', '--aligned', '--pairs', '-'], { input: `${first} ${again}` })).code).toBe(0);
    expect(
      (await onWasm(['verify', '--aligned', '--pairs', '-'], { input: `${first} ${again} ${other}` })).stderr,
    ).toMatch(/lines of two paths, got .* in line 1/);
  });

  test('a photo with several faces is refused: which one is not known', async () => {
    const { code, stderr } = await onWasm([
      'verify',
      join(photos, 'sample1.jpg'),
      join(photos, 'sample3.jpg'),
      '--landmarks',
      facesFile,
    ]);
    expect(code).toBe(3);
    expect(stderr).toMatch(/sample1\.jpg: one face, got several in .*faces\.json/);
  });
});

describe('align', () => {
  test('writes the very pixels that align() gives', async () => {
    const { data } = await net.align({
      image: join(photos, 'sample1.jpg'),
      landmarks: [
        [1558, 281],
        [1618, 335],
      ],
    });
    const { data: written, width, height } = await new ImageReader().read(first);
    expect([width, height]).toEqual([150, 150]);
    for (let i = 0; i < 150 * 150; i++) for (let c = 0; c < 3; c++) expect(written[4 * i + c]).toBe(data[3 * i + c]);
  });

  test('one face to a file; several need a folder', async () => {
    const file = at('one.png');
    const args = ['--landmarks', facesFile, '--out', file, '--quiet'];
    expect((await onWasm(['align', join(photos, 'sample1.jpg'), ...args])).stderr).toMatch(
      /--out: a folder for several faces/,
    );
    expect(await onWasm(['align', first, '--aligned', '--out', file])).toMatchObject({ code: 0, stdout: `${file}\n` });
    const { crops: made } = (await onWasm(['align', '--json', crops, '--aligned', '--out', at('again')])).json() as {
      crops: { file: string }[];
    };
    expect(made).toHaveLength(6);
    for (const { file: path } of made) expect(existsSync(path)).toBe(true);
  });
});

describe('info', () => {
  test('this machine', async () => {
    const { code, json } = await facenet(['info', '--json', '--no-time']);
    expect(code).toBe(0);
    expect(json()).toMatchObject({ schema: 'facenet/probe@1', webgpu: { available: false }, wasm: { simd: true } });
    const { stdout } = await facenet(['info', '--no-time']);
    expect(stdout).toMatch(/WebGPU +not available/);
    expect(stdout).toMatch(/wasm +SIMD yes/);
  });

  test('a network beside the published figures', async () => {
    const { stdout } = await facenet(['info', 'nn2']);
    expect(stdout).toMatch(/inception3a +28 x 28 x 256 +1x1 3x3 5x5 +1 +163,696 +128,049,152 +164K +128M/);
    expect(stdout).toMatch(/conv1 +112 x 112 x 64 +7x7 +2 +9,472/);
    const { json } = await facenet(['info', 'nn1', '--json']);
    const { parameters, layers } = json() as { parameters: number; layers: { parameters: number; output: number[] }[] };
    expect(layers.reduce((sum, layer) => sum + layer.parameters, 0)).toBe(parameters);
    expect(layers.at(-1)!.output).toEqual([128]);
  });

  test('a model file, an image, a name that is neither', async () => {
    const model = join(root, 'dist', 'models', 'dlib-resnet.safetensors');
    const { stdout } = await facenet(['info', model]);
    for (const word of ['CC0', 'template dlib (47.7, 47.1) (100.3, 47.1)', '0.1474', net.model.sha256])
      expect(stdout).toContain(word);
    expect((await facenet(['info', '--json', model])).json()).toMatchObject({
      schema: 'facenet/model@1',
      network: 'dlib-resnet',
      dimensions: 128,
      tensors: 117,
    });
    expect((await facenet(['info', '--json', first])).json()).toMatchObject({
      schema: 'facenet/image@1',
      format: 'png',
      width: 150,
      height: 150,
    });
    expect(await facenet(['info', 'nn9'])).toMatchObject({ code: 3, stdout: '' });
  });
});

/** Files that no face comes out of: name, content, what is said. */
const declared = (width: number, height: number): Buffer => {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([
    signature,
    pngChunk('IHDR', header),
    pngChunk('IDAT', Buffer.alloc(64)),
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
};
const bad: readonly (readonly [name: string, content: () => Uint8Array, words: RegExp])[] = [
  ['cmyk.jpg', () => writeFlatJpeg([[[1, 2, 3, 4]]]), /CMYK.*npm i sharp/],
  ['cut.jpg', () => readFileSync(join(photos, 'sample2.jpg')).subarray(0, 50_000), /truncated|intact|complete/i],
  ['cut.png', () => readFileSync(first).subarray(0, 9_000), /truncated|intact|complete|ends/i],
  ['empty.jpg', () => new Uint8Array(), /empty file/],
  ['huge.png', () => declared(60_000, 60_000), /at most 100 megapixels, got 60000 x 60000/],
  ['text.png', () => Buffer.from('no image at all'), /no known image format/],
  ['zero.png', () => declared(0, 0), /0 x 0/],
];

describe('bad input', () => {
  const mixed = at('mixed');
  beforeAll(() => {
    mkdirSync(mixed);
    for (const [name, content] of bad) writeFileSync(join(mixed, name), content());
    for (const [i, path] of [first, again, other].entries()) copyFileSync(path, join(mixed, `good${i}.png`));
    mkdirSync(join(mixed, 'folder.png'));
  });

  test.each(bad)('%s: exit code 3 and a message with file, rule and remedy', async (name, _, words) => {
    const path = join(mixed, name);
    const { code, stdout, stderr } = await onWasm(['embed', '--aligned', '--quiet', path]);
    expect([code, stdout]).toEqual([3, '']);
    expect(stderr).toMatch(words);
    // "file: rule, got value. remedy." on one line.
    expect(stderr).toMatch(new RegExp(`^facenet: ${path.replaceAll(/[.\\]/g, '\\$&')}: .+, got .+\\. .+\\.\n$`));
    await expect(net.embed(path)).rejects.toMatchObject({ name: 'FaceNetError', code: 'image', index: 0 });
    const error = (await net.verify(first, path).catch((reason: unknown) => reason)) as FaceNetError;
    expect(error.message.startsWith(`${path}: `)).toBe(true);
  });

  test('a folder for a photo, an empty folder, a path where nothing is', async () => {
    const empty = at('empty');
    mkdirSync(empty);
    for (const [args, words] of [
      [['verify', '--aligned', first, crops], `${crops}: a file, got a folder. Name a file in it.`],
      [['embed', empty], `${empty}: a folder with images (.jpg, .png, ...), got none in it.`],
      [['embed', at('gone.jpg')], `${at('gone.jpg')}: a readable file, got nothing there. Check the path.`],
      [['embed', '-'], '-: an image or a list of paths on standard input, got nothing.'],
    ] as const) {
      const { code, stdout, stderr } = await onWasm(args);
      expect([code, stdout]).toEqual([3, '']);
      expect(stderr).toContain(`facenet: ${words}`);
    }
    await expect(net.embed(crops)).rejects.toMatchObject({ code: 'input' });
  });

  test('--skip-bad goes on; the good ones keep their bits, each bad one has its line', async () => {
    const { data } = await net.embed([first, again, other]);
    const { code, lines, stderr } = await onWasm(['--jsonl', 'embed', '--aligned', '--skip-bad', mixed]);
    expect(code).toBe(6);
    const answers = lines() as {
      index: number;
      image: string;
      embedding?: number[];
      error?: { code: string; message: string; index: number };
    }[];
    expect(answers.map(({ index }) => index)).toEqual(answers.map((_, i) => i));
    const good = answers.filter(({ embedding }) => embedding);
    expect(good.map(({ image }) => image)).toEqual([0, 1, 2].map((i) => join(mixed, `good${i}.png`)));
    good.forEach(({ embedding }, row) =>
      expect(Float32Array.from(embedding!)).toEqual(data.slice(row * 128, (row + 1) * 128)),
    );
    const failed = answers.filter(({ error }) => error);
    expect(failed.map(({ image }) => image)).toEqual(bad.map(([name]) => join(mixed, name)));
    for (const { index, error } of failed) expect(error).toMatchObject({ code: 'image', index });
    expect(stderr).toMatch(/^3 faces in/m);
    const document = (await onWasm(['--json', 'embed', '--aligned', '--skip-bad', mixed])).json() as {
      faces: unknown[];
      skipped: unknown[];
    };
    expect([document.faces.length, document.skipped.length]).toEqual([3, bad.length]);
  });

  test('landmarks outside the photo, too near, upside down, of no face: named with the photo', async () => {
    const photo = join(photos, 'sample1.jpg');
    const list = (landmarks: unknown) => {
      writeFileSync(at('list.json'), JSON.stringify({ photos: [{ image: 'sample1.jpg', faces: [{ landmarks }] }] }));
      return ['--landmarks', at('list.json')];
    };
    const outside = [
      [5000, 5000],
      [5100, 5000],
    ];
    const { code, stderr } = await onWasm(['embed', photo, ...list(outside)]);
    expect(code).toBe(3);
    expect(stderr).toMatch(/sample1\.jpg: landmarks: .*1920 x 1280.*got/);
    await expect(net.embed({ image: photo, landmarks: outside as [number, number][] })).rejects.toMatchObject({
      code: 'input',
      index: 0,
      message: expect.stringContaining(`${photo}: landmarks: `),
    });
    for (const [landmarks, words] of [
      [
        [
          [10, 10],
          [10.2, 10],
        ],
        /at least 1 pixel apart/,
      ],
      [[[10, 10]], /2 or 5 or 68 points/],
      [
        [
          [10, null],
          [20, 20],
        ],
        /face 0 of sample1\.jpg has "landmarks"/,
      ],
    ] as const) {
      const result = await onWasm(['embed', photo, ...list(landmarks)]);
      expect([result.code, result.stdout]).toEqual([3, '']);
      expect(result.stderr).toMatch(words);
    }
    const missing = await onWasm([
      '--json',
      'embed',
      '--skip-bad',
      photo,
      join(photos, 'sample2.jpg'),
      ...list([
        [1558, 281],
        [1618, 335],
      ]),
    ]);
    expect(missing.code).toBe(6);
    expect(missing.json()).toMatchObject({
      faces: [{ index: 0 }],
      skipped: [{ index: 1, error: { code: 'no-face' } }],
    });
  });
});

describe('models', () => {
  const packaged = join(root, 'dist', 'models', 'dlib-resnet.safetensors');
  const fails = async (model: string): Promise<Ended> => {
    const ended = await onWasm(['--json', '--model', model, 'embed', '--aligned', first]);
    expect(ended.json()).toMatchObject({ schema: 'facenet/error@1', error: { code: 'model' } });
    expect(ended.code).toBe(4);
    return ended;
  };

  test('weights of another network: every tensor that does not fit is named', async () => {
    const { metadata, tensors, quantization } = readModelFile(new Uint8Array(readFileSync(packaged)));
    const other = at('other.safetensors');
    writeFileSync(other, writeModelFile({ metadata: { ...metadata, network: 'nn4.small2' }, tensors, quantization }));
    const { stderr } = await fails(other);
    expect(stderr).toMatch(
      /other: every tensor of the network and no other, got .*missing: .*conv1.*surplus: .*conv32_down.*Use the weights of this network\./s,
    );
    expect(stderr).toMatch(/^facenet: other:.*\n$/);
  });

  test('a model that was cut, changed, is none, or does not exist', async () => {
    const bytes = readFileSync(packaged);
    writeFileSync(at('cut.safetensors'), bytes.subarray(0, 1_000_000));
    await fails(at('cut.safetensors'));
    writeFileSync(at('text.safetensors'), 'weights');
    await fails(at('text.safetensors'));
    const { stderr } = await fails('dlib');
    expect(stderr).toMatch(/got "dlib", which is neither\. Packaged: dlib-resnet\./);
    await fails(first);
  });
});

describe('the program', () => {
  test('no adapter: exit code 5, and why', async () => {
    const { code, stdout, stderr } = await facenet(['--backend', 'webgpu', 'embed', '--aligned', first]);
    expect([code, stdout]).toEqual([5, '']);
    expect(stderr).toMatch(/^facenet: /m);
    // 'auto' computes all the same.
    expect((await facenet(['embed', '--aligned', first])).stderr).toMatch(/on wasm/);
  });

  test('a crash is 70: while loading, in a callback, in a promise, and when nothing is left to do', async () => {
    // A copy without the file it needs.
    const alone = at('alone.mjs');
    copyFileSync(cli, alone);
    const broken = await facenet(['info'], { program: alone });
    expect(broken.code).toBe(70);
    expect(broken.stderr).toMatch(/^facenet: internal error, please report it\.\n/);
    // Faults planted at the moment when the program asks for its standard input.
    const planted = (fault: string) => ({
      nodeOptions: [
        '--import',
        `data:text/javascript,${encodeURIComponent(`
          import { Readable } from 'node:stream';
          Object.defineProperty(process, 'stdin', { get() { ${fault}; return new Readable({ read() {} }); } });`)}`,
      ],
    });
    for (const fault of [
      'setTimeout(() => { throw new Error("planted"); }, 10)',
      'setTimeout(() => Promise.reject(new Error("planted")), 10)',
      'throw new Error("planted")',
    ]) {
      const { code, stdout, stderr } = await facenet(['embed', '-'], planted(fault));
      expect([code, stdout], fault).toEqual([70, '']);
      expect(stderr).toMatch(/^facenet: internal error, please report it\.\nError: planted/);
    }
    // Standard input that never ends and keeps nothing alive.
    const ended = await facenet(['embed', '-'], planted(''));
    expect(ended.code).toBe(70);
  });

  test.skipIf(process.platform === 'win32')('Ctrl-C ends it in order with 130, a second one at once', async () => {
    const waiting = (signals: number) => (child: ReturnType<typeof spawn>) => {
      // It waits for standard input.
      let sent = 0;
      const timer = setInterval(() => {
        child.kill('SIGINT');
        if (++sent === signals) clearInterval(timer);
      }, 1500);
    };
    const { code, stdout, stderr } = await facenet(['embed', '-'], { meanwhile: waiting(1) });
    expect([code, stdout]).toEqual([130, '']);
    expect(stderr).toMatch(/^facenet: stopping/);
    // An input that does not hear the first one.
    const deaf = `
      import { Readable } from 'node:stream';
      setInterval(() => {}, 1000);
      const input = new Readable({ read() {}, destroy() {} });
      Object.defineProperty(process, 'stdin', { get: () => input });`;
    const twice = await facenet(['embed', '-'], {
      nodeOptions: ['--import', `data:text/javascript,${encodeURIComponent(deaf)}`],
      meanwhile: waiting(2),
    });
    expect(twice.code).toBe(130);
  });

  test('an end of the reader is no crash', async () => {
    const { code, stderr } = await facenet(['info', 'nn2', '--json'], {
      meanwhile: (child) => child.stdout!.destroy(),
    });
    expect([0, 141]).toContain(code);
    expect(stderr).toBe('');
  });

  test('no escape codes where no terminal is, whatever is asked', async () => {
    const { stdout, stderr } = await onWasm(['verify', '--aligned', first, again]);
    expect(stdout + stderr).not.toContain('\u001b');
  });
});

describe('Terminal', () => {
  const made = (options: Partial<OutputOptions> = {}, isTTY = true) => {
    const streams = {
      stdout: Object.assign(new PassThrough(), { isTTY }),
      stderr: Object.assign(new PassThrough(), { isTTY }),
    };
    const terminal = new Terminal(streams, { format: 'text', quiet: false, colour: true, ...options });
    const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? '';
    return { terminal, out: () => text(streams.stdout), err: () => text(streams.stderr) };
  };

  test('colours only for people who want them', () => {
    expect(made().terminal.style('green', 'x')).toBe('\u001b[32mx\u001b[39m');
    expect(made({ colour: false }).terminal.style('green', 'x')).toBe('x');
    expect(made({}, false).terminal.style('green', 'x')).toBe('x');
  });

  test('progress and remarks on standard error, unless quiet or no terminal', () => {
    const loud = made();
    const counter = loud.terminal.counter('faces', 10);
    counter.update(5);
    counter.stop();
    loud.terminal.note('remark');
    loud.terminal.warn('care');
    expect(loud.err()).toMatch(/faces.*\/10[\s\S]*remark\nfacenet: warning: care\n/);
    expect(loud.out()).toBe('');
    const quiet = made({ quiet: true });
    quiet.terminal.counter('faces', 10).update(1);
    quiet.terminal.note('remark');
    quiet.terminal.warn('care');
    quiet.terminal.fail(new FaceNetError('input', 'x: rule, got y. remedy.'));
    expect(quiet.err()).toBe('facenet: x: rule, got y. remedy.\n');
    expect(made({}, false).err()).toBe('');
  });

  test('errors as JSON carry code, message and index', () => {
    const { terminal, out } = made({ format: 'jsonl' });
    terminal.fail(new FaceNetError('image', 'a.jpg: bad.', { index: 3 }));
    expect(JSON.parse(out())).toEqual({
      schema: 'facenet/error@1',
      error: { code: 'image', message: 'a.jpg: bad.', index: 3 },
    });
    terminal.fail(new Error('oops'));
    expect(JSON.parse(out())).toMatchObject({ error: { code: 'internal', message: 'oops' } });
  });

  test('tables align', () => {
    expect(
      table(
        [
          ['a', '1'],
          ['bcd', '22'],
        ],
        [1],
      ),
    ).toBe('a     1\nbcd  22\n');
  });
});

describe('lists of faces', () => {
  const read = async (text: string): Promise<FaceList> => {
    writeFileSync(at('faces.txt'), text);
    return readFaceList(at('faces.txt'));
  };
  const eyes = [
    [1, 2],
    [30, 4],
  ] as const;

  test('a document, an array, a photo a line, CSV', async () => {
    const photo = { image: 'a/b.jpg', faces: [{ landmarks: eyes, name: 'Ada' }] };
    for (const text of [
      JSON.stringify({ photos: [photo] }),
      JSON.stringify([photo], undefined, 2),
      `${JSON.stringify(photo)}\n${JSON.stringify({ ...photo, image: 'c.jpg' })}\n`,
    ]) {
      expect((await read(text)).facesOf('x/a/b.jpg')).toEqual([{ landmarks: eyes, name: 'Ada' }]);
    }
    const csv = await read('file,eye1_x,eye1_y,eye2_x,eye2_y\na.jpg,1,2,30,4\nb.jpg,,,,\na.jpg,5,6,70,8\n');
    expect(csv.facesOf('a.jpg').map(({ landmarks }) => landmarks)).toEqual([
      eyes,
      [
        [5, 6],
        [70, 8],
      ],
    ]);
    expect(() => csv.facesOf('b.jpg')).toThrow(/b\.jpg: a face in .*faces\.txt, got none/);
    const five = await read(
      'image,eye1_x,eye1_y,eye2_x,eye2_y,nose_x,nose_y,mouth1_x,mouth1_y,mouth2_x,mouth2_y\na.jpg,1,2,30,4,5,6,7,8,9,10\n',
    );
    expect(five.facesOf('a.jpg')[0]!.landmarks).toHaveLength(5);
  });

  test('a photo is found by the end of its path at a folder, never inside a name', async () => {
    const list = await read(JSON.stringify([{ image: 'b.jpg', faces: [{ landmarks: eyes }] }]));
    expect(list.facesOf('./some/b.jpg')).toHaveLength(1);
    expect(() => list.facesOf('ab.jpg')).toThrow(FaceNetError);
  });

  test.each([
    ['{ "photos": 3 }', /an object without photos/],
    ['[{ "image": 3, "faces": [] }]', /a photo has "image"/],
    ['[{ "image": "a", "faces": [{ "landmarks": [[1]] }] }]', /face 0 of a has "landmarks"/],
    ['[', /JSON, got other text/],
    ['a,b\n1,2\n', /CSV with the columns file/],
    ['file,eye1_x,eye1_y,eye2_x,eye2_y\na.jpg,1,x,3,4\n', /others in line 2/],
    ['', /CSV with the columns file/],
  ])('%j', async (text, words) => {
    const error = await read(text).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FaceNetError);
    expect((error as FaceNetError).code).toBe('input');
    expect((error as FaceNetError).message).toMatch(words);
  });
});
