// Writes FOLDER/ours.json (Node) and FOLDER/ours-page.json (Chromium): our variants for a harness that times several libraries in one run and
// serves its own folder, in which FOLDER must lie, to pages.
//
//   node build.mjs; node build.mjs run bench/peer.ts              builds the library and bundles the adapter for Node
//   node build.mjs run bench/peer-contestants.ts FOLDER
//   LAVAPIPE_ICD, SWIFTSHADER_ICD: driver manifests; given, the variants on WebGPU in Node are listed as well.
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

// Not bundled: it reads the shaders that lie beside it.
const { esbuildShaders } = (await import(
  pathToFileURL(resolve('shaders/bundle.mjs')).href
)) as typeof import('../shaders/bundle.mjs');
const [, , folder] = process.argv;
if (!folder) throw new Error('peer-contestants: a folder must be given.');
const page = join(folder, 'page');
mkdirSync(page, { recursive: true });
const list = (file: string, variants: object[]) => writeFileSync(join(folder, file), JSON.stringify(variants, null, 1));
const variants = (prefix: string, more: object, webgpu: readonly (readonly [string, object])[]) => [
  ...Object.entries({ t1: { threads: 1 }, t2: { threads: 2 }, 'plain-t1': { threads: 1, relaxed: false } }).map(
    ([name, opts]) => ({ id: `${prefix}-${name}`, opts, ...more }),
  ),
  ...webgpu.map(([name, env]) => ({ id: `${prefix}-webgpu${name}`, opts: { backend: 'webgpu' }, ...more, ...env })),
];

const drivers = Object.entries({ '-lvp': process.env.LAVAPIPE_ICD, '-sws': process.env.SWIFTSHADER_ICD });
list(
  'ours.json',
  variants(
    'ours',
    { adapter: resolve('.cache/programs/bench-peer.mjs') },
    drivers.flatMap(([name, file]) => (file ? [[name, { env: { VK_ICD_FILENAMES: file } }] as const] : [])),
  ),
);

await build({
  entryPoints: [resolve('bench/peer-page.ts')],
  outfile: join(page, 'peer-page.js'),
  bundle: true,
  format: 'esm',
  target: 'es2022',
  plugins: [esbuildShaders()],
});
// Threads and modules are looked for beside the script that asks for them.
for (const name of readdirSync('dist').filter((name) => /^(facenet.*\.wasm|thread\.js)$/.test(name)))
  copyFileSync(join('dist', name), join(page, name));
// The harness bundles each adapter to another place: this one only names ours, which stays where its files are.
const adapter = resolve(folder, 'ours-page.mjs');
const address = `/${basename(resolve(folder))}/page/peer-page.js`;
writeFileSync(adapter, `export { default } from '${address}';\n`);
list('ours-page.json', variants('chr-ours', { where: 'chromium', adapter, external: [address] }, [['', {}]]));
