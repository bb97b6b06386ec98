// The scripts that build, install and count: what they decide, without running them.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { notices, withCustomSection, withUnsharedMemory } from '../build.mjs';
import { bundleSource } from './bundle.mjs';
import { backportsSource, installCommands, linuxDistribution, missingPackages } from './machine.mjs';
import { readAllowedSkips, readHeader, runsOn } from './run.mjs';
import { breaches } from './text-rules.mjs';

const folder = mkdtempSync(join(tmpdir(), 'facenet-gpu-tools-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('wasm modules', () => {
  // (import "env" "memory" (memory 1 2 shared)) (import "a" "b" (func (type 0))), written by hand from the binary format.
  const head = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0];
  const shared = Uint8Array.from([
    ...head,
    2,
    22,
    2,
    1,
    0x61,
    1,
    0x62,
    0,
    0,
    3,
    0x65,
    0x6e,
    0x76,
    6,
    0x6d,
    0x65,
    0x6d,
    0x6f,
    0x72,
    0x79,
    2,
    3,
    1,
    2,
  ]);
  const imports = (memory: WebAssembly.Memory) => ({ env: { memory }, a: { b: () => {} } });
  const instantiate = (bytes: Uint8Array<ArrayBuffer>, isShared: boolean) =>
    new WebAssembly.Instance(
      new WebAssembly.Module(bytes),
      imports(new WebAssembly.Memory({ initial: 1, maximum: 2, shared: isShared })),
    );

  test('take a shared memory, and after the change an ordinary one', () => {
    expect(() => instantiate(shared, true)).not.toThrow();
    expect(() => instantiate(shared, false)).toThrow(/shared/);
    const single = withUnsharedMemory(shared);
    expect(() => instantiate(single, false)).not.toThrow();
    expect(() => instantiate(single, true)).toThrow(/shared/);
    expect(single.filter((byte: number, index: number) => byte !== shared[index])).toHaveLength(1);
  });
  test('without a memory import are refused', () => {
    expect(() => withUnsharedMemory(Uint8Array.from(head))).toThrow('wasm: the module imports no memory');
    expect(() => withUnsharedMemory(withUnsharedMemory(shared))).toThrow('got flags 1');
  });
  test('carry a custom section of more than 127 bytes', () => {
    const content = new Uint8Array(300).map((_, index) => index);
    const module = new WebAssembly.Module(withCustomSection(shared, 'kernels', content));
    expect(new Uint8Array(WebAssembly.Module.customSections(module, 'kernels')[0]!)).toEqual(content);
  });
});

describe('backportsSource', () => {
  const deb822 = [
    'Types: deb deb-src',
    '# a comment',
    'URIs: http://mirror.example/debian',
    'Suites: bookworm bookworm-updates',
    'Components: main contrib',
    'Signed-By: /usr/share/keyrings/key.gpg',
    '',
    'Types: deb',
    'URIs: http://mirror.example/security',
    'Suites: bookworm-security',
    'Components: main',
  ].join('\n');

  test('keeps mirror and key of the deb822 form', () => {
    expect(backportsSource([{ name: 'debian.sources', text: deb822 }], 'bookworm')).toEqual({
      name: 'bookworm-backports.sources',
      text: 'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/key.gpg\n',
    });
  });
  test('keeps mirror and options of the one-line form', () => {
    const text =
      '# deb http://other.example/debian bookworm main\ndeb [arch=amd64] http://mirror.example/debian bookworm main non-free\n';
    expect(backportsSource([{ name: 'sources.list', text }], 'bookworm')?.text).toBe(
      'deb [arch=amd64] http://mirror.example/debian bookworm-backports main\n',
    );
  });
  test('adds nothing where backports are there, and does not count a disabled entry', () => {
    const there = 'deb http://mirror.example/debian bookworm-backports main';
    expect(
      backportsSource(
        [
          { name: 'debian.sources', text: deb822 },
          { name: 'b.list', text: there },
        ],
        'bookworm',
      ),
    ).toBeNull();
    const disabled =
      'Enabled: no\nTypes: deb\nURIs: http://mirror.example/x\nSuites: bookworm-backports\nComponents: main';
    expect(
      backportsSource(
        [
          { name: 'b.sources', text: disabled },
          { name: 'a.sources', text: deb822 },
        ],
        'bookworm',
      ),
    ).not.toBeNull();
  });
  test('says so where no entry names the release', () => {
    expect(() => backportsSource([{ name: 'debian.sources', text: deb822 }], 'trixie')).toThrow('trixie main');
  });
});

describe('the machine', () => {
  test('is known by os-release', () => {
    const text =
      'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\nVERSION_CODENAME=bookworm\n';
    expect(linuxDistribution(text)).toEqual({ id: 'debian', codename: 'bookworm' });
  });
  test.runIf(process.platform === 'linux')('gets exact commands', () => {
    expect(installCommands(['lavapipe', 'chromium'], { id: 'debian', codename: 'trixie' })).toEqual([
      'sudo apt-get update',
      'sudo apt-get install mesa-vulkan-drivers libvulkan1',
      'sudo apt-get install chromium',
    ]);
    expect(installCommands([], { id: 'debian', codename: 'trixie' })).toEqual([]);
  });
  test('lacks a package that is absent or of another version; optional ones may be absent', () => {
    const project = join(folder, 'project');
    const install = (name: string) => {
      mkdirSync(join(project, 'node_modules', name), { recursive: true });
      writeFileSync(join(project, 'node_modules', name, 'package.json'), '{}');
    };
    for (const name of ['same', 'old']) install(name);
    const packages = (list: Record<string, object>) => JSON.stringify({ packages: { '': {}, ...list } });
    writeFileSync(
      join(project, 'package-lock.json'),
      packages({
        'node_modules/same': { version: '1.0.0' },
        'node_modules/old': { version: '2.0.0' },
        'node_modules/gone': { version: '1.0.0' },
        'node_modules/extra': { version: '1.0.0', optional: true },
      }),
    );
    writeFileSync(
      join(project, 'node_modules', '.package-lock.json'),
      packages({
        'node_modules/same': { version: '1.0.0' },
        'node_modules/old': { version: '1.0.0' },
        'node_modules/gone': { version: '1.0.0' },
      }),
    );
    expect(missingPackages(project)).toEqual(['node_modules/old', 'node_modules/gone']);
  });
});

describe('the test runner', () => {
  test('reads area and adapters from the head of a file', () => {
    expect(
      readHeader('// What it does.\n// area: operators\n// on: none, lavapipe swiftshader\n', 'test/a.test.ts'),
    ).toEqual({
      area: 'operators',
      on: ['none', 'lavapipe', 'swiftshader'],
    });
    expect(readHeader("import { test } from 'vitest';", 'test/a.test.ts')).toEqual({ area: 'unit', on: ['none'] });
    expect(readHeader('', 'test/a.browser.ts')).toEqual({ area: 'browser', on: ['chromium'] });
    expect(() => readHeader('// area: operator', 'test/a.test.ts')).toThrow('area must be one of');
    expect(() => readHeader('// on: cuda', 'test/a.test.ts')).toThrow('got cuda');
  });
  test('takes every file that wants a GPU to the own one, on request only', () => {
    expect(runsOn(['none', 'lavapipe'], 'system', 'system')).toBe(true);
    expect(runsOn(['none'], 'system', 'system')).toBe(false);
    expect(runsOn(['none', 'lavapipe'], 'system', undefined)).toBe(false);
    expect(runsOn(['none', 'lavapipe'], 'lavapipe', undefined)).toBe(true);
  });
  test('allows the skips of the list and no others', () => {
    const [one, two, ...rest] = readAllowedSkips(
      '| test | reason |\n|---|---|\n| `test/a.test.ts > b (c)*` | no d |\n| `* [lavapipe]` | e |\n',
    );
    expect(rest).toEqual([]);
    expect(one!.reason).toBe('no d');
    expect(one!.expression.test('test/a.test.ts > b (c) > f [none]')).toBe(true);
    expect(one!.expression.test('test/a.test.ts > b c [none]')).toBe(false);
    expect(two!.expression.test('test/x.test.ts [lavapipe]')).toBe(true);
    expect(two!.expression.test('test/x.test.ts [swiftshader]')).toBe(false);
  });
});

test('a bundled package needs a licence text', () => {
  const name = 'without-licence';
  mkdirSync(join(folder, name));
  writeFileSync(join(folder, name, 'package.json'), '{ "version": "1.0.0", "license": "MIT" }');
  // Folders are relative to the project.
  const packages = new Map([[name, relative(fileURLToPath(new URL('..', import.meta.url)), join(folder, name))]]);
  expect(() => notices(packages)).toThrow('without-licence has no licence text');
  writeFileSync(join(folder, name, 'LICENSE.md'), 'Take it.');
  expect(notices(packages)).toContain('without-licence 1.0.0 (MIT)\n\nTake it.');
});

describe('bundleSource', () => {
  test('gives a program the address of its source, shaders as text and import.meta.glob', async () => {
    writeFileSync(join(folder, 'a.part.ts'), 'export const name: string = "a"; export const wanted = 1;');
    writeFileSync(join(folder, 'b.part.ts'), 'export const name: string = "b"; export const wanted = 2;');
    writeFileSync(join(folder, 'x.wgsl'), 'struct Params { n: u32 } // kept');
    writeFileSync(
      join(folder, 'entry.ts'),
      [
        "import shader from './x.wgsl';",
        "const eager = import.meta.glob<{ name: string }>('./*.part.ts', { eager: true });",
        "const wanted = import.meta.glob('./*.part.ts', { eager: true, import: 'wanted' });",
        "const lazy = import.meta.glob('./*.part.ts');",
        "const b = await lazy['./b.part.ts']();",
        'export const result = { keys: Object.keys(eager), wanted: Object.values(wanted), lazy: b.name, shader, url: import.meta.url };',
      ].join('\n'),
    );
    const output = join(folder, 'out', 'entry.mjs');
    await bundleSource({ entry: join(folder, 'entry.ts'), output, platform: 'node' });
    const { result } = await import(/* @vite-ignore */ pathToFileURL(output).href);
    expect(result).toEqual({
      keys: ['./a.part.ts', './b.part.ts'],
      wanted: [1, 2],
      lazy: 'b',
      shader: 'struct Params { n: u32 } // kept',
      url: pathToFileURL(join(folder, 'entry.ts')).href,
    });
  });
});

describe('the rules on text', () => {
  test.each([
    ['src/a.ts', `// ${'TO'}DO later`],
    ['test/a.test.ts', `test.${'only'}('x', f)`],
    ['docs/a.md', `see ${'/wo'}rk/x`],
    ['package-lock.json', `"resolved${'": "'}https://example.com/"`],
    ['shaders/a.wgsl', ['const N = $', '{n}u;'].join('')],
    ['src/a.ts', 'const a = 1; '],
  ])('%s: %s', (path, line) => expect(breaches(path, `${line}\n`)).toHaveLength(1));
  test('let ordinary text pass', () => {
    expect(breaches('src/a.ts', 'const path = folder + "/work"; // network/work\n')).toEqual([]);
    expect(breaches('README.md', `${'TO'}DO lists are fine in prose.  \n`)).toEqual([]);
  });
});

test('package.json offers only files that the build makes, types first', () => {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const walk = (value: unknown): void => {
    if (typeof value === 'string') expect(value).toMatch(/^\.\/(dist\/[\w./-]+\.(js|d\.ts)|package\.json)$/);
    else {
      const entries = Object.entries(value as object);
      const types = entries.findIndex(([key]) => key === 'types');
      expect(types).toBeLessThanOrEqual(0);
      for (const [, inner] of entries) walk(inner);
    }
  };
  walk(manifest.exports);
});
