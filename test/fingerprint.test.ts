// area: tasks
//
// What embeddings are of (R18): equal where weights and preprocessing are, whatever the file; refusals name the field and both values.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { difference, type FingerprintParts, fingerprintOf } from '../src/faces/fingerprint.ts';
import { writeGallery } from '../src/io/gallery-file.ts';
import { type ModelMetadata, readModelFile, writeModelFile } from '../src/io/model-file.ts';
import { sha256 } from '../src/io/sha256.ts';
import { FaceNetGPU, memoryDataset, type Pixels } from '../src/node.ts';
import { uniform } from './numeric.ts';

const parts: FingerprintParts = {
  network: 'nn4.small2',
  variant: { pools: 'released' },
  dimensions: 128,
  input: { width: 96, height: 90, colour: 'rgb' },
  pixels: { scale: 0.5, mean: [1, 2, 3] },
  template: {
    name: 'two eyes',
    points: [
      [1, 2],
      [3, 4.5],
    ],
    margin: 14,
  },
  weights: 'ab'.repeat(32),
  mirrored: false,
};

test('the text holds every part; its fields are parted by blanks', () => {
  expect(fingerprintOf(parts)).toBe(
    'network=nn4.small2,pools:released dimensions=128 input=96x90,rgb pixels=(x-1,2,3)*0.5 crop=two_eyes:1,2,3,4.5,margin14 weights=abababababababababababab',
  );
  expect(fingerprintOf({ ...parts, mirrored: true, step: 7 })).toMatch(/ mirrored=yes step=7$/);
});

test.each<[Partial<FingerprintParts>, string]>([
  [{ network: 'nn4' }, 'network must be nn4.small2,pools:released, got nn4,pools:released'],
  [{ variant: {} }, 'network must be nn4.small2,pools:released, got nn4.small2'],
  [{ dimensions: 64 }, 'dimensions must be 128, got 64'],
  [{ input: { ...parts.input, height: 96 } }, 'input must be 96x90,rgb, got 96x96,rgb'],
  [{ input: { ...parts.input, colour: 'bgr' } }, 'input must be 96x90,rgb, got 96x90,bgr'],
  [{ pixels: { scale: 0.25, mean: [1, 2, 3] } }, 'pixels must be (x-1,2,3)*0.5, got (x-1,2,3)*0.25'],
  [{ pixels: { standardisation: 'per-image' } }, 'pixels must be (x-1,2,3)*0.5, got per-image'],
  [
    { template: { ...parts.template, margin: 0 } },
    'crop must be two_eyes:1,2,3,4.5,margin14, got two_eyes:1,2,3,4.5,margin0',
  ],
  [{ weights: 'cd'.repeat(32) }, 'weights must be abababababababababababab, got cdcdcdcdcdcdcdcdcdcdcdcd'],
  [{ mirrored: true }, 'mirrored must be none, got yes'],
])('%j: named, with both values', (change, words) => {
  expect(difference(fingerprintOf(parts), fingerprintOf({ ...parts, ...change }))).toBe(words);
});

test('several fields at once, and a text of another kind', () => {
  const other = fingerprintOf({ ...parts, dimensions: 1, mirrored: true });
  expect(difference(fingerprintOf(parts), other)).toBe('dimensions must be 128, got 1; mirrored must be none, got yes');
  expect(difference(fingerprintOf(parts), 'nn4.small2/0123')).toMatch(
    /^fingerprint must be network=.*, got nn4\.small2\/0123$/,
  );
});

describe('a model', () => {
  const random = uniform(8);
  const face = (shade: number): Pixels => ({
    data: Uint8Array.from({ length: 48 * 48 * 3 }, () => shade + 40 * random()),
    width: 48,
    height: 48,
  });
  const untrained = {
    network: 'nn4.small2',
    seed: 4,
    size: 48,
    dimensions: 16,
    variant: { width: 0.125, lrn: false },
  } as const;
  const opened: FaceNetGPU[] = [];
  const open = async (model: Parameters<typeof FaceNetGPU.create>[0]['model'], mirror = false) => {
    const net = await FaceNetGPU.create({ model, backend: 'wasm', threads: 1, batchSize: 2, mirror });
    opened.push(net);
    return net;
  };
  let net: FaceNetGPU;
  let saved: Uint8Array;
  beforeAll(async () => {
    net = await open(untrained);
    saved = await net.save();
  });
  afterAll(async () => {
    for (const one of opened) await one.dispose();
  });

  /** The file with some of its card changed. */
  const changed = (change: Partial<ModelMetadata>) => {
    const file = readModelFile(saved);
    return writeModelFile({ ...file, metadata: { ...file.metadata, ...change } });
  };

  test('keeps its fingerprint when it is stored, calibrated, described anew', async () => {
    expect(net.fingerprint).toMatch(/^network=nn4\.small2,lrn:false,width:0\.125 dimensions=16 input=48x48,rgb /);
    const again = await open(saved);
    expect(again.fingerprint).toBe(net.fingerprint);
    const pairs = Array.from({ length: 20 }, (_, i) => ({ a: face(90), b: face(90 + 8 * i), same: i % 2 === 0 }));
    await again.calibrate(pairs, { far: 0.2 });
    expect(again.fingerprint).toBe(net.fingerprint);
    const calibrated = await again.save();
    expect(await sha256(calibrated)).not.toBe(await sha256(saved));
    expect((await open(calibrated)).fingerprint).toBe(net.fingerprint);
    expect((await open(changed({ licence: 'other', source: 'renamed' }))).fingerprint).toBe(net.fingerprint);
  });

  test('other weights, pixels, sizes and mirrors are other fingerprints', async () => {
    const others = [
      await open({ ...untrained, seed: 5 }),
      await open(await net.save({ weights: 'float16' })),
      await open(changed({ pixels: { standardisation: 'per-image' } })),
      await open(changed({ input: { width: 48, height: 48, colour: 'bgr' } })),
      await open(saved, true),
    ].map(({ fingerprint }) => difference(net.fingerprint, fingerprint).split(' ')[0]);
    expect(others).toEqual(['weights', 'weights', 'pixels', 'input', 'mirrored']);
  });

  test('galleries and vectors of another model are refused, naming what differs', async () => {
    const other = await open(changed({ pixels: { scale: 0.5, mean: [0, 0, 0] } }));
    const vectors = await other.embed(face(100));
    await expect(net.verify(vectors, face(90), { threshold: 1 })).rejects.toMatchObject({
      code: 'mismatch',
      message: expect.stringMatching(
        /^verify: a must be embedded by this model: pixels must be .*, got \(x-0,0,0\)\*0\.5\. Embed it again\.$/,
      ),
    });
    const gallery = await net.gallery();
    await expect(gallery.enroll('Ada', vectors)).rejects.toMatchObject({
      code: 'mismatch',
      message: expect.stringMatching(/pixels must be .*, got \(x-0,0,0\)\*0\.5\. .*enrol everybody again/),
    });
    const theirs = await other.gallery();
    await theirs.enroll('Ada', vectors);
    await expect(gallery.load(await theirs.save())).rejects.toMatchObject({ code: 'mismatch' });
    expect(gallery.size).toBe(0);
  });

  test('a gallery that an earlier version wrote, by the hash of the model file, is still its own', async () => {
    const model = await open(saved);
    const vectors = await model.embed(face(100));
    const former = `nn4.small2/${(await sha256(saved)).slice(0, 16)}`;
    const old = (fingerprint: string) =>
      writeGallery({ fingerprint, dimensions: 16, entries: [{ id: 'a', label: 'Ada' }], vectors: vectors.data });
    const gallery = await model.gallery();
    await gallery.load(await old(former));
    expect(gallery.size).toBe(1);
    expect((await model.identify(vectors, gallery, { threshold: 0.1 })).label).toBe('Ada');
    // Written anew, under the name of today.
    await (await net.gallery()).load(await gallery.save());
    await expect(gallery.load(await old('nn4.small2/0000000000000000'))).rejects.toMatchObject({ code: 'mismatch' });
    expect((await model.verify({ ...vectors, fingerprint: former }, vectors, { threshold: 0.1 })).same).toBe(true);
  });

  test('training changes it with every step; afterwards it is that of the weights', async () => {
    const learner = await open(untrained);
    const seen = [learner.fingerprint];
    const data = memoryDataset(
      Array.from({ length: 8 }, (_, i) => ({ pixels: face(60 + 20 * (i % 2)), label: i % 2 })),
    );
    for await (const _ of learner.train(data, { steps: 2, people: 2, perPerson: 4, seed: 1 }))
      seen.push(learner.fingerprint);
    expect(seen.slice(1).map((text) => text.slice(-7))).toEqual([' step=1', ' step=2']);
    expect(learner.fingerprint).toMatch(/weights=[0-9a-f]{24}$/);
    expect(difference(seen[0] as string, learner.fingerprint)).toMatch(/^weights must be [^;]+$/);
    expect((await open(await learner.save())).fingerprint).toBe(learner.fingerprint);
  });
});
