// Clustering of 1,000, 5,000 and 20,000 faces of 128 numbers, every method: seconds, and the most memory the process held.
//
//   node build.mjs run bench/clustering.ts [--faces 1000,5000,20000] [--threads 2] [--backend wasm|webgpu] [--peers FOLDER]
//
// FOLDER holds node_modules with ml-hclust or density-clustering; those that are there are timed. The plain loop and ml-hclust, which holds
// all distances and takes cubic time, stop at 5,000 faces.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openBackend } from '../src/backends/open.ts';
import { deviceRows } from '../src/faces/clustering/device-rows.ts';
import { type ClusterOptions, clusterVectors } from '../src/faces/clustering.ts';
import { bCubed } from '../src/faces/evaluation/clusters.ts';
import { Philox } from '../src/graph/philox.ts';
import { createNodeHost } from '../src/io/node/host.ts';

const { values } = parseArgs({
  options: {
    faces: { type: 'string', default: '1000,5000,20000' },
    threads: { type: 'string', default: '2' },
    backend: { type: 'string', default: 'wasm' },
    peers: { type: 'string' },
  },
});
const d = 128;
const threshold = 0.25;
/** Most faces that the plain loop and peers are given. */
const MOST_ON_HOST = 5000;

/** Faces of people with 1 to 39 pictures each, whose distances are about 0.2 within and 2 between. */
function faces(count: number): { data: Float32Array; count: number; dimensions: number; people: number[] } {
  const random = new Philox(count);
  const data = new Float32Array(count * d);
  const people: number[] = [];
  let centre = new Float64Array(d);
  for (let row = 0, left = 0, person = -1; row < count; row++, left--) {
    if (left === 0) {
      left = 1 + random.below(39);
      person++;
      centre = Float64Array.from({ length: d }, () => random.uniform() - 0.5);
    }
    const face = centre.map((value) => value + 0.34 * (random.uniform() - 0.5));
    const length = Math.hypot(...face);
    face.forEach((value, i) => {
      data[row * d + i] = value / length;
    });
    people.push(person);
  }
  return { data, count, dimensions: d, people };
}

const memory = () => `${Math.round(process.resourceUsage().maxRSS / 1024)} MiB at most so far`;
const { backend, why } = await openBackend(createNodeHost(), {
  backend: values.backend as 'wasm' | 'webgpu',
  threads: Number(values.threads),
});
console.log(`${why}; Node ${process.version}; threshold ${threshold}`);
const methods: Partial<ClusterOptions>[] = [
  { linkage: 'average' },
  { linkage: 'complete' },
  { linkage: 'single' },
  { method: 'chinese-whispers' },
  { method: 'dbscan' },
];
for (const count of (values.faces as string).split(',').map(Number)) {
  const { people, ...vectors } = faces(count);
  const line = (name: string, milliseconds: number, note: string) =>
    console.log(
      `${String(count).padStart(6)}  ${name.padEnd(36)} ${(milliseconds / 1000).toFixed(2).padStart(8)} s   ${note}`,
    );
  for (const method of methods) {
    const name = method.method ?? `${method.linkage} linkage`;
    for (const where of ['device', 'host'] as const) {
      if (where === 'host' && (method.linkage !== 'average' || count > MOST_ON_HOST)) continue;
      const device = deviceRows((task) => task(backend), vectors, threshold);
      const start = performance.now();
      const { groups, count: found } = await clusterVectors(vectors, {
        ...method,
        threshold,
        ...(where === 'device' && { rows: device.rows }),
      });
      const time = performance.now() - start;
      await device.close();
      line(`${name}, ${where}`, time, `${found} groups, B-cubed F ${bCubed(groups, people).f.toFixed(3)}; ${memory()}`);
    }
  }
  if (values.peers === undefined) continue;
  const require = createRequire(join(values.peers, 'package.json'));
  const rows = Array.from({ length: count }, (_, row) => Array.from(vectors.data.subarray(row * d, (row + 1) * d)));
  const here = (name: string) => existsSync(join(values.peers as string, 'node_modules', name));
  if (here('ml-hclust') && count <= MOST_ON_HOST) {
    const start = performance.now();
    require('ml-hclust').agnes(rows, { method: 'average' });
    line('ml-hclust agnes, average', performance.now() - start, memory());
  }
  if (here('density-clustering')) {
    const { DBSCAN } = require('density-clustering');
    const start = performance.now();
    new DBSCAN().run(rows, Math.sqrt(threshold), 3);
    line('density-clustering DBSCAN', performance.now() - start, memory());
  }
}
await backend.dispose();
