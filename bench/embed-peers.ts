// dlib-resnet here against face-api.js's own, the same weights: crops in memory to embeddings, in one run.
//
//   (FOLDER holds the original, see test/oracles/record-tiny-face.ts)
//   node build.mjs run bench/embed-peers.ts FOLDER [rounds, 9] [--webgpu]
//
// On WebAssembly all run with one thread, all that tfjs has in Node; the original's tensors are made beforehand. Rounds alternate. Medians, and the
// largest difference of a value from the original's.
import { FaceNetGPU } from '../src/node.ts';
import { openFaceApi } from '../test/face-api.ts';
import { alternating, median, type Timed } from './rounds.ts';

const [, , folder = '../face-api', ...rest] = process.argv;
const rounds = Number(rest.find((word) => /^\d+$/.test(word)) ?? 9);
const { faceApi, tensorflow, programs, model, threads } = await openFaceApi(folder, 1);
await faceApi.nets.faceRecognitionNet.loadFromDisk(model);

const SIDE = 150;
const crops = Array.from({ length: 8 }, (_, seed) => ({
  data: Uint8Array.from(
    { length: SIDE * SIDE * 3 },
    (_, i) => 128 + 100 * Math.sin((i * (seed + 3)) / 700) * Math.cos(i / 90),
  ),
  width: SIDE,
  height: SIDE,
}));
const tensors = crops.map(({ data }) => tensorflow.tensor(data, [SIDE, SIDE, 3], 'int32'));
const nets = new Map<string, FaceNetGPU>();
for (const backend of rest.includes('--webgpu') ? (['wasm', 'webgpu'] as const) : (['wasm'] as const)) {
  const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend, threads: 1, batchSize: 8 });
  console.log(net.why);
  nets.set(`ours on ${backend}`, net);
}
const original = "face-api.js's own";
for (const batch of [1, 8]) {
  const contestants = new Map<string, () => Promise<Float32Array>>();
  for (const [name, net] of nets)
    contestants.set(name, async () => (await net.embed(crops.slice(0, batch))).data as Float32Array);
  contestants.set(original, async () => {
    const found = await faceApi.computeFaceDescriptor(batch === 1 ? tensors[0] : tensors.slice(0, batch));
    // Of no fixed length.
    const unit = (values: Float32Array) => {
      const length = Math.hypot(...values);
      return [...values].map((value) => value / length);
    };
    return Float32Array.from((Array.isArray(found) ? found : [found]).flatMap(unit));
  });
  const found = await alternating(contestants, rounds);
  const { times: peerTimes, result: theirs } = found.get(original) as Timed<Float32Array>;
  for (const [name, { times, result }] of found) {
    const off = result.reduce((most, v, i) => Math.max(most, Math.abs(v - (theirs[i] as number))), 0);
    console.log(
      `batch ${batch}, ${name}: ${median(times).toFixed(1)} ms (${Math.min(...times).toFixed(1)} to ${Math.max(...times).toFixed(1)}), ${(median(peerTimes) / median(times)).toFixed(2)} times as fast, differs by ${off.toExponential(1)}`,
    );
  }
}
console.log(JSON.stringify(programs), `tfjs threads: ${threads()}, ${rounds} rounds`);
for (const tensor of tensors) tensor.dispose();
for (const net of nets.values()) await net.dispose();
