// Writes FOLDER/ours.json, the list of our variants for a harness that times several libraries in one run.
//
//   node build.mjs run bench/peer.ts                              bundles the adapter
//   node build.mjs run bench/peer-contestants.ts FOLDER
//   LAVAPIPE_ICD, SWIFTSHADER_ICD: driver manifests; given, the variants on WebGPU are listed as well.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const [, , folder] = process.argv;
if (!folder) throw new Error('peer-contestants: a folder must be given.');
mkdirSync(folder, { recursive: true });
const adapter = resolve('.cache/programs/bench-peer.mjs');
const variant = (id: string, opts: object, more: object = {}) => ({ id, adapter, opts, ...more });
const drivers = { lvp: process.env.LAVAPIPE_ICD, sws: process.env.SWIFTSHADER_ICD };
writeFileSync(
  join(folder, 'ours.json'),
  JSON.stringify(
    [
      variant('ours-t1', { threads: 1 }),
      variant('ours-t2', { threads: 2 }),
      variant('ours-plain-t1', { threads: 1, relaxed: false }),
      ...Object.entries(drivers).flatMap(([name, file]) =>
        file ? [variant(`ours-webgpu-${name}`, { backend: 'webgpu' }, { env: { VK_ICD_FILENAMES: file } })] : [],
      ),
    ],
    null,
    1,
  ),
);
