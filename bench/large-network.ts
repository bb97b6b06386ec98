// NN1 whole (140 M weights, 411 MB of them in one layer) where memory is short: on an adapter with WebGPU's default limits (bindings of
// 128 MiB), and on wasm within 2 GiB. Says time and memory of create, embed and a step of training, and how far both embeddings lie apart.
//
//   node build.mjs run bench/large-network.ts [webgpu|wasm|both] [train|f16]
import { createNodeHost } from '../src/io/node/host.ts';
import { FaceNetGPU, memoryDataset } from '../src/node.ts';

const [which = 'both', mode] = process.argv.slice(2);
const size = 220;
const picture = (shade: number) => ({
  data: Uint8Array.from({ length: size * size * 3 }, (_, i) => shade + 60 * Math.sin(i / 450) + ((i * 31) % 40)),
  width: size,
  height: size,
});
const megabytes = (bytes: number) => Math.round(bytes / 1e6);

/** A device as a browser gives it to who asks for nothing. */
async function plainDevice(): Promise<{ device: GPUDevice; about: string; release: () => void }> {
  const found = await createNodeHost().gpu();
  if (typeof found === 'string') throw new Error(found);
  const adapter = await found.gpu.requestAdapter();
  if (!adapter) throw new Error('no adapter');
  const device = await adapter.requestDevice();
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  const about = `${adapter.info.description || adapter.info.device}: bindings to ${maxStorageBufferBindingSize} bytes, buffers to ${maxBufferSize}`;
  return { device, about, release: found.release };
}

const results: Record<string, Float32Array> = {};
for (const backend of ['wasm', 'webgpu'] as const) {
  if (which !== 'both' && which !== backend) continue;
  const plain = backend === 'webgpu' ? await plainDevice() : undefined;
  const start = performance.now();
  const net = await FaceNetGPU.create({
    model: { network: 'nn1', seed: 1 },
    backend,
    batchSize: 1,
    precision: mode === 'f16' ? 'f16' : 'f32',
    ...(plain && { device: plain.device }),
  });
  const created = performance.now();
  const { data } = await net.embed(picture(100));
  const first = performance.now();
  await net.embed(picture(101));
  const second = performance.now();
  results[backend] = data;
  console.log(
    JSON.stringify({
      backend,
      why: net.why,
      device: plain?.about,
      createMs: Math.round(created - start),
      embedMs: Math.round(second - first),
      deviceMB: megabytes(net.counters().bytes),
      residentMB: megabytes(process.memoryUsage.rss()),
      norm: Math.hypot(...data),
    }),
  );
  if (mode === 'train') {
    const faces = memoryDataset(Array.from({ length: 4 }, (_, i) => ({ pixels: picture(60 + 20 * i), label: i >> 1 })));
    const begun = performance.now();
    for await (const step of net.train(faces, {
      steps: 1,
      people: 2,
      perPerson: 2,
      microBatch: 2,
      optimizer: 'sgd',
      learningRate: 0.01,
      seed: 1,
      miner: 'semi-hard-or-easiest',
      snapshotEvery: 1000,
    }))
      console.log(
        JSON.stringify({
          step: step.step,
          loss: step.loss,
          gradientNorm: step.gradientNorm,
          ms: Math.round(performance.now() - begun),
          deviceMB: megabytes(net.counters().bytes),
        }),
      );
  }
  await net.dispose();
  plain?.device.destroy();
  plain?.release();
}
const { wasm, webgpu } = results;
if (wasm && webgpu)
  console.log(JSON.stringify({ apart: Math.hypot(...wasm.map((v, i) => v - (webgpu[i] as number))) }));
