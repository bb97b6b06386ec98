// Calls that overlap: the bits of calls made one after another, a queue with an end, and dispose and abort in the middle. On wasm.
// area: tasks
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Philox } from '../src/graph/philox.ts';
import { FaceNetError, FaceNetGPU } from '../src/node.ts';

const model = { network: 'nn4.small2', seed: 1 } as const;
const options = { model, backend: 'wasm', threads: 2, batchSize: 4 } as const;
const random = new Philox(5, 0);
const faces = Array.from({ length: 12 }, () => ({
  data: Uint8Array.from({ length: 32 * 32 * 3 }, () => Math.floor(random.uniform() * 256)),
  width: 32,
  height: 32,
}));
/** Faces `first` to `first + count`, going round. */
const some = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => faces[(first + i) % faces.length]!);

let net: FaceNetGPU;
let rows: Float32Array[];
beforeAll(async () => {
  net = await FaceNetGPU.create(options);
  rows = [];
  for (const face of faces) rows.push((await net.embed(face)).data);
});
afterAll(() => net?.dispose());

/** How a promise ended: 'ok' or the code of its error. */
const ending = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: unknown) => (error instanceof FaceNetError ? error.code : String(error)),
  );

describe('overlapping calls', () => {
  test('50 calls of 1 to 9 faces give the bits of one face at a time', async () => {
    const calls = Array.from({ length: 50 }, (_, i) => ({ first: i * 5, count: 1 + ((i * 7) % 9) }));
    const results = await Promise.all(calls.map(({ first, count }) => net.embed(some(first, count))));
    for (const [call, { first, count }] of calls.entries()) {
      const { data, dimensions, indices } = results[call]!;
      expect([...indices]).toEqual(Array.from({ length: count }, (_, i) => i));
      for (let i = 0; i < count; i++) {
        expect(data.subarray(i * dimensions, (i + 1) * dimensions), `call ${call}, face ${i}`).toEqual(
          rows[(first + i) % faces.length],
        );
      }
    }
  });

  test('embed, align and verify mixed', async () => {
    const [face, other] = faces as [(typeof faces)[0], (typeof faces)[0]];
    const [crop, embedded, verdict, again] = await Promise.all([
      net.align(face),
      net.embed(face),
      net.verify(face, other, { threshold: 1 }),
      net.align(face),
    ]);
    expect(embedded.data).toEqual(rows[0]);
    expect(again.data).toEqual(crop.data);
    const distance = rows[0]!.reduce((sum, value, i) => sum + (value - rows[1]![i]!) ** 2, 0);
    expect(verdict.distance).toBeCloseTo(distance, 6);
  });

  test('a bad face among them spoils its own call only', async () => {
    const bad = { data: new Uint8Array(5), width: 2, height: 2 };
    const endings = await Promise.all(
      [net.embed(faces[0]!), net.embed([faces[1]!, bad]), net.embed(faces[2]!)].map(ending),
    );
    expect(endings).toEqual(['ok', 'image', 'ok']);
  });

  test("the 1,025th waiting call is refused: 'queue-full'; the others end, and the next is welcome", {
    timeout: 120_000,
  }, async () => {
    const controller = new AbortController();
    // Aborted while they wait, so that the test need not compute a thousand faces.
    const calls = Array.from({ length: 1030 }, () => ending(net.embed(faces[0]!, { signal: controller.signal })));
    const last = ending(net.embed(faces[0]!));
    await Promise.resolve();
    setTimeout(() => controller.abort(), 20);
    const endings = await Promise.all([...calls, last]);
    const count = (what: string) => endings.filter((found) => found === what).length;
    expect(count('queue-full')).toBe(7);
    expect(count('ok') + count('aborted')).toBe(1024);
    // The abort comes through while the queue is worked off.
    expect(count('aborted')).toBeGreaterThan(500);
    expect((await net.embed(faces[0]!)).data).toEqual(rows[0]);
  });
});

describe('abort', () => {
  test('before, while waiting, and between batches; the object stays usable', async () => {
    expect(await ending(net.embed(faces[0]!, { signal: AbortSignal.abort() }))).toBe('aborted');
    const waiting = new AbortController();
    const first = ending(net.embed(faces));
    const second = ending(net.embed(faces, { signal: waiting.signal }));
    waiting.abort();
    expect(await Promise.all([first, second])).toEqual(['ok', 'aborted']);
    const between = new AbortController();
    let done = 0;
    const third = ending(
      net.embed(some(0, 40), {
        signal: between.signal,
        onProgress: (progress) => {
          if (progress.phase !== 'run') return;
          done = progress.done;
          between.abort();
        },
      }),
    );
    expect([await third, done]).toEqual(['aborted', 4]);
    expect((await net.embed(faces[3]!)).data).toEqual(rows[3]);
  });

  test('create', async () => {
    expect(await ending(FaceNetGPU.create({ ...options, signal: AbortSignal.abort() }))).toBe('aborted');
    const controller = new AbortController();
    const created = ending(
      FaceNetGPU.create({ ...options, onProgress: () => controller.abort(), signal: controller.signal }),
    );
    expect(await created).toBe('aborted');
  });
});

describe('dispose', () => {
  test('lets calls that wait end, refuses new ones, may be called twice', async () => {
    const other = await FaceNetGPU.create({ ...options, threads: 1 });
    const running = other.embed(some(0, 3));
    const disposed = other.dispose();
    const late = ending(other.embed(faces[0]!));
    // Either the whole result or a typed end, never a part.
    const result = await running.then(
      ({ data }) => [...data],
      (error: FaceNetError) => error.code,
    );
    expect([[...rows[0]!, ...rows[1]!, ...rows[2]!], 'disposed']).toContainEqual(result);
    expect(await late).toBe('disposed');
    await disposed;
    await other.dispose();
    expect(other.counters()).toMatchObject({ workers: 0, buffers: 0, programs: 0 });
    expect(await ending(other.align(faces[0]!))).toBe('disposed');
  });

  test('in the middle of a stream', async () => {
    const other = await FaceNetGPU.create({ ...options, threads: 1, batchSize: 2 });
    let batches = 0;
    const streamed = ending(
      (async () => {
        for await (const part of other.embedStream(some(0, 20))) {
          expect(part.count).toBeLessThanOrEqual(2);
          if (++batches === 2) void other.dispose();
        }
      })(),
    );
    expect(await streamed).toBe('disposed');
    expect(batches).toBeLessThan(10);
    await other.dispose();
  });
});
