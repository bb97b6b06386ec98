// area: tasks
// on: none lavapipe
//
// Clustering by distances of the device: the graph of near pairs, and with it groups, representatives and questions, are those of the host, bit
// for bit, with every method, over several blocks of columns and with distances a last bit away from the threshold.
import { afterAll, describe, expect, test } from 'vitest';
import { deviceRows } from '../src/faces/clustering/device-rows.ts';
import { neighbourGraph } from '../src/faces/clustering/neighbour-graph.ts';
import { decisiveUpTo } from '../src/faces/clustering/questions.ts';
import { type ClusterOptions, clusterVectors } from '../src/faces/clustering.ts';
import { hostRows, squaredDistance } from '../src/faces/distance.ts';
import type { FloatVectors } from '../src/faces/gallery/search.ts';
import { Philox } from '../src/graph/philox.ts';
import { backends, title, withoutRoom } from './backends.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

/** Faces of some people, one around another. */
function people(count: number, identities: number, dimensions: number): FloatVectors {
  const random = new Philox(4);
  const centres = Array.from({ length: identities }, () =>
    Float64Array.from({ length: dimensions }, () => random.uniform() - 0.5),
  );
  const data = new Float32Array(count * dimensions);
  for (let i = 0; i < count; i++) {
    const face = centres[random.below(identities)]!.map((value) => value + 0.4 * (random.uniform() - 0.5));
    const length = Math.hypot(...face);
    face.forEach((value, k) => {
      data[i * dimensions + k] = value / length;
    });
  }
  return { data, count, dimensions };
}

const methods: readonly Partial<ClusterOptions>[] = [
  { linkage: 'average' },
  { linkage: 'complete' },
  { linkage: 'single' },
  { method: 'chinese-whispers' },
  { method: 'dbscan' },
];

describe.each(opened.map((backend) => [title(backend), backend] as const))('%s', (_, backend) => {
  test('every method gives the groups and the questions of the host', async () => {
    const before = backend.counters();
    const vectors = people(2300, 150, 12);
    const row = (i: number) => vectors.data.subarray(i * 12, i * 12 + 12);
    // A threshold that is the distance of two faces: decided by its last bit.
    const distances = Array.from({ length: 300 }, (_, i) => squaredDistance(row(i), row(2299 - i))).sort(
      (a, b) => a - b,
    );
    const threshold = distances.find((distance) => distance > 0.15)!;
    let runs = 0;
    const device = deviceRows(
      (task) => {
        runs++;
        return task(backend);
      },
      vectors,
      threshold,
    );
    const limit = decisiveUpTo(threshold);
    const expected = await neighbourGraph(vectors.count, hostRows(vectors), limit, 2 ** 22);
    expect(await neighbourGraph(vectors.count, device.rows, limit, 2 ** 22)).toEqual(expected);
    expect(expected!.a.length).toBeGreaterThan(2300);
    for (const method of methods) {
      const found = await clusterVectors(vectors, { ...method, threshold, rows: device.rows });
      expect(found).toEqual(await clusterVectors(vectors, { ...method, threshold }));
      expect(found.groups.length).toBe(vectors.count);
      if (method.linkage === 'average') expect(found.count).toBeGreaterThan(10);
    }
    expect(runs).toBeGreaterThan(0);
    await device.close();
    const after = backend.counters();
    expect([after.buffers, after.bytes, after.programs]).toEqual([before.buffers, before.bytes, before.programs]);
  });

  test('without room on the device the plain loop does it', async () => {
    const vectors = people(600, 30, 4);
    const full = withoutRoom(backend);
    const { rows } = deviceRows((task) => task(full), vectors, 0.1, 1);
    expect(await clusterVectors(vectors, { threshold: 0.1, rows })).toEqual(
      await clusterVectors(vectors, { threshold: 0.1 }),
    );
  });
});
