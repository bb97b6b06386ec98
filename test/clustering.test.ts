import { describe, expect, test } from 'vitest';
import {
  type Clustering,
  type ClusterOptions,
  clusterDistances,
  clusterVectors,
  distanceMatrix,
  linkageTree,
  type VectorSet,
} from '../src/evaluate.ts';
import { AverageLinkage } from '../src/faces/clustering/average-linkage.ts';
import { type Merge, mergeByChains } from '../src/faces/clustering/chain.ts';
import { Units } from '../src/faces/clustering/constraints.ts';
import { neighbourGraph } from '../src/faces/clustering/neighbour-graph.ts';
import { Philox } from '../src/graph/philox.ts';
import cases from './cases/clustering.json' with { type: 'json' };

const [cl01, cl04] = cases.cases;
const linkages = ['average', 'single', 'complete'] as const;
type Linkage = (typeof linkages)[number];

/** Groups as sorted lists of faces, those in no group each alone. */
function asLists({ groups }: { groups: Int32Array }): number[][] {
  const lists = new Map<number, number[]>();
  groups.forEach((group, face) => {
    const key = group < 0 ? -1 - face : group;
    lists.set(key, [...(lists.get(key) ?? []), face]);
  });
  return [...lists.values()].sort((a, b) => a[0]! - b[0]!);
}

function membersOf(merges: readonly Merge[], count: number): [number[], number[], number][] {
  const members = Array.from({ length: count }, (_, i) => [i]);
  return merges.map(({ a, b, height }) => {
    const result: [number[], number[], number] = [[...members[a]!], [...members[b]!], height];
    members[a] = [...members[a]!, ...members[b]!].sort((x, y) => x - y);
    return result;
  });
}

function randomVectors(count: number, people: number, seed: number, dimensions = 8, spread = 1.1): VectorSet {
  const random = new Philox(seed);
  const centres = Array.from({ length: people }, () =>
    Array.from({ length: dimensions }, () => random.uniform() - 0.5),
  );
  const data = new Float32Array(count * dimensions);
  for (let i = 0; i < count; i++) {
    const vector = centres[random.below(people)]!.map((value) => value + spread * (random.uniform() - 0.5));
    const length = Math.hypot(...vector);
    vector.forEach((value, k) => {
      data[i * dimensions + k] = value / length;
    });
  }
  return { data, count, dimensions };
}

/** The definition, O(n^3): join the two nearest clusters that may join, as long as they are within the threshold. */
function naive(
  matrix: Float64Array,
  n: number,
  linkage: Linkage,
  threshold: number,
  start: number[][],
  forbidden: (a: number[], b: number[]) => boolean,
): number[][] {
  const clusters = start.map((list) => [...list]);
  const distance = (a: number[], b: number[]): number => {
    const all = a.flatMap((i) => b.map((j) => matrix[i * n + j]!));
    if (linkage === 'average') return all.reduce((sum, d) => sum + d, 0) / all.length;
    return linkage === 'single' ? Math.min(...all) : Math.max(...all);
  };
  for (;;) {
    let best = { d: threshold, i: -1, j: -1 };
    for (let i = 0; i < clusters.length; i++) {
      for (let j = i + 1; j < clusters.length; j++) {
        const d = distance(clusters[i]!, clusters[j]!);
        if (d <= best.d && (best.i < 0 || d < best.d) && !forbidden(clusters[i]!, clusters[j]!)) best = { d, i, j };
      }
    }
    if (best.i < 0) return clusters.map((list) => list.sort((a, b) => a - b)).sort((a, b) => a[0]! - b[0]!);
    clusters[best.i]!.push(...clusters.splice(best.j, 1)[0]!);
  }
}

describe('cases', () => {
  const matrix = cl01!.D!.flat();

  test.each(linkages)('CL-01 %s: merges and cuts', async (linkage) => {
    const expected = cl01![linkage]!;
    const merges = membersOf(await linkageTree(matrix, 5, linkage), 5);
    merges.forEach(([a, b, height], i) => {
      expect([a, b]).toEqual(expected.merges[i]!.slice(0, 2));
      expect(Math.abs(height - (expected.merges[i]![2] as number))).toBeLessThanOrEqual(cl01!.absTolerance!);
    });
    expect(merges).toHaveLength(4);
    for (const { height, clusters } of expected.cuts) {
      expect(asLists(await clusterDistances(matrix, 5, { threshold: height, linkage }))).toEqual(clusters);
    }
  });

  test('CL-04: none, one, two, four in one point', async () => {
    for (const entry of cl04!.cases!) {
      const {
        D = [],
        cut = 0.5,
        clusters,
      } = entry as { D?: number[][]; cut?: number; n?: number; clusters: number[][] };
      const n = (entry as { n?: number }).n ?? D.length;
      const table = n === 1 ? [0] : D.flat();
      for (const linkage of linkages)
        expect(asLists(await clusterDistances(table, n, { threshold: cut, linkage }))).toEqual(clusters);
      expect(asLists(await clusterDistances(table, n, { threshold: cut, method: 'chinese-whispers' }))).toEqual(
        clusters,
      );
      expect(asLists(await clusterDistances(table, n, { threshold: cut, method: 'dbscan', minPoints: 1 }))).toEqual(
        clusters,
      );
    }
    // Equal unit vectors, whose sums round: the average distance is still 0.
    const same = new Float32Array([0.36, 0.48, 0.8]);
    const vectors: VectorSet = {
      data: Float32Array.from({ length: 21 }, (_, i) => same[i % 3]!),
      count: 7,
      dimensions: 3,
    };
    for (const linkage of linkages)
      expect(asLists(await clusterVectors(vectors, { threshold: 0, linkage }))).toHaveLength(1);
    expect((await clusterVectors({ data: new Float32Array(0), count: 0, dimensions: 3 }, { threshold: 1 })).count).toBe(
      0,
    );
  });

  test('CL-04: a distance that is not finite names the pair', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, -0.1]) {
      await expect(clusterDistances([0, 0.1, bad, 0.1, 0, 0.3, bad, 0.3, 0], 3, { threshold: 1 })).rejects.toThrow(
        expect.objectContaining({ code: 'input', message: expect.stringMatching(/faces 0 and 2/) }),
      );
      const vectors = randomVectors(4, 2, 1);
      const rows = () => new Array<number>(16).fill(0.2).fill(bad, 6, 7);
      await expect(clusterVectors(vectors, { threshold: 1, linkage: 'single', rows })).rejects.toThrow(/faces 1 and 2/);
    }
  });
});

describe('agglomerative', () => {
  const options: { name: string; apart?: number[][]; together?: [number, number][]; previous?: number[] }[] = [
    { name: 'free' },
    {
      name: 'apart',
      apart: [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [10, 20],
        [11, 21],
        [30, 31, 32],
      ],
    },
    {
      name: 'together',
      together: [
        [0, 32],
        [1, 2],
        [2, 3],
      ],
    },
    {
      name: 'both',
      apart: [
        [0, 1, 2],
        [5, 9, 13, 17, 21, 25],
      ],
      together: [
        [0, 10],
        [1, 11],
        [5, 6],
      ],
    },
    { name: 'previous', previous: [4, 4, -1, 9, 9, 4, -1, 9, 12] },
  ];

  for (const linkage of linkages) {
    test.each(options)(
      `${linkage} linkage equals the definition: $name`,
      async ({ apart, together = [], previous }) => {
        for (let seed = 1; seed <= 4; seed++) {
          const n = 33;
          const vectors = randomVectors(n, 8, seed);
          const matrix = distanceMatrix(vectors);
          const start = Array.from({ length: n }, (_, i) => [i]);
          const join = (a: number, b: number) => {
            const [x, y] = [start.findIndex((list) => list.includes(a)), start.findIndex((list) => list.includes(b))];
            if (x !== y) start[Math.min(x, y)]!.push(...start.splice(Math.max(x, y), 1)[0]!);
          };
          for (const [a, b] of together) join(a, b);
          previous?.forEach((group, face) => {
            if (group >= 0) join(previous.indexOf(group), face);
          });
          const forbidden = (a: number[], b: number[]) => {
            const groupOf = (list: number[]) => list.map((face) => previous?.[face] ?? -1).find((group) => group >= 0);
            const [g, h] = [groupOf(a), groupOf(b)];
            return (
              (g !== undefined && h !== undefined && g !== h) ||
              (apart ?? []).some(
                (list) => a.some((face) => list.includes(face)) && b.some((face) => list.includes(face)),
              )
            );
          };
          for (const threshold of [0.25, 0.6, 1.1]) {
            const given: ClusterOptions = {
              threshold,
              linkage,
              together,
              ...(apart && { apart }),
              ...(previous && { previous }),
            };
            const expected = naive(matrix, n, linkage, threshold, start, forbidden);
            expect(asLists(await clusterVectors(vectors, given)), `seed ${seed}, threshold ${threshold}`).toEqual(
              expected,
            );
            expect(asLists(await clusterDistances(matrix, n, given))).toEqual(expected);
          }
        }
      },
    );
  }

  test('average linkage finds the same without and with a graph of near pairs', async () => {
    for (let seed = 1; seed <= 3; seed++) {
      const vectors = randomVectors(151, 20, seed);
      const apart = Array.from({ length: 50 }, (_, i) => [3 * i, 3 * i + 1]);
      const units = new Units(151, { apart });
      const { merges } = await mergeByChains(units, new AverageLinkage(vectors, units, null), 0.5);
      const groups = Int32Array.from({ length: 151 }, (_, face) => units.find(units.ofFace[face]!));
      expect(merges.length).toBeGreaterThan(20);
      expect(asLists(await clusterVectors(vectors, { threshold: 0.5, apart }))).toEqual(asLists({ groups }));
    }
  });

  test('too many pairs within the threshold are refused where they are needed, before memory grows', async () => {
    const n = 4200;
    const zeros = new Float32Array(62 * n);
    const vectors: VectorSet = { data: new Float32Array(n).fill(1), count: n, dimensions: 1 };
    await expect(clusterVectors(vectors, { threshold: 1, linkage: 'complete', rows: () => zeros })).rejects.toThrow(
      expect.objectContaining({ code: 'memory' }),
    );
    expect(await neighbourGraph(5, () => zeros, 1, 9)).toBeNull();
    expect((await neighbourGraph(5, () => zeros, 1, 10))!.distance).toHaveLength(10);
  });

  test('ties are broken by the order of the faces, the same way every time', async () => {
    // Four faces on a square and copies: all neighbours equally far.
    const points = [
      [1, 0],
      [0, 1],
      [-1, 0],
      [0, -1],
    ];
    const vectors: VectorSet = {
      data: Float32Array.from({ length: 16 }, (_, i) => points[Math.floor(i / 2) % 4]![i % 2]!),
      count: 8,
      dimensions: 2,
    };
    for (const linkage of linkages) {
      const first = await clusterVectors(vectors, { threshold: 2, linkage });
      expect(await clusterVectors(vectors, { threshold: 2, linkage })).toEqual(first);
      if (linkage !== 'single')
        expect(asLists(first)).toEqual([
          [0, 1, 4, 5],
          [2, 3, 6, 7],
        ]);
    }
  });
});

describe('dbscan', () => {
  /** The definition: density-connected cores, borders to their nearest core. */
  function definition(matrix: Float64Array, n: number, threshold: number, minPoints: number): number[][] {
    const near = (i: number) => Array.from({ length: n }, (_, j) => j).filter((j) => matrix[i * n + j]! <= threshold);
    const cores = Array.from({ length: n }, (_, i) => i).filter((i) => near(i).length >= minPoints);
    const label = new Map<number, number>();
    for (const core of cores) {
      if (label.has(core)) continue;
      const queue = [core];
      while (queue.length > 0) {
        const at = queue.pop()!;
        if (label.has(at)) continue;
        label.set(at, core);
        queue.push(...near(at).filter((j) => cores.includes(j)));
      }
    }
    const groups = Int32Array.from({ length: n }, (_, i) => {
      if (label.has(i)) return label.get(i)!;
      const reach = near(i)
        .filter((j) => cores.includes(j))
        .sort((a, b) => matrix[i * n + a]! - matrix[i * n + b]!);
      return reach.length > 0 ? label.get(reach[0]!)! : -1;
    });
    return asLists({ groups });
  }

  test('equals its definition', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const vectors = randomVectors(60, 8, seed);
      const matrix = distanceMatrix(vectors);
      for (const [threshold, minPoints] of [
        [0.2, 3],
        [0.4, 4],
        [0.7, 2],
        [0.3, 1],
      ] as const) {
        const found = await clusterVectors(vectors, { threshold, method: 'dbscan', minPoints });
        expect(asLists(found)).toEqual(definition(matrix, 60, threshold, minPoints));
      }
    }
  });

  test('apart keeps clusters apart, together makes a group of noise', async () => {
    const vectors = randomVectors(30, 1, 3, 4, 0.2);
    const plain = await clusterVectors(vectors, { threshold: 1, method: 'dbscan' });
    expect(plain.count).toBe(1);
    const { groups } = await clusterVectors(vectors, {
      threshold: 1,
      method: 'dbscan',
      apart: [
        [3, 7],
        [4, 9, 12],
      ],
    });
    expect(groups[3]).not.toBe(groups[7]);
    expect(new Set([groups[4], groups[9], groups[12]]).size).toBe(3);
    const alone = await clusterVectors(vectors, { threshold: 0, method: 'dbscan', together: [[5, 6]] });
    expect(alone.groups[5]).toBe(alone.groups[6]);
    expect(alone.groups[5]).toBeGreaterThanOrEqual(0);
    expect(alone.groups[4]).toBe(-1);
  });
});

describe('chinese whispers', () => {
  test('separated people are found, the same seed gives the same groups', async () => {
    const vectors = randomVectors(120, 6, 2, 16, 0.3);
    const matrix = distanceMatrix(vectors);
    // Far apart people: components of the graph are the answer, whatever the order.
    const expected = naive(
      matrix,
      120,
      'single',
      0.3,
      Array.from({ length: 120 }, (_, i) => [i]),
      () => false,
    );
    expect(expected.length).toBe(6);
    const found = await clusterVectors(vectors, { threshold: 0.3, method: 'chinese-whispers', seed: 5 });
    expect(asLists(found)).toEqual(expected);
    const loose = randomVectors(150, 10, 4);
    const runs = await Promise.all(
      [1, 1, 2, 3].map((seed) => clusterVectors(loose, { threshold: 0.6, method: 'chinese-whispers', seed })),
    );
    expect(runs[1]).toEqual(runs[0]);
    expect(runs.slice(2).some((run) => JSON.stringify(asLists(run)) !== JSON.stringify(asLists(runs[0]!)))).toBe(true);
  });

  test('a bridge of one edge does not join two crowds, which single linkage does', async () => {
    // Two cliques of 5 at 0.1, one edge of 0.4 between them.
    const matrix = Array.from({ length: 100 }, (_, at) => {
      const [i, j] = [Math.floor(at / 10), at % 10];
      return i === j
        ? 0
        : Math.floor(i / 5) === Math.floor(j / 5)
          ? 0.1
          : i + j === 9 && Math.abs(i - j) === 1
            ? 0.4
            : 1.5;
    });
    for (let seed = 1; seed < 20; seed++) {
      const found = await clusterDistances(matrix, 10, { threshold: 0.5, method: 'chinese-whispers', seed });
      expect(asLists(found)).toEqual([
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
      ]);
      expect(found.uncertain).toEqual([{ a: 4, b: 5, distance: 0.4 }]);
    }
    expect(asLists(await clusterDistances(matrix, 10, { threshold: 0.5, linkage: 'single' }))).toHaveLength(1);
  });

  test('two faces of one photo never share a group', async () => {
    const vectors = randomVectors(80, 4, 9, 8, 0.4);
    const photos = Array.from({ length: 20 }, (_, i) => [i * 4, i * 4 + 1, i * 4 + 2, i * 4 + 3]);
    for (const method of ['chinese-whispers', 'dbscan', 'agglomerative'] as const) {
      for (let seed = 1; seed < 4; seed++) {
        const { groups } = await clusterVectors(vectors, {
          threshold: 2,
          method,
          seed,
          apart: photos,
          together: [
            [0, 5],
            [1, 4],
          ],
        });
        for (const photo of photos) expect(new Set(photo.map((face) => groups[face])).size).toBe(4);
        expect([groups[0], groups[1]]).toEqual([groups[5], groups[4]]);
      }
    }
  });
});

describe('the user between runs', () => {
  const vectors = randomVectors(60, 6, 21, 16, 0.4);
  const head = (set: VectorSet, count: number): VectorSet => ({
    ...set,
    data: set.data.slice(0, count * set.dimensions),
    count,
  });

  test.each(['agglomerative', 'chinese-whispers', 'dbscan'] as const)(
    '%s: new faces join old groups, old groups keep their numbers',
    async (method) => {
      const first = await clusterVectors(head(vectors, 40), { threshold: 0.5, method });
      expect(first.count).toBeGreaterThan(3);
      const second = await clusterVectors(vectors, { threshold: 0.5, method, previous: first.groups });
      first.groups.forEach((group, face) => {
        if (group >= 0) expect(second.groups[face]).toBe(group);
      });
      expect(asLists(second)).toEqual(asLists(await clusterVectors(vectors, { threshold: 0.5, method })));
    },
  );

  test('numbers that were given are kept, new ones follow, gaps have no representative', async () => {
    const found = await clusterVectors(head(vectors, 10), { threshold: 0, previous: [7, 7, 3] });
    expect([...found.groups]).toEqual([7, 7, 3, 8, 9, 10, 11, 12, 13, 14]);
    expect(found.count).toBe(9);
    expect(found.representatives.slice(0, 9)).toEqual([-1, -1, -1, 2, -1, -1, -1, 0, 3]);
  });

  test('together joins two old groups under the lower number; apart releases the later face', async () => {
    const joined = await clusterVectors(head(vectors, 6), { threshold: 0, previous: [5, 5, 2, 2], together: [[1, 3]] });
    expect([...joined.groups]).toEqual([2, 2, 2, 2, 6, 7]);
    const parted = await clusterVectors(head(vectors, 6), { threshold: 0, previous: [5, 5, 5, 2], apart: [[0, 2]] });
    expect([...parted.groups]).toEqual([5, 5, 6, 2, 7, 8]);
  });

  test('small groups dissolve, old ones do not', async () => {
    const found = await clusterVectors(head(vectors, 8), {
      threshold: 0,
      minSize: 2,
      previous: [4],
      together: [[2, 3]],
    });
    expect([...found.groups]).toEqual([4, -1, 5, 5, -1, -1, -1, -1]);
    expect(found.count).toBe(2);
  });

  test('contradictions and bad numbers are refused', async () => {
    const run = (options: Partial<ClusterOptions>): Promise<Clustering> =>
      clusterVectors(head(vectors, 6), { threshold: 1, ...options });
    await expect(
      run({
        together: [
          [0, 1],
          [1, 2],
        ],
        apart: [[0, 2]],
      }),
    ).rejects.toThrow(expect.objectContaining({ code: 'input', index: 1 }));
    await expect(run({ together: [[0, 6]] })).rejects.toThrow(/0 to 5, got 6/);
    await expect(run({ apart: [[0, 1.5]] })).rejects.toThrow(/got 1.5/);
    await expect(run({ together: [[0] as never] })).rejects.toThrow(/pair/);
    await expect(run({ previous: [0, 0, 0, 0, 0, 0, 0] })).rejects.toThrow(/got 7/);
    await expect(run({ previous: [-2] })).rejects.toThrow(/-2/);
    for (const threshold of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      await expect(run({ threshold })).rejects.toThrow(/threshold/);
    await expect(run({ method: 'kmeans' as never })).rejects.toThrow(/kmeans/);
    await expect(run({ linkage: 'ward' as never })).rejects.toThrow(/ward/);
    await expect(run({ minSize: 0 })).rejects.toThrow(/minSize/);
    await expect(run({ signal: AbortSignal.abort() })).rejects.toThrow(expect.objectContaining({ code: 'aborted' }));
    await expect(run({ signal: AbortSignal.abort(), linkage: 'single' })).rejects.toThrow(
      expect.objectContaining({ code: 'aborted' }),
    );
    await expect(clusterDistances([0, 1, 2, 0], 2, { threshold: 1 })).rejects.toThrow(/symmetric/);
    await expect(clusterDistances([0, 1, 1], 2, { threshold: 1 })).rejects.toThrow(/n x n/);
    const bad = head(vectors, 3);
    bad.data[20] = Number.NaN;
    await expect(clusterVectors(bad, { threshold: 1 })).rejects.toThrow(expect.objectContaining({ index: 1 }));
  });

  test('aborts while it runs, when the caller pauses', async () => {
    const controller = new AbortController();
    let pauses = 0;
    const pause = async () => {
      if (++pauses === 2) controller.abort();
    };
    await expect(
      clusterVectors(randomVectors(300, 9, 1), { threshold: 0.5, signal: controller.signal, pause }),
    ).rejects.toThrow(expect.objectContaining({ code: 'aborted' }));
    expect(pauses).toBe(2);
  });
});

describe('representatives and uncertain pairs', () => {
  test('a representative is the medoid of its group', async () => {
    const vectors = randomVectors(60, 6, 21, 16, 0.5);
    const matrix = distanceMatrix(vectors);
    for (const found of [
      await clusterVectors(vectors, { threshold: 0.5 }),
      await clusterDistances(matrix, 60, { threshold: 0.5 }),
    ]) {
      asLists(found).forEach((faces) => {
        const sum = (face: number) => faces.reduce((total, other) => total + matrix[face * 60 + other]!, 0);
        const chosen = found.representatives[found.groups[faces[0]!]!]!;
        expect(faces).toContain(chosen);
        expect(sum(chosen)).toBeLessThanOrEqual(Math.min(...faces.map(sum)) + 1e-5);
      });
    }
  });

  test('decisions near the threshold, nearest first, on both sides of it', async () => {
    // Pairs 0-1 at 0.1; 2 joins them at an average of 0.46; 3 stays away at an average of 0.55; 4 is far.
    const matrix = [
      [0, 0.1, 0.45, 0.55, 2],
      [0.1, 0, 0.47, 0.56, 2],
      [0.45, 0.47, 0, 0.54, 2],
      [0.55, 0.56, 0.54, 0, 2],
      [2, 2, 2, 2, 0],
    ].flat();
    const { uncertain, groups } = await clusterDistances(matrix, 5, { threshold: 0.5 });
    expect([...groups]).toEqual([0, 0, 0, 1, 2]);
    expect(uncertain.map(({ a, b }) => [a, b])).toEqual([
      [0, 2],
      [0, 3],
    ]);
    expect(uncertain[0]!.distance).toBeCloseTo(0.46, 12);
    expect(uncertain[1]!.distance).toBeCloseTo(0.55, 12);
    // What the user has answered is not asked again.
    const asked = await clusterDistances(matrix, 5, { threshold: 0.5, apart: [[0, 3]], together: [[0, 2]] });
    expect(asked.uncertain).toEqual([]);
    // 0 misses 1; then 1 takes in 2, which may not be with 0: no question is left.
    const parted = await clusterDistances([0, 0.55, 0.56, 0.55, 0, 0.1, 0.56, 0.1, 0], 3, {
      threshold: 0.5,
      apart: [[0, 2]],
    });
    expect(parted.uncertain).toEqual([]);
    expect((await clusterDistances(matrix, 5, { threshold: 0.5, uncertainLimit: 1 })).uncertain).toHaveLength(1);
  });

  test('every method lists uncertain pairs, nearest to the threshold first, none twice', async () => {
    const vectors = randomVectors(200, 12, 6);
    for (const options of [
      { linkage: 'average' },
      { linkage: 'single' },
      { linkage: 'complete' },
      { method: 'dbscan' },
      { method: 'chinese-whispers' },
    ] as const) {
      const { uncertain, groups } = await clusterVectors(vectors, { threshold: 0.4, ...options });
      expect(uncertain.length, JSON.stringify(options)).toBeGreaterThan(0);
      const gaps = uncertain.map(({ distance }) => Math.abs(distance - 0.4));
      expect(gaps).toEqual([...gaps].sort((a, b) => a - b));
      expect(new Set(uncertain.map(({ a, b }) => [Math.min(a, b), Math.max(a, b)].join())).size).toBe(uncertain.length);
      for (const { a, b, distance } of uncertain) {
        if ('linkage' in options) expect(distance <= 0.4).toBe(groups[a] === groups[b]);
        if (groups[a]! >= 0 && groups[a] === groups[b]) expect(distance).toBeGreaterThanOrEqual(0.34);
      }
    }
  });
});
