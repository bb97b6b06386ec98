// area: unit
// on: none swiftshader
//
// What `npm pack` makes, installed into empty folders: the lines of the README run there, with and without the optional package webgpu.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'facenet-package-'));
const photos = join(root, 'node_modules', '@vladmandic', 'face-api', 'demo');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const adapter = process.env.FACENET_ADAPTER ?? 'none';
let packed: { filename: string; files: { path: string }[] };

/** npm, the one that runs this if there is one; nothing is fetched. */
function npm(args: readonly string[], cwd: string): string {
  const own = process.env.npm_execpath;
  const [program, first] = own?.endsWith('.js') ? [process.execPath, [own]] : ['npm', []];
  const { status, stdout, stderr } = spawnSync(
    program,
    [...first, ...args, '--offline', '--no-audit', '--no-fund', '--ignore-scripts'],
    {
      cwd,
      encoding: 'utf8',
      shell: process.platform === 'win32' && program === 'npm',
    },
  );
  expect(status, `npm ${args.join(' ')}: ${stderr}`).toBe(0);
  return stdout;
}

/** The first block of the README in this language. */
function block(language: string): string {
  const found = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(readme)?.[1];
  if (found === undefined) throw new Error(`README.md: a block of ${language}, got none`);
  return found;
}

beforeAll(() => {
  // dist/ is built already; prepack would build it again.
  packed = JSON.parse(npm(['pack', '--json', '--pack-destination', folder], root))[0];
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe('the tarball', () => {
  test('holds what is needed and nothing else', () => {
    const files = packed.files.map(({ path }) => path);
    for (const path of [
      'LICENSE',
      'README.md',
      'CHANGELOG.md',
      'package.json',
      'dist/THIRD_PARTY_NOTICES',
      'dist/cli.js',
      'dist/facenet-gpu.js',
      'dist/facenet-gpu.node.js',
      'dist/evaluate.js',
      'dist/thread.js',
      'dist/jpeg-turbo.wasm',
      'dist/facenet.wasm',
      'dist/facenet.relaxed.wasm',
      'dist/facenet.single.wasm',
      'dist/facenet.single.relaxed.wasm',
      'dist/models/dlib-resnet.safetensors',
    ])
      expect(files).toContain(path);
    const allowed =
      /^(LICENSE|README\.md|CHANGELOG\.md|package\.json|dist\/(THIRD_PARTY_NOTICES|[\w.-]+\.(js|wasm)|models\/[\w.-]+\.safetensors|types\/.+\.d\.ts))$/;
    expect(files.filter((path) => !allowed.test(path))).toEqual([]);
  });

  test('every file that package.json names is in it', () => {
    const { exports, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      exports: object;
      bin: Record<string, string>;
    };
    const named = [...JSON.stringify(exports).matchAll(/"\.\/(dist\/[^"]+)"/g)].map(([, path]) => path as string);
    const files = new Set(packed.files.map(({ path }) => path));
    for (const path of [...named, ...Object.values(bin)]) {
      // Entries whose source does not exist yet are named in package.json already.
      if (existsSync(join(root, path))) expect(files).toContain(path);
    }
  });

  test('publint and attw find nothing', async () => {
    const tarball = join(folder, packed.filename);
    const { publint } = await import('publint');
    const bytes = Uint8Array.from(readFileSync(tarball));
    expect((await publint({ strict: true, pack: { tarball: bytes.buffer } })).messages).toEqual([]);
    const attw = join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js');
    // The package is ES modules alone and says so: what `require` and resolution by Node 10 would find is not asked.
    const args = [attw, tarball, '--no-definitely-typed', '--profile', 'esm-only', '--format', 'ascii', '--no-emoji'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(status, stdout + stderr).toBe(0);
    for (const entry of ['', '/node', '/detection', '/evaluate', '/worker'])
      expect(stdout).toContain(`"facenet-gpu${entry}"`);
  });

  test('has one declaration file an entry, which imports nothing', () => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: object };
    const named = [...JSON.stringify(exports).matchAll(/"types":"\.\/([^"]+)"/g)].map(([, path]) => path as string);
    const shipped = packed.files.map(({ path }) => path).filter((path) => path.startsWith('dist/types/'));
    expect(shipped.sort()).toEqual([...new Set(named)].sort());
    expect(shipped).toHaveLength(6);
    for (const path of shipped)
      expect(readFileSync(join(root, path), 'utf8'), path).not.toMatch(/^import\b|\bfrom ['"]|import\(/m);
  });
});

// With an adapter only what needs it.
describe.each(adapter === 'none' ? ['without webgpu', 'with webgpu'] : ['with webgpu'])('installed %s', (kind) => {
  const home = join(folder, kind.replaceAll(' ', '-'));
  const installed = join(home, 'node_modules', 'facenet-gpu');

  beforeAll(() => {
    mkdirSync(home);
    writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
    npm(['install', '--omit=optional', join(folder, packed.filename)], home);
    if (kind === 'with webgpu')
      symlinkSync(join(root, 'node_modules', 'webgpu'), join(home, 'node_modules', 'webgpu'), 'junction');
    copyFileSync(join(photos, 'sample1.jpg'), join(home, 'ada.jpg'));
    copyFileSync(join(photos, 'sample3.jpg'), join(home, 'eve.jpg'));
  }, 120_000);

  const node = (args: readonly string[]) =>
    spawnSync(process.execPath, args, { cwd: home, encoding: 'utf8', timeout: 140_000 });

  test('brings no other package', () => {
    const names = readdirSync(join(home, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(names).toEqual(kind === 'with webgpu' ? ['facenet-gpu', 'webgpu'] : ['facenet-gpu']);
  });

  test("the README's lines print a distance", () => {
    writeFileSync(join(home, 'readme.js'), block('js'));
    const { status, stdout, stderr } = node(['readme.js']);
    expect(status, stderr).toBe(0);
    const [, distance] = /^different people (0\.\d+)\n$/.exec(stdout) ?? [];
    expect(Number(distance)).toBeGreaterThan(0.25);
    expect(Number(distance)).toBeLessThan(0.29);
  });

  if (adapter !== 'none') {
    test('the same lines on WebGPU', { timeout: 300_000 }, () => {
      writeFileSync(
        join(home, 'webgpu.js'),
        block('js').replace("'dlib-resnet' }", "'dlib-resnet', backend: 'webgpu' }"),
      );
      const [wasm, webgpu] = ['readme.js', 'webgpu.js'].map((file) => Number(node([file]).stdout.split(' ').at(-1)));
      expect(Math.abs(webgpu! - wasm!)).toBeLessThan(1e-4);
    });
    return;
  }

  test('the command and the other entries work', () => {
    const command = node([join(installed, 'dist', 'cli.js'), 'info', '--json']);
    expect(command.status, command.stderr).toBe(0);
    const { webgpu } = JSON.parse(command.stdout) as { webgpu: { available: boolean; why: string } };
    // Tests of this area see no adapter: the reason must be the missing package, or the missing adapter.
    expect(webgpu.available).toBe(false);
    if (kind === 'without webgpu') expect(webgpu.why).toMatch(/npm install webgpu/);
    else expect(webgpu.why).not.toMatch(/npm install webgpu/);
    const entries = `
      import * as main from 'facenet-gpu';
      import * as node from 'facenet-gpu/node';
      import { squaredDistance, FaceNetError } from 'facenet-gpu/evaluate';
      console.log(main.FaceNetGPU === node.FaceNetGPU, main.FaceNetError === FaceNetError, squaredDistance([1, 0], [0, 1]));`;
    writeFileSync(join(home, 'entries.js'), entries);
    const { status, stdout, stderr } = node(['entries.js']);
    expect(status, stderr).toBe(0);
    expect(stdout).toBe('true true 2\n');
  });

  // With Node's types alone or with the DOM's, which know WebGPU. Our files are checked too, as skipLibCheck is off.
  test.each([
    [['es2022'], ['node']],
    [['es2022', 'dom'], ['node']],
  ])('its declarations type-check in a strict project of a user: %j, types %j', (lib, types) => {
    if (kind === 'with webgpu') return;
    for (const name of ['@types/node', 'undici-types'])
      if (!existsSync(join(home, 'node_modules', name)))
        cpSync(join(root, 'node_modules', name), join(home, 'node_modules', name), { recursive: true });
    const entries = ['', '/detection', '/evaluate', '/worker'].map(
      (name, i) => `export * as e${i} from 'facenet-gpu${name}';`,
    );
    const wrong = `const net = await FaceNetGPU.create({ model: 'dlib-resnet' });\n// @ts-expect-error a number is no image\nawait net.embed(5);`;
    const say = 'declare function say(...words: unknown[]): void;';
    writeFileSync(join(home, 'use.ts'), `${block('js').replace('console.log', 'say')}\n${say}`);
    writeFileSync(join(home, 'wrong.ts'), `import { FaceNetGPU } from 'facenet-gpu';\n${wrong}\n${entries.join('\n')}`);
    writeFileSync(
      join(home, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: { target: 'es2022', module: 'nodenext', strict: true, noEmit: true, lib, types },
        files: ['use.ts', 'wrong.ts'],
      }),
    );
    const { status, stdout } = node([join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', home]);
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });
});

test("the README's page is the same program", () => {
  const inPage = block('html')
    .split('\n')
    .filter((line) => !/<\/?script/.test(line))
    .map((line) => line.trim());
  const inNode = block('js')
    .split('\n')
    .map((line) => line.replace(/ \/\/ .*$/, '').trim());
  const different = inPage.filter((line) => !inNode.includes(line));
  expect(different).toEqual([
    "import { FaceNetGPU } from './node_modules/facenet-gpu/dist/facenet-gpu.js';",
    "document.body.append(same ? 'same person' : 'different people', ' ', distance);",
  ]);
});

test('every link of the README leads somewhere', () => {
  const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)]
    .map(([, link]) => link as string)
    .filter((link) => !/^https?:/.test(link));
  expect(links.length).toBeGreaterThan(4);
  for (const link of links) expect(existsSync(join(root, link)), link).toBe(true);
});
