// The three tasks through the class: identify, cluster, evaluate, calibrate, on a small untrained network.
// area: tasks
import { afterAll, expect, test } from 'vitest';
import type { Pixels } from '../src/faces/preprocessing.ts';
import { Philox } from '../src/graph/philox.ts';
import { FaceNetGPU } from '../src/node.ts';

const net = await FaceNetGPU.create({
  model: { network: 'nn4.small2', seed: 3, variant: { width: 0.25 } },
  backend: 'wasm',
  threads: 1,
  relaxed: false,
});
afterAll(() => net.dispose());

/** A picture of `person`: a texture of its own and some noise. */
function picture(person: number, shot: number): Pixels {
  const own = new Philox(9, person);
  const texture = Float64Array.from({ length: 8 * 8 * 3 }, () => 255 * own.uniform());
  const noise = new Philox(9, 1000 + person * 100 + shot);
  const data = Uint8Array.from({ length: 96 * 96 * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % 96, Math.floor(i / 3 / 96)];
    return Math.max(
      0,
      Math.min(
        255,
        Math.round(
          (texture[(Math.floor(y / 12) * 8 + Math.floor(x / 12)) * 3 + (i % 3)] as number) +
            6 * (noise.uniform() - 0.5),
        ),
      ),
    );
  });
  return { data, width: 96, height: 96 };
}

const people = [0, 1, 2, 3];
const pairs = people.flatMap((a) =>
  people.flatMap((b) => [0, 1, 2].map((shot) => ({ a: picture(a, shot), b: picture(b, shot + 3), same: a === b }))),
);

test('an uncalibrated model says so; calibrate() makes it decide', async () => {
  await expect(net.verify(picture(0, 0), picture(0, 1))).rejects.toMatchObject({ code: 'not-calibrated' });
  const point = await net.calibrate(pairs, { far: 0.02 });
  expect(net.model.points).toEqual([point]);
  expect((await net.verify(picture(0, 0), picture(0, 7), { far: 0.02 })).same).toBe(true);
  expect((await net.verify(picture(0, 0), picture(1, 7), { far: 0.02 })).same).toBe(false);
});

test('identify finds the person, and nobody for a stranger', async () => {
  const gallery = await net.gallery();
  for (const person of people)
    await gallery.enroll(`person ${person}`, await net.embed([picture(person, 0), picture(person, 1)]));
  expect(gallery.people).toBe(4);
  const known = await net.identify(picture(2, 9), gallery, { far: 0.02, limit: 2 });
  expect(known.label).toBe('person 2');
  expect(known.matches).toHaveLength(2);
  expect((await net.identify(picture(50, 0), gallery, { threshold: 1e-6 })).label).toBeNull();
  const bytes = await gallery.save();
  const other = await net.gallery();
  await other.load(bytes);
  expect(other.size).toBe(8);
  await gallery.close();
  await other.close();
});

test('clusters are the people', async () => {
  const faces = people.flatMap((person) => [0, 1, 2].map((shot) => picture(person, shot)));
  const { threshold } = net.operatingPoint({ far: 0.02 });
  const { groups, count } = await net.cluster(faces, { threshold });
  expect(count).toBe(4);
  expect([...groups]).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
});

test('evaluation counts; embeddings of another model are refused', async () => {
  const result = await net.evaluate(pairs, { folds: 3, fars: [0.1] });
  expect(result.samePairs + result.differentPairs).toBe(pairs.length);
  expect(result.accuracy).toBeGreaterThan(0.9);
  const foreign = { ...(await net.embed(picture(0, 0))), fingerprint: 'other/0' };
  await expect(net.verify(foreign, picture(0, 1), { threshold: 1 })).rejects.toMatchObject({ code: 'mismatch' });
  await expect(net.cluster(foreign, { threshold: 1 })).rejects.toMatchObject({ code: 'mismatch' });
});
