// Builds what the package ships. Only dispatches and bundles; needs nothing but Node until packages are installed.
//
//   node build.mjs [all]            wasm, bundle, types, models
//   node build.mjs wasm             asm/*.ts -> dist/facenet*.wasm
//   node build.mjs bundle           src/     -> dist/*.js, dist/THIRD_PARTY_NOTICES
//   node build.mjs types            src/     -> dist/types/, one file an entry
//   node build.mjs api              src/     -> docs/api-surface.md
//   node build.mjs models           model files of other programs -> dist/models/
//   node build.mjs check            types, lint, format, text rules, shaders against definitions
//   node build.mjs run FILE [ARG]   runs one TypeScript program of the repository
//   node build.mjs start [ARG]      installs what is missing, builds, runs the demonstration
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { gzipSync } from 'node:zlib';
import { esbuildShaders } from './shaders/bundle.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const at = (...parts) => join(root, ...parts);

/** Runs Node on a script with inherited output; rejects unless it exits 0. */
function node(args, environment = {}) {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: 'inherit',
      env: { ...process.env, ...environment },
    });
    child.on('error', fail);
    child.on('exit', (code, signal) =>
      code === 0 ? done() : fail(new BuildError(`${relative(root, args[0])} ended with ${signal ?? code}`)),
    );
  });
}

/** A failure that is already explained on the terminal; shown without a stack. */
class BuildError extends Error {}

const files = (folder, matches) =>
  existsSync(at(folder))
    ? readdirSync(at(folder))
        .filter((name) => matches.test(name))
        .sort()
    : [];

/** Writes a file that another process may be reading: it sees the old content or the new, never a part. */
function replaceFile(path, content) {
  writeFileSync(`${path}.${process.pid}`, content);
  renameSync(`${path}.${process.pid}`, path);
}

const hash = (...parts) => {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part).update('\0');
  return sum.digest('hex');
};

// -- wasm ------------------------------------------------------------------------------------------------------------

/**
 * The two instruction sets. Each is compiled once, with a shared memory, and written twice: a module that imports a
 * shared memory cannot be given an ordinary one, and pages without cross-origin isolation have no shared memory. The
 * two files differ in one bit, the `shared` flag of the memory import; the code is the same byte for byte.
 */
const wasmBuilds = [
  { features: 'simd,threads,bulk-memory', shared: 'facenet.wasm', single: 'facenet.single.wasm' },
  {
    features: 'simd,threads,bulk-memory,relaxed-simd',
    shared: 'facenet.relaxed.wasm',
    single: 'facenet.single.relaxed.wasm',
  },
];

async function wasm() {
  // Node 20 knows relaxed SIMD behind a flag; without it the relaxed build cannot be validated here.
  setFlagsFromString('--experimental-wasm-relaxed-simd');
  const sources = files('asm', /^(?!.*\.(d|generated)\.ts$).*\.ts$/).map((name) => join('asm', name));
  if (sources.length === 0) throw new BuildError('wasm: asm/ holds no .ts file');
  mkdirSync(at('dist'), { recursive: true });
  mkdirSync(at('.cache', 'wasm'), { recursive: true });

  // asm/generate.mjs writes the dispatch over all exported kernels. It may return
  // { files: more entry files, sections: [{ name, bytes }] custom sections to append }.
  let generated = {};
  if (existsSync(at('asm', 'generate.mjs'))) {
    const { generate } = await import(pathToFileURL(at('asm', 'generate.mjs')).href);
    generated = (await generate({ root })) ?? {};
  }
  const entries = [...sources, ...(generated.files ?? []).map((file) => relative(root, file))];
  const sections = generated.sections ?? [];
  const compiler = JSON.parse(readFileSync(at('node_modules', 'assemblyscript', 'package.json'), 'utf8')).version;

  await Promise.all(
    wasmBuilds.map(async ({ features, shared, single }) => {
      const flags = ['-O3', '--runtime', 'stub', '--noAssert', '--importMemory', '--sharedMemory'];
      // AS112: helpers that pass v128 are exported like everything in an entry file; JavaScript calls none of them.
      flags.push('--disableWarning', '112', '--initialMemory', '16', '--maximumMemory', '65536', '--enable', features);
      const key = hash(compiler, ...flags, ...entries.flatMap((file) => [file, readFileSync(at(file))]));
      const cached = at('.cache', 'wasm', `${key}.wasm`);
      if (!existsSync(cached)) {
        const output = `${cached}.${process.pid}`;
        await node([at('node_modules', 'assemblyscript', 'bin', 'asc.js'), ...entries, ...flags, '--outFile', output]);
        const bytes = readFileSync(output);
        rmSync(output);
        replaceFile(cached, bytes);
      }
      let bytes = new Uint8Array(readFileSync(cached));
      for (const section of sections) bytes = withCustomSection(bytes, section.name, section.bytes);
      const unshared = withUnsharedMemory(bytes);
      for (const [name, content] of [
        [shared, bytes],
        [single, unshared],
      ]) {
        // Node 20 knows no relaxed SIMD; test/runtime.browser.ts instantiates all four.
        if (!features.includes('relaxed') && !WebAssembly.validate(content))
          throw new BuildError(`wasm: ${name} is not a valid module`);
        replaceFile(at('dist', name), content);
      }
      console.error(`wasm: dist/${shared} and dist/${single}, ${bytes.length} bytes each`);
    }),
  );
}

/** Reads an unsigned LEB128 number; returns [value, position after it]. */
function leb(bytes, position) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[position++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, position];
  }
}

/** A copy of a module whose imported memory is not shared. Clears bit 1 of the limits (threads proposal, "limits"). */
export function withUnsharedMemory(module) {
  const bytes = module.slice();
  let position = 8;
  while (position < bytes.length) {
    const id = bytes[position];
    const [size, start] = leb(bytes, position + 1);
    position = start + size;
    if (id !== 2) continue;
    let [count, p] = leb(bytes, start);
    for (; count > 0; count--) {
      for (let name = 0; name < 2; name++) {
        const [length, next] = leb(bytes, p);
        p = next + length;
      }
      const kind = bytes[p++];
      if (kind === 0) [, p] = leb(bytes, p);
      else if (kind === 2) {
        if (bytes[p] !== 3)
          throw new BuildError(`wasm: the memory import must be shared with a maximum, got flags ${bytes[p]}`);
        bytes[p] = 1;
        return bytes;
      } else throw new BuildError(`wasm: only functions and one memory may be imported, got kind ${kind}`);
    }
  }
  throw new BuildError('wasm: the module imports no memory');
}

/** A copy of a module with a custom section at its end. */
export function withCustomSection(module, name, content) {
  const number = (value) => {
    const out = [];
    do {
      out.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
      value >>>= 7;
    } while (value > 0);
    return out;
  };
  const label = new TextEncoder().encode(name);
  const body = [...number(label.length), ...label, ...content];
  return Uint8Array.from([...module, 0, ...number(body.length), ...body]);
}

// -- bundle ----------------------------------------------------------------------------------------------------------

/** Programs and modules of the package: source, name in dist/. Those whose source does not exist yet are left out. */
const entries = {
  browser: {
    'facenet-gpu': 'src/index.ts',
    evaluate: 'src/evaluate.ts',
    detection: 'src/detection.ts',
    worker: 'src/worker/browser.ts',
    'worker-service': 'src/worker/browser-service.ts',
    thread: 'src/backends/wasm/thread.ts',
  },
  node: {
    'facenet-gpu.node': 'src/node.ts',
    'evaluate.node': 'src/evaluate.ts',
    'detection.node': 'src/detection.ts',
    'worker.node': 'src/worker/node.ts',
    'worker-service.node': 'src/worker/node-service.ts',
    cli: 'src/cli/main.ts',
    start: 'src/cli/start.ts',
  },
};

/** Never bundled: native, large, and optional for users. */
export const external = ['webgpu', 'sharp'];

/** Most bytes, gzipped, that a page loads as JavaScript before it embeds: with the shaders of inference, without wasm and weights. */
const BROWSER_BUDGET = 100 * 1024;

/** Files of packages that travel beside the bundles: file in node_modules, name in dist/. */
const assets = [['@cwasm/jpeg-turbo/jpeg-turbo.wasm', 'jpeg-turbo.wasm']];

async function bundle() {
  const { build } = await import('esbuild');
  const { sourcePlugin } = await import('./test/bundle.mjs');
  mkdirSync(at('dist'), { recursive: true });
  const packages = new Map();
  const written = new Set();
  for (const [platform, table] of Object.entries(entries)) {
    const entryPoints = Object.fromEntries(Object.entries(table).filter(([, source]) => existsSync(at(source))));
    if (Object.keys(entryPoints).length === 0) continue;
    // Code that several entries use goes into shared chunks, so that `instanceof FaceNetError` holds between them.
    // Chunks lie in dist/ itself: './facenet.wasm' relative to import.meta.url must be right in a chunk as well.
    const result = await build({
      absWorkingDir: root,
      entryPoints,
      outdir: 'dist',
      chunkNames: `chunk-${platform}-[hash]`,
      bundle: true,
      splitting: true,
      format: 'esm',
      platform,
      target: platform === 'node' ? 'node20' : 'es2022',
      external: platform === 'node' ? external : [...external, 'node:*'],
      loader: { '.wgsl': 'text' },
      plugins: [esbuildShaders({ release: true }), sourcePlugin()],
      // Pages load it over the network; error texts and the lines of shaders stay whole.
      minify: platform === 'browser',
      legalComments: 'none',
      metafile: true,
      sourcemap: false,
      logLevel: 'warning',
      // Bundled CommonJS packages call require() for Node's own modules.
      banner:
        platform === 'node'
          ? {
              js: `import { createRequire as $createRequire } from 'node:module';\nconst require = $createRequire(import.meta.url);`,
            }
          : {},
    });
    if (result.warnings.length > 0) throw new BuildError('bundle: esbuild warned; warnings are errors here');
    for (const file of Object.keys(result.metafile.inputs)) notePackage(packages, file);
    for (const [file, { bytes, entryPoint }] of Object.entries(result.metafile.outputs)) {
      written.add(file);
      if (entryPoint) console.error(`bundle: ${file}, ${bytes} bytes`);
    }
    if (result.metafile.outputs['dist/facenet-gpu.js']) weigh(result.metafile.outputs, 'dist/facenet-gpu.js');
  }
  for (const name of files('dist', /\.js$/)) {
    if (!written.has(`dist/${name}`)) rmSync(at('dist', name));
  }
  const bin = at('dist', 'cli.js');
  if (existsSync(bin))
    writeFileSync(bin, `#!/usr/bin/env node\n${readFileSync(bin, 'utf8').replace(/^#!.*\n/, '')}`, { mode: 0o755 });
  for (const [source, name] of assets) {
    if (!existsSync(at('node_modules', source))) continue;
    copyFileSync(at('node_modules', source), at('dist', name));
    notePackage(packages, `node_modules/${source}`);
  }
  writeFileSync(at('dist', 'THIRD_PARTY_NOTICES'), notices(packages));
}

/** Holds the browser entry, with the chunks it loads at once, to its budget. */
function weigh(outputs, entry) {
  const loaded = new Set();
  const visit = (file) => {
    if (loaded.has(file) || outputs[file] === undefined) return;
    loaded.add(file);
    for (const { path, kind } of outputs[file].imports) if (kind === 'import-statement') visit(path);
  };
  visit(entry);
  const bytes = [...loaded].reduce((sum, file) => sum + gzipSync(readFileSync(at(file)), { level: 9 }).length, 0);
  console.error(`bundle: ${entry} with its chunks, ${bytes} bytes gzipped of ${BROWSER_BUDGET}`);
  if (bytes > BROWSER_BUDGET) {
    throw new BuildError(`bundle: ${entry} must take at most ${BROWSER_BUDGET} bytes gzipped, got ${bytes}`);
  }
}

/** Remembers the package a bundled file belongs to. */
function notePackage(packages, file) {
  const match = /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(file.replaceAll('\\', '/'));
  if (match) packages.set(match[2], match[1]);
}

/**
 * The licence text of everything bundled. A package's text is its own licence file; docs/licences/<name>.txt (with / as
 * +) adds what the package does not say, such as the licence of a library compiled into it. Neither: the build fails.
 */
export function notices(packages) {
  const parts = ['Third-party software and data in this package.\n'];
  for (const [name, folder] of [...packages].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { version, license } = JSON.parse(readFileSync(at(folder, 'package.json'), 'utf8'));
    const texts = [
      ...readdirSync(at(folder))
        .filter((file) => /^(licen[cs]e|notice|copying)(\.|$|-)/i.test(file))
        .sort()
        .map((file) => at(folder, file)),
      at('docs', 'licences', `${name.replace('/', '+')}.txt`),
    ].filter((file) => existsSync(file));
    if (texts.length === 0)
      throw new BuildError(`bundle: ${name} has no licence text. Add docs/licences/${name.replace('/', '+')}.txt.`);
    parts.push(
      `${'='.repeat(80)}\n${name} ${version} (${license})\n`,
      ...texts.map((file) => `${readFileSync(file, 'utf8').trim()}\n`),
    );
  }
  return parts.join('\n');
}

// -- the rest --------------------------------------------------------------------------------------------------------

/** Entries with an interface of their own: name, source without its ending, which is also the name in dist/types. */
const interfaces = [
  ['facenet-gpu in browsers', 'index'],
  ['facenet-gpu in Node, facenet-gpu/node', 'node'],
  ['facenet-gpu/detection', 'detection'],
  ['facenet-gpu/evaluate', 'evaluate'],
  ['facenet-gpu/worker in browsers', 'worker/browser'],
  ['facenet-gpu/worker in Node', 'worker/node'],
];

/** The declarations of each of `interfaces`, each rolled up into one text that imports nothing of ours. */
async function declarations() {
  const folder = at('.cache', 'types', String(process.pid));
  try {
    const tsc = at('node_modules', 'typescript', 'bin', 'tsc');
    await node([tsc, '-p', at('src', 'tsconfig.json'), '--outDir', folder]);
    const { generateDtsBundle } = await import('dts-bundle-generator');
    // Of the declarations, not of the sources: those were checked just now, and import shaders that only bundlers know.
    const configuration = join(folder, 'tsconfig.json');
    writeFileSync(configuration, JSON.stringify({ extends: at('tsconfig.json'), include: [] }));
    return generateDtsBundle(
      interfaces.map(([, file]) => ({
        filePath: join(folder, `${file}.d.ts`),
        output: { noBanner: true, sortNodes: true, exportReferencedTypes: false },
      })),
      { preferredConfigPath: configuration },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Types of browsers that the declarations name. A program without the DOM's or WebGPU's own gets these; where those are there, they merge. Each
 * has one member of the real one, so that not every value is taken for it.
 */
const standIns = `declare global {
	interface GPU {
	}
	interface GPUDevice {
	}
	interface HTMLCanvasElement {
		toDataURL(): string;
	}
	interface HTMLImageElement {
		readonly naturalWidth: number;
	}
	interface HTMLVideoElement {
		readonly videoWidth: number;
	}
	interface ImageBitmap {
		close(): void;
	}
	interface OffscreenCanvas {
		transferToImageBitmap(): ImageBitmap;
	}
	interface VideoFrame {
		readonly codedWidth: number;
	}
	namespace WebAssembly {
		interface Memory {
		}
		interface Module {
		}
	}
}
`;

async function types() {
  const texts = await declarations();
  rmSync(at('dist', 'types'), { recursive: true, force: true });
  for (const [index, [, file]] of interfaces.entries()) {
    mkdirSync(dirname(at('dist', 'types', file)), { recursive: true });
    writeFileSync(at('dist', 'types', `${file}.d.ts`), `${texts[index]}\n${standIns}`);
  }
}

/** What users can see of each entry, without comments: its difference is the review of a change of the interface. */
async function surface() {
  const known = new Set();
  const parts = (await declarations()).map((text, index) => {
    const bare = text.replaceAll(/^[ \t]*\/\*\*[\s\S]*?\*\/[ \t]*\n/gm, '').replaceAll(/[ \t]*\/\*\*.*?\*\//g, '');
    const blocks = bare.trim().split(/\n(?=[a-z])/);
    // Most entries share most of their declarations: each is shown once.
    const fresh = blocks.filter((block) => !known.has(block) && block !== 'export {};');
    for (const block of blocks) known.add(block);
    const shared = blocks.filter((block) => !fresh.includes(block) && block.startsWith('export '));
    const names = shared
      .flatMap((block) => /^export (?:declare )?(?:abstract )?\w+ (\w+)/.exec(block)?.[1] ?? [])
      .sort();
    return [
      `## ${interfaces[index][0]}\n`,
      ...(names.length > 0 ? [`As above: ${names.join(', ')}.\n`] : []),
      `\`\`\`ts\n${fresh.join('\n')}\n\`\`\`\n`,
    ].join('\n');
  });
  return `# Interface\n\nWritten by \`node build.mjs api\`, held by \`node build.mjs check\`. A change here is a change for users: read it twice.\nDeclarations without \`export\` cannot be imported by name; they are parts of those that can.\n\n${parts.join('\n')}`;
}

const surfaceFile = at('docs', 'api-surface.md');

async function api() {
  writeFileSync(surfaceFile, await surface());
}

async function checkSurface() {
  const written = existsSync(surfaceFile) ? readFileSync(surfaceFile, 'utf8') : '';
  if (written !== (await surface()))
    throw new BuildError(
      'docs/api-surface.md must be what users see, got another state. Run node build.mjs api and review its difference.',
    );
}

/** Converts model files of other programs, found in development packages, to safetensors. */
async function models() {
  if (existsSync(at('src', 'cli', 'models.ts'))) await run(['src/cli/models.ts']);
}

/** Bundles one TypeScript program of the repository into .cache/ and runs it there; the working directory stays. */
async function run([file, ...args], environment) {
  if (file === undefined || !existsSync(at(file)))
    throw new BuildError(`run: must be given an existing file, got ${file}`);
  const { bundleSource } = await import('./test/bundle.mjs');
  const output = at('.cache', 'programs', `${file.replaceAll(/[\\/]/g, '-').replace(/\.ts$/, '')}.mjs`);
  await bundleSource({ entry: at(file), output, platform: 'node' });
  await node([output, ...args], environment);
}

async function check() {
  const failures = [];
  const attempt = async (name, action) => {
    try {
      await action();
    } catch (error) {
      failures.push(name);
      console.error(`check: ${name}: ${error instanceof BuildError ? error.message : error.stack}`);
    }
  };
  await attempt('types', () => node([at('node_modules', 'typescript', 'bin', 'tsc'), '--noEmit', '-p', root]));
  const biome = at('node_modules', '@biomejs', 'biome', 'bin', 'biome');
  const colours = process.stderr.isTTY ? [] : ['--colors=off'];
  await attempt('lint', () => node([biome, 'lint', '--error-on-warnings', '--max-diagnostics=50', ...colours]));
  await attempt('format (npm run format)', () =>
    node([biome, 'check', '--linter-enabled=false', '--reporter=summary', '--max-diagnostics=50', ...colours]),
  );
  await attempt('interface', checkSurface);
  await attempt('text', () => node([at('test', 'text-rules.mjs')]));
  const promised = ['facenet-gpu.js', 'facenet-gpu.node.js', 'evaluate.js', 'worker.js', 'cli.js', 'types/index.d.ts'];
  if (promised.every((name) => existsSync(at('dist', name)))) {
    await attempt('package', () => node([at('node_modules', 'publint', 'src', 'cli.js'), '--strict']));
  }
  if (existsSync(at('test', 'check.ts'))) {
    const { adapterEnvironment, adapterPresent } = await import('./test/adapters.mjs');
    const adapter = ['lavapipe', 'swiftshader'].find(adapterPresent) ?? 'system';
    await attempt('shaders', () => run(['test/check.ts'], adapterEnvironment(adapter)));
  }
  if (failures.length > 0) throw new BuildError(`check: failed in ${failures.join(', ')}`);
  console.error('check: nothing found');
}

async function all() {
  await wasm();
  await bundle();
  await types();
  await models();
}

async function start(args) {
  const { installPackages } = await import('./test/machine.mjs');
  await installPackages();
  await wasm();
  await bundle();
  await models();
  if (!existsSync(at('dist', 'start.js')))
    throw new BuildError('start: src/cli/start.ts does not exist yet. Run npm test to see what does.');
  await node([at('dist', 'start.js'), ...args]);
}

const commands = { all, wasm, bundle, types, api, models, check, run, start };

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [command = 'all', ...args] = process.argv.slice(2);
  try {
    if (!Object.hasOwn(commands, command)) {
      throw new BuildError(`build: the command must be one of ${Object.keys(commands).join(', ')}, got ${command}`);
    }
    await commands[command](args);
  } catch (error) {
    console.error(error instanceof BuildError ? error.message : error);
    process.exitCode = 1;
  }
}
