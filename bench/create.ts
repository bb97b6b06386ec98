// From the bytes of a model file to the first embedding, nn4.small2, in a fresh process; then the same once more in the same process.
//
//   node build.mjs run bench/create.ts [wasm|webgpu] [THREADS]            VK_ICD_FILENAMES chooses the adapter
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { FaceNetGPU } from '../src/node.ts';

const [, , backend = 'wasm', threads = '1'] = process.argv;
const kept = '.cache/bench/nn4.small2.safetensors';
const options = { backend: backend as 'wasm' | 'webgpu', threads: Number(threads) };
if (!existsSync(kept)) {
  mkdirSync('.cache/bench', { recursive: true });
  const net = await FaceNetGPU.create({ model: { network: 'nn4.small2', seed: 1 }, backend: 'wasm', threads: 1 });
  writeFileSync(kept, await net.save());
  await net.dispose();
  console.log(`${kept} is written; run again.`);
} else {
  const model = new Uint8Array(readFileSync(kept));
  const face = { data: Uint8Array.from({ length: 96 * 96 * 3 }, (_, i) => (i * 37) & 255), width: 96, height: 96 };
  for (const round of ['first', 'second']) {
    const start = performance.now();
    const net = await FaceNetGPU.create({ ...options, model });
    const created = performance.now();
    await net.embed(face);
    const end = performance.now();
    const { bytes } = net.counters();
    console.log(
      `${round}: create ${(created - start).toFixed(0)} ms, embedding ${(end - created).toFixed(0)} ms, together ${(end - start).toFixed(0)} ms; ${(bytes / 1e6).toFixed(0)} MB; ${net.why}`,
    );
    await net.dispose();
  }
}
