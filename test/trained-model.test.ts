// What is left of a model's card when its weights have changed: nothing that was measured on the old ones.
// area: training
// on: none
import { describe, expect, test } from 'vitest';
import { readModelFile, writeModelFile } from '../src/io/model-file.ts';
import { FaceNetGPU } from '../src/node.ts';
import { tinyPeople } from './training-net.ts';

const point = { threshold: 1, far: 1e-3, farInterval: [5e-4, 2e-3], val: 0.9, pairs: 1000, source: 'a test' } as const;
const one = { backend: 'wasm', threads: 1 } as const;

describe('a trained model', () => {
  test('has another fingerprint, no operating point, and a card of its own; float16 brings nearly the same embeddings', {
    timeout: 120_000,
  }, async () => {
    const data = tinyPeople(3, 3);
    const { pixels } = await data.read(0);
    const fresh = await FaceNetGPU.create({
      model: { network: 'nn4.small2', seed: 2, variant: { width: 0.1, lrn: false }, dimensions: 8, size: 64 },
      ...one,
    });
    const file = readModelFile(await fresh.save());
    await fresh.dispose();
    expect(file.metadata).toMatchObject({ trainedOn: 'nothing: random weights', input: { width: 64, height: 64 } });
    const net = await FaceNetGPU.create({
      model: writeModelFile({ ...file, metadata: { ...file.metadata, operatingPoints: [point] } }),
      ...one,
    });
    expect(net.operatingPoint()).toMatchObject({ threshold: 1 });
    const before = await net.embed(pixels);
    for await (const step of net.train(data, { steps: 2, people: 3, perPerson: 2, seed: 4 }))
      expect(step.loss).toBeGreaterThan(0);
    const after = await net.embed(pixels);
    expect(after.fingerprint).not.toBe(before.fingerprint);
    expect([...after.data]).not.toEqual([...before.data]);
    expect(() => net.operatingPoint()).toThrow(expect.objectContaining({ code: 'not-calibrated' }));
    await expect(net.save({ average: true })).rejects.toThrow('ema');
    const saved = await net.save({ weights: 'float16', trainedOn: 'squares', licence: 'free' });
    expect(readModelFile(saved).metadata).toMatchObject({ operatingPoints: [], trainedOn: 'squares', licence: 'free' });
    // A line fitted on the new weights is written.
    const faces = await Promise.all(
      Array.from(data.labels, (_, i) => i).map((i) => data.read(i) as { pixels: typeof pixels }),
    );
    const pairs = faces
      .slice(1)
      .map(({ pixels: b }, i) => ({ a: pixels, b, same: data.labels[i + 1] === data.labels[0] }));
    await net.calibrate(pairs, { far: 0.5 });
    expect(readModelFile(await net.save()).metadata.operatingPoints).toHaveLength(1);
    await net.dispose();
    const again = await FaceNetGPU.create({ model: saved, ...one });
    const half = await again.embed(pixels);
    await again.dispose();
    // 11 bits of mantissa: 2^-11 a weight, some dozen layers.
    half.data.forEach((value, i) => expect(Math.abs(value - after.data[i]!)).toBeLessThan(0.02));
  });
});
