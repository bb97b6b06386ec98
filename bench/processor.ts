// What runs on the processor outside the kernels: parsers, exact nearest neighbours, clustering. Timed by the package `benchmark`, which
// repeats each until its mean is known to about a per cent.
import Benchmark from 'benchmark';
import { clusterVectors } from '../src/faces/clustering.ts';
import { hostSearch } from '../src/faces/gallery/search.ts';
import { Philox } from '../src/graph/philox.ts';
import { parseCsv } from '../src/io/csv.ts';
import { decodeImage } from '../src/io/images.ts';
import { readSafetensors, writeSafetensors } from '../src/io/safetensors.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import { nn4Small2 } from '../src/networks/nn4-small2.ts';
import type { KernelTime } from './kernel-times.ts';

const DIMENSIONS = 128;

/** `count` unit vectors around `people` centres. */
function faces(count: number, people: number) {
  const random = new Philox(1, 0);
  const centres = Float32Array.from({ length: people * DIMENSIONS }, () => random.uniform() - 0.5);
  const data = new Float32Array(count * DIMENSIONS);
  for (let row = 0; row < count; row++) {
    const from = (row % people) * DIMENSIONS;
    const vector = Array.from(
      { length: DIMENSIONS },
      (_, k) => (centres[from + k] as number) + 0.2 * (random.uniform() - 0.5),
    );
    const length = Math.hypot(...vector);
    data.set(
      vector.map((value) => value / length),
      row * DIMENSIONS,
    );
  }
  return { data, count, dimensions: DIMENSIONS };
}

/** Median milliseconds of each; `bytes` is what a call reads. */
export async function processorTimes(say: (line: string) => void): Promise<KernelTime[]> {
  const parameters = parametersOf(nn4Small2);
  const values = initialise(parameters, 1);
  const model = writeSafetensors(
    new Map(
      parameters.map(({ name, shape }) => [
        name,
        { dtype: 'F32' as const, shape: [...shape], data: values.get(name) as Float32Array },
      ]),
    ),
  );
  const csv = Array.from(
    { length: 6000 },
    (_, i) => `faces/person ${i % 70}/${i}.jpg,"faces, others/${i}.jpg",${i % 2}`,
  ).join('\n');
  const side = 256;
  const header = new TextEncoder().encode(`P6 ${side} ${side} 255\n`);
  const pnm = new Uint8Array(header.length + side * side * 3).fill(100);
  pnm.set(header);
  const [gallery, album] = [faces(10_000, 1000), faces(1000, 50)];
  const search = hostSearch();
  await search.load(gallery, 0);
  const query = gallery.data.slice(0, DIMENSIONS);

  const work: readonly [name: string, bytes: number, run: () => unknown][] = [
    ['safetensors: nn4.small2', model.length, () => readSafetensors(model)],
    ['csv: 6,000 pairs', csv.length, () => [...parseCsv(csv, 'pairs')].length],
    ['image: PNM 256 x 256', pnm.length, () => decodeImage(pnm)],
    ['nearest 5 of 10,000', gallery.data.byteLength, () => search.nearest(query, 5)],
    ['cluster 1,000: average linkage', album.data.byteLength, () => clusterVectors(album, { threshold: 0.3 })],
    [
      'cluster 1,000: Chinese whispers',
      album.data.byteLength,
      () => clusterVectors(album, { threshold: 0.3, method: 'chinese-whispers' }),
    ],
    ['cluster 1,000: DBSCAN', album.data.byteLength, () => clusterVectors(album, { threshold: 0.3, method: 'dbscan' })],
  ];
  const times: KernelTime[] = [];
  for (const [name, bytes, run] of work) {
    const { stats, error } = await new Promise<Benchmark>((resolve) => {
      const benchmark: Benchmark = new Benchmark(
        name,
        async (deferred: { resolve(): void }) => {
          await run();
          deferred.resolve();
        },
        { defer: true, maxTime: 2, minSamples: 5, onComplete: () => resolve(benchmark) },
      );
      benchmark.run({ async: true });
    });
    if (error) throw error;
    const sorted = [...stats.sample].sort((a, b) => a - b);
    const milliseconds = (sorted[sorted.length >> 1] as number) * 1e3;
    say(
      `${name.padEnd(34)} ${milliseconds.toFixed(3).padStart(9)} ms  +- ${stats.rme.toFixed(1)} %  ${(bytes / milliseconds / 1e6).toFixed(2)} GB/s`,
    );
    times.push({ where: 'processor', layer: name, kernel: name, tile: '', milliseconds, multiplyAdds: 0, bytes });
  }
  return times;
}
