import { describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { squaredDistance, type VectorSet } from '../src/faces/distance.ts';
import { type Entry, templateFromJson } from '../src/faces/gallery/entry.ts';
import { dequantise, int8Loss, int8Scales, quantise } from '../src/faces/gallery/int8.ts';
import type { GalleryPolicy } from '../src/faces/gallery/policy.ts';
import { hostSearch, nearestRows, type SearchedVectors, type VectorSearch } from '../src/faces/gallery/search.ts';
import { type GalleryStore, MemoryStore } from '../src/faces/gallery/store.ts';
import { TemplateTable } from '../src/faces/gallery/template-table.ts';
import { FaceGallery, type FingerprintedVectors, type GalleryOptions } from '../src/faces/gallery.ts';
import type { OperatingPoint } from '../src/faces/operating-point.ts';
import { Philox } from '../src/graph/philox.ts';
import { readGallery, writeGallery } from '../src/io/gallery-file.ts';
import cases from './cases/gallery.json' with { type: 'json' };
import labels from './cases/labels.json' with { type: 'json' };

const fingerprint = 'dlib-resnet/0123456789abcdef';
const codec = { write: writeGallery, read: readGallery };
const point: OperatingPoint = {
  threshold: 0.5,
  far: 0.001,
  farInterval: [0, 0.01],
  val: 0.9,
  pairs: 100,
  source: 'test',
};
const caseOf = (id: string) => cases.cases.find((entry) => entry.id === id)! as never as Record<string, never>;

function faces(rows: ArrayLike<number>[], changed: Partial<FingerprintedVectors> = {}): FingerprintedVectors {
  const dimensions = rows[0]!.length;
  return {
    data: Float32Array.from(rows.flatMap((row) => Array.from(row))),
    count: rows.length,
    dimensions,
    fingerprint,
    ...changed,
  };
}

function open(options: Partial<GalleryOptions> = {}): Promise<FaceGallery> {
  return FaceGallery.open({ fingerprint, dimensions: 2, codec, ...options });
}

const at = (degrees: number) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];

async function all(gallery: FaceGallery, label?: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of gallery.entries(label)) entries.push(entry);
  return entries;
}

async function refusal(run: () => unknown): Promise<FaceNetError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(FaceNetError);
    return error as FaceNetError;
  }
  throw new Error('nothing was thrown');
}

function randomRows(count: number, dimensions: number, seed: number, steps = 0): Float32Array {
  const random = new Philox(seed);
  const data = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let i = 0; i < dimensions; i++) {
      // Few different values, so that many rows are equal.
      const value = steps > 0 ? random.below(steps) - (steps - 1) / 2 + 0.25 : random.uniform() - 0.5;
      data[row * dimensions + i] = value;
      square += value * value;
    }
    for (let i = 0; i < dimensions; i++) data[row * dimensions + i]! /= Math.sqrt(square);
  }
  return data;
}

describe('cases', () => {
  test('GA-01: an empty gallery knows nobody', async () => {
    const { probe, expected } = caseOf('GA-01') as unknown as {
      probe: number[];
      expected: { candidates: []; unknown: boolean };
    };
    for (const policy of ['nearest', 'knn', 'mean', 'median', 'mean-distance'] as const) {
      const gallery = await open({ policy });
      const [found] = await gallery.identify(faces([probe]), point);
      expect(found!.matches).toEqual(expected.candidates);
      expect(found!.label).toBeNull();
      expect((await refusal(() => gallery.verify('nobody', faces([probe]), point))).code).toBe('input');
    }
  });

  test('GA-02: templates out of JSON', () => {
    const { accept, asTemplate, reject } = caseOf('GA-02') as unknown as {
      accept: unknown[];
      asTemplate: number[];
      reject: unknown[];
    };
    for (const value of [
      ...accept,
      new Float32Array(asTemplate),
      JSON.parse(JSON.stringify(new Float32Array(asTemplate))),
    ]) {
      expect(templateFromJson(value, 2)).toEqual(new Float32Array(asTemplate));
    }
    for (const value of [...reject, null, 'x', 7, undefined, { 0: 0.6, 2: 0.8 }]) {
      expect(() => templateFromJson(value, 2), JSON.stringify(value)).toThrow(
        expect.objectContaining({ code: 'input' }),
      );
    }
    expect(() => templateFromJson([0.6], 2)).toThrow(/2 numbers, got 1/);
    expect(() => templateFromJson([0.6, null], 2)).toThrow(expect.objectContaining({ index: 1 }));
    // A key of the prototype is no number of the template.
    expect(() => templateFromJson(Object.create({ 0: 0.6, 1: 0.8 }), 2)).toThrow(/got 0/);
  });

  test('GA-07: added twice is one template; equal distances by insertion', async () => {
    const given = caseOf('GA-07') as unknown as {
      adds: [string, number[]][];
      templates: Record<string, number>;
      probe: number[];
      order: string[];
      D: number[];
      absTolerance: number;
    };
    for (const templates of ['float32', 'int8'] as const) {
      const gallery = await open({ templates });
      const ids = [];
      for (const [label, vector] of given.adds) ids.push(...(await gallery.enroll(label, faces([vector]))));
      expect(ids[2]).toBe(ids[0]);
      for (const [label, count] of Object.entries(given.templates))
        expect(await all(gallery, label)).toHaveLength(count);
      const [{ matches }] = (await gallery.identify(faces([given.probe]), point)) as [
        Awaited<ReturnType<FaceGallery['identify']>>[0],
      ];
      expect(matches.map(({ label }) => label)).toEqual(given.order);
      matches.forEach(({ distance }, i) =>
        expect(Math.abs(distance - given.D[i]!)).toBeLessThanOrEqual(
          templates === 'int8' ? 2 * 0.18 * (0.5 / 127) * 1.42 : given.absTolerance,
        ),
      ); // half a step in both numbers
    }
    // Also within one call, and once for each person.
    const gallery = await open();
    const [a, b] = await gallery.enroll('A', faces([at(10), at(10)]));
    expect(a).toBe(b);
    expect(await gallery.enroll('B', faces([at(10)]))).not.toEqual([a]);
    expect(gallery.size).toBe(2);
  });

  test('GA-09: every policy gives its own distances and order', async () => {
    const given = caseOf('GA-09') as unknown as {
      gallery: Record<string, number[][]>;
      probe: number[];
      absTolerance: number;
    } & Record<string, { D: Record<string, number>; order: string[] }>;
    const named: [GalleryPolicy, string][] = [
      ['nearest', 'nearestTemplate'],
      ['mean-distance', 'meanDistance'],
      ['mean', 'normalisedMeanTemplate'],
    ];
    for (const [policy, name] of named) {
      const gallery = await open({ policy });
      for (const [label, rows] of Object.entries(given.gallery)) await gallery.enroll(label, faces(rows));
      const [found] = await gallery.identify(faces([given.probe]), { ...point, threshold: 4 });
      const { D, order } = given[name]!;
      expect(found!.matches.map(({ label }) => label)).toEqual(order);
      for (const { label, distance } of found!.matches) {
        expect(Math.abs(distance - D[label]!)).toBeLessThanOrEqual(given.absTolerance);
        expect((await gallery.verify(label, faces([given.probe]), point)).distance).toBe(distance);
      }
      expect(found!.label).toBe(order[0]);
    }
  });
});

describe('policies', () => {
  test('median: an outlier among three moves nothing', async () => {
    const gallery = await open({ policy: 'median' });
    await gallery.enroll('A', faces([at(0), at(2), at(90)]));
    await gallery.enroll('B', faces([at(20)]));
    const [found] = await gallery.identify(faces([at(5)]), point);
    // Medians of cos and sin: those of 2 degrees.
    expect(found!.matches[0]!.label).toBe('A');
    expect(found!.matches[0]!.distance).toBeCloseTo(squaredDistance(at(5), at(2)), 6);
    const mean = await open({ policy: 'mean' });
    await mean.enroll('A', faces([at(0), at(2), at(90)]));
    await mean.enroll('B', faces([at(20)]));
    expect((await mean.identify(faces([at(5)]), point))[0]!.matches[0]!.label).toBe('B');
  });

  test('knn: votes of the k nearest templates decide, then the nearest', async () => {
    const build = async (k: number) => {
      const gallery = await open({ policy: 'knn', k });
      await gallery.enroll('one near', faces([at(1)]));
      await gallery.enroll('three farther', faces([at(3), at(4), at(5)]));
      return gallery;
    };
    expect((await (await build(1)).identify(faces([at(0)]), point))[0]!.label).toBe('one near');
    const [found] = await (await build(4)).identify(faces([at(0)]), point);
    expect(found!.matches.map(({ label }) => label)).toEqual(['three farther', 'one near']);
    expect(found!.matches[0]!.distance).toBeCloseTo(squaredDistance(at(0), at(3)), 6);
    // One vote each: the nearer one.
    expect((await (await build(2)).identify(faces([at(0)]), point))[0]!.label).toBe('one near');
  });

  test('a person whose templates cancel is represented by the first', async () => {
    for (const policy of ['mean', 'median'] as const) {
      const gallery = await open({ policy });
      await gallery.enroll(
        'A',
        faces([
          [1, 0],
          [-1, 0],
        ]),
      );
      expect((await gallery.identify(faces([[1, 0]]), point))[0]!.matches[0]!.distance).toBe(0);
    }
  });

  test('somebody beyond the threshold is unknown, but listed', async () => {
    const gallery = await open();
    await gallery.enroll('A', faces([at(0)]));
    const [near, far] = await gallery.identify(faces([at(40), at(60)]), point);
    expect(near).toMatchObject({ label: 'A', matches: [{ label: 'A', accepted: true }], point });
    expect(far).toMatchObject({ label: null, matches: [{ label: 'A', accepted: false }] });
    expect((await gallery.verify('A', faces([at(40)]), point)).same).toBe(true);
    // Exactly on the line is within.
    const onLine = { ...point, threshold: near!.matches[0]!.distance };
    expect((await gallery.identify(faces([at(40)]), onLine))[0]!.label).toBe('A');
  });

  test('the nearest people are exact however many templates one person has', async () => {
    const gallery = await open();
    await gallery.enroll('many', faces(Array.from({ length: 300 }, (_, i) => at(1 + i / 1000))));
    await gallery.enroll('second', faces([at(3)]));
    await gallery.enroll('third', faces([at(-4)]));
    const [found] = await gallery.identify(faces([at(0)]), point, { limit: 3 });
    expect(found!.matches.map(({ label }) => label)).toEqual(['many', 'second', 'third']);
    expect((await gallery.identify(faces([at(0)]), point, { limit: 1 }))[0]!.matches).toHaveLength(1);
  });
});

describe('search', () => {
  const brute = (query: Float32Array, vectors: SearchedVectors, k: number) => {
    const d = vectors.dimensions;
    const distances = Array.from({ length: vectors.count }, (_, row) => {
      let sum = 0;
      for (let i = 0; i < d; i++)
        sum += (query[i]! - vectors.data[row * d + i]! * ('scales' in vectors ? vectors.scales[row]! : 1)) ** 2;
      return sum > 4 && sum < 4.04 ? 4 : sum;
    });
    const rows = distances
      .map((_, row) => row)
      .sort((a, b) => distances[a]! - distances[b]! || a - b)
      .slice(0, k);
    return { rows: Uint32Array.from(rows), distances: Float64Array.from(rows, (row) => distances[row]!) };
  };

  test.each([
    [1, 40],
    [7, 40],
    [10_007, 40],
    [10_007, 3],
  ])('the k nearest of %d rows of %d numbers equal brute force, ties by row', (count, dimensions) => {
    for (const steps of [0, 3]) {
      const vectors: VectorSet = {
        data: randomRows(count, dimensions, count + dimensions + steps, steps),
        count,
        dimensions,
      };
      // Duplicates, and zero rows, which a gallery refuses but a search must survive.
      vectors.data.copyWithin(0, (count >> 1) * dimensions, ((count >> 1) + 1) * dimensions);
      if (count > 7) vectors.data.fill(0, 3 * dimensions, 5 * dimensions);
      const queries = randomRows(3, dimensions, 5, steps);
      queries.set(vectors.data.subarray(0, dimensions));
      for (let i = 0; i < 3; i++) {
        const query = queries.subarray(i * dimensions, (i + 1) * dimensions);
        for (const k of [1, 5, count, count + 9])
          expect(nearestRows(query, vectors, k)).toEqual(brute(query, vectors, k));
        expect(nearestRows(query, vectors, 0).rows).toHaveLength(0);
      }
    }
  });

  test('a million rows with many ties', () => {
    const vectors: VectorSet = { data: randomRows(1_000_000, 4, 1, 5), count: 1_000_000, dimensions: 4 };
    const query = randomRows(1, 4, 2, 5);
    for (const k of [1, 5]) expect(nearestRows(query, vectors, k)).toEqual(brute(query, vectors, k));
  });

  test('int8 rows are searched as what they stand for', () => {
    const floats: VectorSet = { data: randomRows(500, 24, 3), count: 500, dimensions: 24 };
    const bytes = quantise(floats);
    const query = randomRows(1, 24, 4);
    expect(nearestRows(query, bytes, 20)).toEqual(brute(query, bytes, 20));
    const restored = nearestRows(query, { data: dequantise(bytes), count: 500, dimensions: 24 }, 20);
    nearestRows(query, bytes, 20).distances.forEach((distance, i) =>
      expect(distance).toBeCloseTo(restored.distances[i]!, 6),
    );
  });

  test('a device may search: it is told what changed, its distances are made exact', async () => {
    const calls: [number, number][] = [];
    const inner = hostSearch();
    const device: VectorSearch = {
      load: (vectors, firstChanged) => {
        calls.push([vectors.count, firstChanged]);
        return inner.load(vectors, firstChanged);
      },
      nearest: async (query, k) => {
        const found = await inner.nearest(query, k);
        return { rows: found.rows.slice().reverse(), distances: found.distances.map((distance) => distance + 0.001) };
      },
    };
    const gallery = await open({ search: device });
    const ids = await gallery.enroll('A', faces([at(0), at(10), at(20)]));
    const [found] = await gallery.identify(faces([at(12)]), point);
    expect(found!.matches).toEqual([
      { label: 'A', distance: squaredDistance(new Float32Array(at(12)), new Float32Array(at(10))), accepted: true },
    ]);
    await gallery.identify(faces([at(12)]), point);
    await gallery.enroll('B', faces([at(30)]));
    await gallery.identify(faces([at(12)]), point);
    await gallery.remove({ id: ids[1]! });
    await gallery.identify(faces([at(12)]), point);
    // A new name is nothing to the device.
    await gallery.rename('A', 'C');
    expect((await gallery.identify(faces([at(1)]), point))[0]!.label).toBe('C');
    expect(calls).toEqual([
      [3, 0],
      [4, 3],
      [3, 1],
    ]);
  });
});

describe('int8 templates', () => {
  test('128 numbers become 128 bytes; rounding what was rounded changes nothing', () => {
    const vectors: VectorSet = { data: randomRows(50, 128, 1), count: 50, dimensions: 128 };
    const bytes = quantise(vectors);
    expect(bytes.data.byteLength).toBe(50 * 128);
    expect(quantise({ data: dequantise(bytes), count: 50, dimensions: 128 })).toEqual(bytes);
    for (let row = 0; row < 50; row++) {
      const own = bytes.data.subarray(row * 128, (row + 1) * 128);
      expect(Math.max(...own.map(Math.abs))).toBe(127);
      // Worst case: half a step in each number.
      const largest = Math.max(...vectors.data.subarray(row * 128, (row + 1) * 128).map(Math.abs));
      const distance = squaredDistance(
        vectors.data.subarray(row * 128, (row + 1) * 128),
        dequantise(bytes).subarray(row * 128, (row + 1) * 128),
      );
      expect(distance).toBeLessThan(4 * 128 * (largest / 254) ** 2);
    }
    expect(() => int8Scales(new Int8Array(4), 2, 2)).toThrow(expect.objectContaining({ index: 0 }));
  });

  test('the loss report: distances, and VAL at FAR before and after', async () => {
    const people = 20;
    const centres = randomRows(people, 32, 5);
    const noise = new Philox(6);
    const data = new Float32Array(200 * 32);
    for (let row = 0; row < 200; row++) {
      const own = Array.from(
        { length: 32 },
        (_, i) => centres[(row % people) * 32 + i]! + 0.25 * (noise.uniform() - 0.5),
      );
      const length = Math.hypot(...own);
      own.forEach((value, i) => {
        data[row * 32 + i] = value / length;
      });
    }
    const vectors: VectorSet = { data, count: 200, dimensions: 32 };
    const loss = await int8Loss(
      vectors,
      Array.from({ length: 200 }, (_, i) => i % people),
      [0.01],
    );
    expect(loss.bytes).toEqual({ float32: 128, int8: 32 });
    expect(loss.meanDistance).toBeGreaterThan(0);
    expect(loss.meanDistance).toBeLessThan(2e-4);
    expect(loss.largestDistance).toBeGreaterThanOrEqual(loss.meanDistance);
    expect(loss.valAtFar).toHaveLength(1);
    expect(Math.abs(loss.valAtFar[0]!.float32 - loss.valAtFar[0]!.int8)).toBeLessThan(0.02);
    expect((await int8Loss(vectors)).valAtFar).toEqual([]);
    await expect(int8Loss({ data: new Float32Array(0), count: 0, dimensions: 3 })).rejects.toThrow(/at least one/);
  });
});

describe('names', () => {
  const names = labels.cases.flatMap((entry) => entry.names);
  const shown = (label: string) => [...label].map((character) => character.codePointAt(0));

  test('every name survives every path, code point for code point, in order of insertion', async () => {
    const gallery = await open();
    for (const [i, name] of names.entries()) await gallery.enroll(name, faces([at(i * 5)]), { [name]: name });
    const check = async (own: FaceGallery, expected: readonly string[]) => {
      expect((await own.labels()).map(shown)).toEqual(expected.map(shown));
      for (const entry of await all(own))
        expect(shown(entry.label)).toEqual(shown(expected[Number((await own.labels()).indexOf(entry.label))]!));
    };
    await check(gallery, names);
    for (const [i, name] of names.entries()) {
      const [found] = await gallery.identify(faces([at(i * 5)]), point, { limit: 1 });
      expect(found!.label).toBe(name);
      expect((await all(gallery, name))[0]!.meta).toEqual(Object.fromEntries([[name, name]]));
      expect(decodeURIComponent(encodeURIComponent(name))).toBe(name);
    }
    for (const lock of [{}, { key: new Uint8Array(32).fill(7) }]) {
      const loaded = await open();
      await loaded.load(await gallery.save(lock), lock);
      await check(loaded, names);
      expect(await all(loaded)).toEqual(await all(gallery));
    }
    for (const name of names) {
      expect(await gallery.rename(name, `${name}!`)).toBe(1);
      expect(await all(gallery, name)).toHaveLength(0);
    }
    await check(
      gallery,
      names.map((name) => `${name}!`),
    );
    for (const name of names) expect(await gallery.remove({ label: `${name}!` })).toBe(1);
    expect([gallery.size, gallery.people]).toEqual([0, 0]);
  });

  test('look-alikes stay apart, absent names are absent', async () => {
    const gallery = await open();
    const alike = ['é', 'e\u0301', 'A', 'Α', 'a', ' a', 'a ', '14', '014', '\u200ba'];
    for (const [i, name] of alike.entries()) await gallery.enroll(name, faces([at(i * 5)]));
    expect(gallery.people).toBe(alike.length);
    for (const absent of ['valueOf', 'toString', '__proto__', 'hasOwnProperty', '0']) {
      expect(await all(gallery, absent)).toHaveLength(0);
      expect(await gallery.remove({ label: absent })).toBe(0);
      expect(await gallery.rename(absent, 'x')).toBe(0);
    }
  });

  test('empty, blank, NUL, too long, half a surrogate pair: refused everywhere, nothing is changed', async () => {
    const gallery = await open();
    await gallery.enroll('A', faces([at(0)]));
    for (const bad of [
      ...labels.cases[0]!.mustReject!,
      '\t\n',
      '\u00a0',
      'x'.repeat(4097),
      '\ud800',
      'a\udc00b',
      7,
      null,
      undefined,
    ]) {
      expect((await refusal(() => gallery.enroll(bad as string, faces([at(9)])))).code).toBe('input');
      expect((await refusal(() => gallery.rename('A', bad as string))).code).toBe('input');
    }
    await gallery.enroll('😀', faces([at(50)]));
    expect([gallery.size, gallery.people]).toEqual([2, 2]);
  });
});

describe('enrol, rename, remove', () => {
  test('bad vectors and meta are refused and nothing is added', async () => {
    const gallery = await open();
    const bad: [Partial<FingerprintedVectors>, string][] = [
      [{ data: new Float32Array([1, 0, 0, 0]) }, 'input'],
      [{ data: new Float32Array([1, 0, Number.NaN, 1]) }, 'input'],
      [{ data: new Float32Array([1, 0, Number.POSITIVE_INFINITY, 1]) }, 'input'],
      [{ data: new Float32Array([1, 0, 3, 4]) }, 'input'],
      [{ data: new Float32Array(3) }, 'input'],
      [{ data: new Float32Array(0), count: 0 }, 'input'],
      [{ fingerprint: 'nn4.small2/ff' }, 'mismatch'],
      [{ dimensions: 4, count: 1, data: new Float32Array([1, 0, 0, 0]) }, 'mismatch'],
    ];
    for (const [change, code] of bad) {
      const error = await refusal(() => gallery.enroll('A', faces([at(0), at(1)], change)));
      expect(error.code, JSON.stringify(change)).toBe(code);
    }
    expect((await refusal(() => gallery.enroll('A', faces([at(0)], { fingerprint: 'other' })))).message).toMatch(
      /dlib-resnet\/0123456789abcdef, got other/,
    );
    for (const meta of [{ a: 1 }, null, 'x', []])
      expect((await refusal(() => gallery.enroll('A', faces([at(0)]), meta as never))).code).toBe('input');
    expect(gallery.size).toBe(0);
    expect((await refusal(() => gallery.identify(faces([at(0)], { fingerprint: 'other' }), point))).code).toBe(
      'mismatch',
    );
    expect((await refusal(() => gallery.identify(faces([at(0)]), point, { limit: 0 }))).code).toBe('input');
    expect((await refusal(() => gallery.remove({}))).code).toBe('input');
    for (const options of [
      { fingerprint: '' },
      { dimensions: 0 },
      { policy: 'best' as never },
      { k: 0 },
      { templates: 'int4' as never },
    ])
      expect((await refusal(() => open(options))).code).toBe('input');
  });

  test('the caller may change arrays after the call, and what it was given', async () => {
    const gallery = await open();
    const given = faces([at(0)]);
    const meta = { note: 'x' };
    const enrolled = gallery.enroll('A', given, meta);
    given.data.fill(0);
    meta.note = 'changed';
    await enrolled;
    const [entry] = await all(gallery);
    expect(entry!.vector).toEqual(new Float32Array(at(0)));
    expect(entry!.meta).toEqual({ note: 'x' });
    entry!.vector.fill(0);
    entry!.meta!.note = 'changed';
    expect((await all(gallery))[0]).toMatchObject({ meta: { note: 'x' }, vector: new Float32Array(at(0)) });
  });

  test('rename onto somebody else makes one person of two; what both had stays once', async () => {
    const gallery = await open();
    await gallery.enroll('A', faces([at(0), at(10)]));
    await gallery.enroll('B', faces([at(10), at(20)]));
    expect(await gallery.rename('B', 'A')).toBe(2);
    expect(
      (await all(gallery)).map(({ label, vector }) => [
        label,
        Math.round((Math.atan2(vector[1]!, vector[0]!) * 180) / Math.PI),
      ]),
    ).toEqual([
      ['A', 0],
      ['A', 10],
      ['A', 20],
    ]);
    expect(gallery.people).toBe(1);
    expect(await gallery.rename('A', 'A')).toBe(3);
  });

  test('remove by id, by label, by both; order and search stay right', async () => {
    for (const templates of ['float32', 'int8'] as const) {
      const gallery = await open({ templates });
      const a = await gallery.enroll('A', faces([at(0), at(1), at(2)]));
      const b = await gallery.enroll('B', faces([at(90)]));
      expect(await gallery.remove({ id: a[1]!, label: 'B' })).toBe(0);
      expect(await gallery.remove({ id: a[1]! })).toBe(1);
      expect(await gallery.remove({ id: a[1]! })).toBe(0);
      expect((await all(gallery)).map(({ id }) => id)).toEqual([a[0], a[2], b[0]]);
      expect((await gallery.identify(faces([at(88)]), point, { limit: 1 }))[0]!.label).toBe('B');
      expect(await gallery.remove({ id: a[2]!, label: 'A' })).toBe(1);
      expect((await all(gallery)).map(({ id }) => id)).toEqual([a[0], b[0]]);
      expect(await gallery.remove({ label: 'A' })).toBe(1);
      expect([gallery.size, gallery.people]).toEqual([1, 1]);
      expect((await gallery.identify(faces([at(0)]), point))[0]!.matches.map(({ label }) => label)).toEqual(['B']);
    }
  });

  test('what is removed is wiped from memory', () => {
    for (const kind of ['float32', 'int8'] as const) {
      const table = new TemplateTable(2, kind);
      table.put(
        Array.from({ length: 20 }, (_, i) => ({ id: `${i}`, label: `${i % 3}`, vector: new Float32Array(at(i)) })),
      );
      table.remove(table.rowsOf('1'));
      const { data, count } = table.searched();
      expect(count).toBe(13);
      const memory = kind === 'float32' ? new Float32Array(data.buffer) : new Int8Array(data.buffer);
      expect(memory.length).toBeGreaterThan(26);
      expect(memory.subarray(26).every((value) => value === 0)).toBe(true);
      table.clear();
      expect(memory.every((value) => value === 0)).toBe(true);
    }
  });

  test('200 calls without waiting give what the same calls one by one give', async () => {
    const script = (gallery: FaceGallery) =>
      Array.from({ length: 200 }, (_, i) => {
        const label = `p${i % 7}`;
        if (i % 11 === 5) return () => gallery.remove({ label });
        if (i % 13 === 6) return () => gallery.rename(label, `p${(i + 1) % 7}`);
        if (i % 17 === 3) return () => gallery.identify(faces([at(i)]), point);
        if (i % 19 === 4)
          return () => gallery.enroll(label, faces([[0, 0]])).catch((error: FaceNetError) => error.code);
        return () => gallery.enroll(label, faces([at(i % 50)]));
      });
    const counter = () => {
      let next = 0;
      return () => `id${next++}`;
    };
    const [one, other] = [await open({ newId: counter() }), await open({ newId: counter() })];
    const expected = [];
    for (const call of script(one)) expected.push(await call());
    expect(await Promise.all(script(other).map((call) => call()))).toEqual(expected);
    expect(await all(other)).toEqual(await all(one));
    expect(other.size).toBeGreaterThan(10);
  });

  test('close: twice is allowed, then everything is refused; templates are wiped', async () => {
    const gallery = await open();
    await gallery.enroll('A', faces([at(0)]));
    const pending = gallery.identify(faces([at(0)]), point);
    await Promise.all([gallery.close(), gallery.close()]);
    await gallery.close();
    expect((await pending)[0]!.label).toBe('A');
    expect(gallery.size).toBe(0);
    for (const call of [
      () => gallery.enroll('A', faces([at(0)])),
      () => gallery.identify(faces([at(0)]), point),
      () => gallery.save(),
      () => all(gallery),
      () => gallery.labels(),
    ]) {
      expect((await refusal(call)).code).toBe('disposed');
    }
  });

  test('an id that comes back again and again is an error, not a lost entry', async () => {
    const gallery = await open({ newId: () => 'same' });
    await gallery.enroll('A', faces([at(0)]));
    expect((await refusal(() => gallery.enroll('B', faces([at(1)])))).message).toMatch(/newId/);
    expect(gallery.size).toBe(1);
    const random = await open();
    const [id] = await random.enroll('A', faces([at(0)]));
    expect(id).toMatch(/^[0-9a-f]{24}$/);
  });
});

/** Fails at the k-th call, before or after doing it. */
class FailingStore implements GalleryStore {
  calls = 0;
  failAt = 0;
  after = false;
  readonly inner: GalleryStore;

  constructor(inner: GalleryStore) {
    this.inner = inner;
  }

  async #run(call: () => Promise<void>): Promise<void> {
    const fails = ++this.calls === this.failAt;
    if (fails && !this.after) throw new Error('disk on fire');
    await call();
    if (fails) throw new Error('disk on fire, afterwards');
  }

  open(fingerprint: string, dimensions: number) {
    return this.#run(() => this.inner.open(fingerprint, dimensions));
  }
  async *entries() {
    await this.#run(async () => {});
    yield* this.inner.entries();
  }
  put(entries: readonly Entry[]) {
    return this.#run(() => this.inner.put(entries));
  }
  remove(ids: readonly string[]) {
    return this.#run(() => this.inner.remove(ids));
  }
  compact() {
    return this.#run(async () => {});
  }
  close() {
    return this.#run(() => this.inner.close());
  }
}

describe('stores', () => {
  /** What is done, with how the people and their templates change when it is acknowledged. */
  const script: [string, (gallery: FaceGallery) => Promise<unknown>, (state: Map<string, Set<number>>) => void][] = [
    [
      'enrol A',
      (g) => g.enroll('A', faces([at(0), at(10)])),
      (s) => {
        s.set('A', new Set([0, 10]));
      },
    ],
    [
      'enrol B',
      (g) => g.enroll('B', faces([at(10), at(20)])),
      (s) => {
        s.set('B', new Set([10, 20]));
      },
    ],
    [
      'enrol C',
      (g) => g.enroll('C', faces([at(30)])),
      (s) => {
        s.set('C', new Set([30]));
      },
    ],
    [
      'rename B',
      (g) => g.rename('B', 'A'),
      (s) => {
        for (const t of s.get('B') ?? []) s.set('A', new Set([...(s.get('A') ?? []), t]));
        s.delete('B');
      },
    ],
    [
      'erase C',
      (g) => g.erase('C'),
      (s) => {
        s.delete('C');
      },
    ],
    [
      'enrol D',
      (g) => g.enroll('D', faces([at(40)])),
      (s) => {
        s.set('D', new Set([40]));
      },
    ],
  ];
  const stateOf = async (gallery: FaceGallery) => {
    const state = new Map<string, Set<number>>();
    for (const { label, vector } of await all(gallery))
      state.set(
        label,
        new Set([...(state.get(label) ?? []), Math.round((Math.atan2(vector[1]!, vector[0]!) * 180) / Math.PI)]),
      );
    return state;
  };

  test.each([false, true])(
    'failing at the k-th call for every k (after doing it: %s): typed, nothing acknowledged is lost',
    async (after) => {
      const clean = new FailingStore(new MemoryStore());
      const gallery = await open({ store: clean });
      for (const [, run] of script) await run(gallery);
      await gallery.close();
      expect(clean.calls).toBeGreaterThan(8);
      for (let k = 1; k <= clean.calls; k++) {
        const inner = new MemoryStore();
        const store = Object.assign(new FailingStore(inner), { failAt: k, after });
        let opened: FaceGallery;
        try {
          opened = await open({ store });
        } catch (error) {
          expect(error).toMatchObject({
            code: 'store',
            cause: expect.objectContaining({ message: expect.stringMatching(/fire/) }),
          });
          continue;
        }
        const acknowledged = new Map<string, Set<number>>();
        let failed: { name: string; before: Map<string, Set<number>>; done: Map<string, Set<number>> } | null = null;
        for (const [name, run, apply] of script) {
          const before = structuredClone(acknowledged);
          try {
            await run(opened);
            apply(acknowledged);
          } catch (error) {
            expect(error, name).toMatchObject({ code: 'store' });
            apply(acknowledged);
            failed = { name, before, done: structuredClone(acknowledged) };
            // What holds now: each template of before or after, under a label of before or after, none lost that both have.
            const now = await stateOf(opened);
            for (const [label, templates] of before) {
              for (const template of templates)
                if (failed.done.get(label)?.has(template))
                  expect(now.get(label)?.has(template), `${name}, call ${k}`).toBe(true);
            }
            for (const [label, templates] of now)
              for (const template of templates)
                expect(before.get(label)?.has(template) || failed.done.get(label)?.has(template)).toBe(true);
            // Done again it is done.
            await run(opened);
            expect(await stateOf(opened)).toEqual(failed.done);
          }
        }
        if (failed) expect(await stateOf(opened)).toEqual(acknowledged);
        await opened.close().catch((error: FaceNetError) => expect(error.code).toBe('store'));
        expect(await stateOf(await open({ store: inner })), `call ${k}`).toEqual(acknowledged);
      }
    },
  );

  test('a store of another model is refused at open, naming both', async () => {
    const store = new MemoryStore();
    await (await open({ store })).enroll('A', faces([at(0)]));
    const error = await refusal(() => FaceGallery.open({ fingerprint: 'nn4.small2/ff', dimensions: 2, store }));
    expect(error.code).toBe('mismatch');
    expect(error.message).toMatch(/dlib-resnet\/0123456789abcdef .*got nn4.small2\/ff/);
    expect((await refusal(() => FaceGallery.open({ fingerprint, dimensions: 3, store }))).code).toBe('mismatch');
  });

  test('entries are kept over closing, in order; a damaged one is refused with its place', async () => {
    const store = new MemoryStore();
    const gallery = await open({ store });
    const [id] = await gallery.enroll('A', faces([at(0)]));
    await gallery.enroll('B', faces([at(1)]));
    await gallery.rename('A', 'C');
    await gallery.close();
    expect((await all(await open({ store }))).map(({ label }) => label)).toEqual(['C', 'B']);
    for (const damage of [
      { label: '' },
      { vector: new Float32Array([1, 1]) },
      { vector: new Float32Array(3) },
      { vector: new Float32Array([Number.NaN, 0]) },
      { meta: { a: 1 } as never },
    ]) {
      await store.put([{ id: id!, label: 'SENTINEL', vector: new Float32Array(at(0)), ...damage }]);
      const error = await refusal(() => open({ store }));
      expect(error.code).toBe('store');
      expect(error.index).toBe(0);
    }
  });

  test('changes of others are seen after watch() calls back, the store may search', async () => {
    let changed = () => {};
    let ended = false;
    let searches = 0;
    const inner = new MemoryStore();
    const store: GalleryStore = {
      open: (f, d) => inner.open(f, d),
      entries: () => inner.entries(),
      put: (entries) => inner.put(entries),
      remove: (ids) => inner.remove(ids),
      close: () => inner.close(),
      watch: (callback) => {
        changed = callback;
        return () => {
          ended = true;
        };
      },
      nearest: async (query, limit) => {
        searches++;
        const found: { id: string; label: string; distance: number }[] = [];
        for await (const { id, label, vector } of inner.entries())
          found.push({ id, label, distance: squaredDistance(query, vector) });
        return found.sort((a, b) => a.distance - b.distance).slice(0, limit);
      },
    };
    const gallery = await open({ store });
    await gallery.enroll('A', faces([at(0)]));
    await inner.put([{ id: 'x', label: 'B', vector: new Float32Array(at(90)) }]);
    expect(await gallery.labels()).toEqual(['A']);
    changed();
    expect(await gallery.labels()).toEqual(['A', 'B']);
    expect((await gallery.identify(faces([at(80)]), point))[0]!.label).toBe('B');
    expect(searches).toBe(1);
    await gallery.close();
    expect(ended).toBe(true);
  });
});

test('no error text repeats a name, a note or a number of a template', async () => {
  const secret = 'SENTINEL-Name';
  const texts: string[] = [];
  const note = (error: unknown) => {
    for (let at: unknown = error; at instanceof Error; at = at.cause)
      texts.push(at.message, JSON.stringify(at), String(at.stack));
  };
  const gallery = await open();
  await gallery.enroll(secret, faces([[0.6, 0.8]]), { note: secret });
  const file = await gallery.save();
  const attempts: (() => Promise<unknown>)[] = [
    () => gallery.enroll(`${secret}\0`, faces([at(0)])),
    () => gallery.enroll(`${secret}\ud800`, faces([at(0)])),
    () => gallery.enroll(secret.repeat(500), faces([at(0)])),
    () => gallery.enroll(secret, faces([at(0)]), { [secret]: 5 as never }),
    () => gallery.verify(`${secret}2`, faces([at(0)]), point),
    () => gallery.exportPerson(`${secret}2`),
    () => gallery.enroll(secret, faces([[0.6, 0.9]])),
    () => gallery.load(file.subarray(0, 200)),
    () => gallery.load(Uint8Array.from(file, (byte, i) => (i === file.length - 5 ? byte ^ 1 : byte))),
    () => gallery.load(file, { passphrase: '' }),
    async () =>
      open({
        store: {
          ...new MemoryStore(),
          open: async () => {},
          entries: async function* () {
            yield { id: '1', label: `${secret}\0`, vector: new Float32Array([0.6, 0.8]) };
          },
          put: async () => {},
          remove: async () => {},
          close: async () => {},
        },
      }),
  ];
  for (const attempt of attempts) note(await refusal(attempt));
  expect(texts.length).toBeGreaterThan(attempts.length * 2);
  for (const text of texts) expect(text).not.toMatch(/SENTINEL|0\.6000|0\.8000/);
});
