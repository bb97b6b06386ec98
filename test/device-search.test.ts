// area: tasks
// on: none lavapipe
//
// Exact search on the device against brute force written out here: every row and every bit of every distance, with duplicates, zero vectors and
// ties, over several chunks, for float32 and int8; and what happens when templates change, the device is lost or has no room.
import { afterAll, describe, expect, test } from 'vitest';
import { deviceSearch } from '../src/faces/gallery/device-search.ts';
import { quantise } from '../src/faces/gallery/int8.ts';
import type { FloatVectors, SearchedVectors } from '../src/faces/gallery/search.ts';
import type { Backend } from '../src/plan/runner.ts';
import { backends, title, withoutRoom } from './backends.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

/** Whole numbers of 32 bits, the same everywhere; quick enough for a million rows. */
function generator(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
}

/** Unit rows. `steps`: so few different numbers that many rows are equal. */
function rows(count: number, dimensions: number, seed: number, steps = 0): FloatVectors {
  const next = generator(seed);
  const data = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) {
      const value = steps > 0 ? ((next() >>> 8) % steps) - (steps - 1) / 2 + 0.25 : next() / 2 ** 31;
      data[i] = value;
      square += value * value;
    }
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) data[i]! /= Math.sqrt(square);
  }
  return { data, count, dimensions };
}

/** All distances in float64, then a sort by distance and row. */
function brute(query: Float32Array, vectors: SearchedVectors, k: number) {
  const { count, dimensions: d, data } = vectors;
  const distances = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    const scale = 'scales' in vectors ? vectors.scales[row]! : 1;
    let sum = 0;
    for (let i = 0; i < d; i++) sum += (query[i]! - data[row * d + i]! * scale) ** 2;
    distances[row] = sum > 4 && sum < 4.04 ? 4 : sum;
  }
  const before = (a: number, b: number) => distances[a]! - distances[b]! || a - b;
  const order =
    k > 10 ? Uint32Array.from(distances.keys()).sort(before).slice(0, k) : new Uint32Array(Math.min(k, count));
  // A pass for each of a few.
  for (let i = 0; k <= 10 && i < order.length; i++) {
    let best = -1;
    for (let row = 0; row < count; row++) {
      if ((i > 0 && before(row, order[i - 1]!) <= 0) || (best >= 0 && before(row, best) >= 0)) continue;
      best = row;
    }
    order[i] = best;
  }
  return { rows: order, distances: Float64Array.from(order, (row) => distances[row]!) };
}

/** The backend with a count of what it is given. */
function counted(backend: Backend) {
  const seen = { runs: 0, bytes: 0 };
  const counting = new Proxy(backend, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (name === 'run')
        return (...given: Parameters<Backend['run']>) => {
          seen.runs++;
          return target.run(...given);
        };
      if (name === 'write')
        return (...given: Parameters<Backend['write']>) => {
          seen.bytes += given[2].byteLength;
          target.write(...given);
        };
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { seen, counting };
}

describe.each(opened.map((backend) => [title(backend), backend] as const))('%s', (_, backend) => {
  const onDevice = { fewRows: 1, chunkBytes: 2 ** 20 };
  const search = (seen = counted(backend)) => ({
    ...seen,
    device: deviceSearch((task) => task(seen.counting), onDevice),
  });

  test.each([
    [1, 128, 0],
    [7, 128, 0],
    [7, 5, 3],
    [10_007, 128, 0],
    [10_007, 5, 3],
  ])('the k nearest of %d rows of %d numbers (%d steps) equal brute force', async (count, dimensions, steps) => {
    const floats = rows(count, dimensions, count + steps, steps);
    const { data } = floats;
    data.copyWithin(0, (count >> 1) * dimensions, ((count >> 1) + 1) * dimensions);
    const kinds: SearchedVectors[] = [quantise(floats), floats];
    if (count > 7) data.fill(0, 3 * dimensions, 5 * dimensions);
    const queries = rows(3, dimensions, 77, steps);
    queries.data.set(data.subarray(0, dimensions));
    for (const vectors of kinds) {
      const { device, seen } = search();
      await device.load(vectors, 0);
      for (const k of [1, 5, count, count + 9]) {
        const found = await device.nearestOfMany!(queries, k);
        for (let i = 0; i < 3; i++) {
          const query = queries.data.slice(i * dimensions, (i + 1) * dimensions);
          const expected = brute(query, vectors, k);
          expect(found[i]!.rows).toEqual(expected.rows);
          expect(found[i]!.distances).toEqual(expected.distances);
          if (i === 2 && k === 5) expect(await device.nearest(query, k)).toEqual(expected);
        }
      }
      expect(seen.runs, 'the device searched').toBeGreaterThan(0);
      await device.close!();
    }
  });

  test('rows that differ by less than the device can tell are told apart', async () => {
    const vectors = rows(3000, 16, 5);
    for (let row = 1; row < 400; row++) {
      vectors.data.copyWithin(row * 16, 0, 16);
      // The last bits of one number, downwards: the later the row, the nearer to the query below.
      vectors.data[row * 16]! += row * 2 ** -24 * Math.abs(vectors.data[0]!);
    }
    const query = vectors.data.slice(0, 16);
    query[0]! += 5e-5;
    const { device } = search();
    await device.load(vectors, 0);
    for (const k of [1, 5, 40]) expect(await device.nearest(query, k)).toEqual(brute(query, vectors, k));
    await device.close!();
  });

  test('what is added is sent alone, what is removed is found no more, and closing frees everything', async () => {
    const before = backend.counters();
    const { device, seen } = search();
    const all = rows(6000, 128, 9);
    const part = (count: number): FloatVectors => ({ ...all, data: all.data.subarray(0, count * 128), count });
    const query = rows(1, 128, 3).data;
    await device.load(part(5000), 0);
    expect(await device.nearest(query, 9)).toEqual(brute(query, part(5000), 9));
    const sent = seen.bytes;
    await device.load(part(5010), 5000);
    expect(await device.nearest(query, 9)).toEqual(brute(query, part(5010), 9));
    // Ten rows, the query, the count.
    expect(seen.bytes - sent).toBeLessThan(20 * 512 * 3);
    all.data.copyWithin(100 * 128, 200 * 128);
    await device.load(part(4000), 100);
    expect(await device.nearest(query, 9)).toEqual(brute(query, part(4000), 9));
    // Another kind: bytes, then none at all.
    const bytes = quantise(part(3000));
    await device.load(bytes, 0);
    expect(await device.nearest(query, 9)).toEqual(brute(query, bytes, 9));
    await device.load(part(0), 0);
    expect((await device.nearest(query, 9)).rows).toHaveLength(0);
    await device.close!();
    const after = backend.counters();
    expect([after.buffers, after.bytes, after.programs]).toEqual([before.buffers, before.bytes, before.programs]);
  });

  test('a device that is lost is replaced, with all templates; one without room leaves it to the plain loop', async () => {
    const vectors = rows(3000, 24, 2);
    const query = rows(1, 24, 3).data;
    let [at, current] = [0, counted(backend)];
    const lose = deviceSearch(async (task) => {
      if (at++ === 1) current = counted(backend);
      return task(current.counting);
    }, onDevice);
    await lose.load(vectors, 0);
    for (let call = 0; call < 3; call++) expect(await lose.nearest(query, 5)).toEqual(brute(query, vectors, 5));
    expect(current.seen.bytes).toBeGreaterThan(vectors.data.byteLength);
    await lose.close!();
    const full = withoutRoom(backend);
    const crowded = deviceSearch((task) => task(full), onDevice);
    await crowded.load(vectors, 0);
    expect(await crowded.nearest(query, 5)).toEqual(brute(query, vectors, 5));
  });
});

/** Half a gigabyte on the device, and as much beside it: once, on wasm. */
const [wasm] = opened.filter((backend) => backend.name === 'wasm');
test.skipIf(!wasm)('a million rows of 128 numbers, and of 128 bytes', { timeout: 120_000 }, async () => {
  const vectors = rows(1_000_000, 128, 11);
  vectors.data.copyWithin(128 * 999_999, 128 * 17, 128 * 18);
  const query = vectors.data.slice(128 * 17, 128 * 18);
  const { counting, seen } = counted(wasm as Backend);
  for (const kind of [vectors, quantise(vectors)] as SearchedVectors[]) {
    const device = deviceSearch((task) => task(counting));
    await device.load(kind, 0);
    const expected = brute(query, kind, 5);
    expect([...expected.rows.subarray(0, 2)]).toEqual([17, 999_999]);
    for (const k of [1, 5]) {
      const found = await device.nearest(query, k);
      expect(found.rows).toEqual(expected.rows.subarray(0, k));
      expect(found.distances).toEqual(expected.distances.subarray(0, k));
    }
    await device.close!();
  }
  expect(seen.runs).toBeGreaterThan(0);
  const small = { ...vectors, data: vectors.data.subarray(0, 4_000_000), dimensions: 4 };
  const device = deviceSearch((task) => task(counting));
  await device.load(small, 0);
  // More than there are; as many as there are is the same list.
  const found = await device.nearest(query.slice(0, 4), 1_000_009);
  expect(Buffer.compare(Buffer.from(found.rows.buffer), Buffer.from(brute(query, small, 1_000_000).rows.buffer))).toBe(
    0,
  );
  await device.close!();
});
