// A face has the same bits alone and at every place of every batch (reliability: batch invariance).
// area: networks
// on: none lavapipe swiftshader
import { afterAll, describe, expect, test } from 'vitest';
import { Embedder, pack } from '../src/faces/embedder.ts';
import { type Preprocessing, place } from '../src/faces/preprocessing.ts';
import { Philox } from '../src/graph/philox.ts';
import { dlibResnet } from '../src/networks/dlib-resnet.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import type { Network, Variant } from '../src/networks/network.ts';
import { nn4Small2 } from '../src/networks/nn4-small2.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import { tinyNet, tinyPreprocessing } from './training-net.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

function preprocessingOf(size: number): Preprocessing {
  return {
    width: size,
    height: size,
    colour: 'rgb',
    scale: [1 / 64, 1 / 64, 1 / 64],
    shift: [-2, -2, -2],
    template: { name: 'test', width: size, height: size, points: [] },
  };
}

/** Embeds one noisy picture alone and at every place of batches of the given sizes; the others are other pictures. */
async function places(
  backend: Backend,
  network: Network,
  variant: Variant,
  preprocessing: Preprocessing,
  sizes: readonly number[],
): Promise<number> {
  const store = new Store(backend);
  const parameters = parametersOf(network, variant, preprocessing);
  const values = initialise(parameters, 5);
  for (const { name, shape } of parameters) store.set(name, values.get(name) as Float32Array, shape);
  const embedder = await Embedder.create(network, variant, preprocessing, backend, store, Math.max(...sizes));
  const { width, height } = preprocessing;
  const picture = (seed: number) => {
    const random = new Philox(seed, 3);
    return place(
      { data: Uint8Array.from({ length: width * height * 3 }, () => random.below(256)), width, height },
      undefined,
      preprocessing,
    );
  };
  const others = Array.from({ length: Math.max(...sizes) }, (_, index) => picture(100 + index));
  const probe = picture(1);
  const alone = await embedder.embed(pack([probe], preprocessing));
  const dimensions = alone.length;
  let compared = 0;
  for (const size of sizes) {
    for (let at = 0; at < size; at++) {
      const batch = others.slice(0, size);
      batch[at] = probe;
      const all = await embedder.embed(pack(batch, preprocessing));
      expect(
        new Uint32Array(all.slice(at * dimensions, (at + 1) * dimensions).buffer),
        `place ${at} of ${size}`,
      ).toEqual(new Uint32Array(alone.buffer));
      compared++;
    }
  }
  await embedder.dispose();
  store.dispose();
  return compared;
}

for (const backend of opened) {
  describe(`batch invariance on ${title(backend)}`, () => {
    test('a small network, every place of batches of 2 to 33', async () => {
      // Software adapters take a tenth of a second a batch: the sizes between are wasm's.
      const sizes = backend.name === 'wasm' ? Array.from({ length: 32 }, (_, index) => index + 2) : [2, 3, 8, 33];
      expect(await places(backend, tinyNet, {}, tinyPreprocessing, sizes)).toBe(sizes.reduce((a, b) => a + b, 0));
    }, 300_000);

    if (backend.name !== 'wasm') return;
    test('dlib-resnet and nn4.small2, narrow, batches of 2 to 33', async () => {
      await places(backend, dlibResnet, { width: 0.25 }, preprocessingOf(150), [2, 9]);
      await places(backend, nn4Small2, { width: 0.25 }, preprocessingOf(64), [2, 7, 33]);
    });
  });
}
