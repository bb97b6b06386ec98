// on: none swiftshader
// area: operators
// warpAffine on the collected cases: crops that leave the picture, colour and scale contracts, alpha, and maps that leave the range of numbers.
import { afterAll, describe, expect, test } from 'vitest';
import { Graph } from '../src/graph/graph.ts';
import { type WarpAffineOptions, warpAffine } from '../src/ops/warpAffine.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import imageCases from './cases/images.json' with { type: 'json' };

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

const identity = [1, 0, 0, 0, 1, 0];
const byId = (id: string) => imageCases.cases.find((item) => item.id === id) as never;

/** One picture through one map. */
async function warp(
  backend: Backend,
  bytes: readonly number[],
  width: number,
  height: number,
  map: readonly number[],
  options: WarpAffineOptions,
) {
  const graph = new Graph();
  const images = graph.input('images', [Math.ceil(bytes.length / 4) * 4], 'u8');
  const y = warpAffine(images, graph.input('placements', [1, 12]), options);
  const store = new Store(backend);
  const plan = await Plan.create(graph, { y }, backend, store, { batchSize: 1 });
  const placements = Float32Array.of(0, width, height, bytes.length / (width * height), ...map, 0, 0);
  const result = await plan.run({ images: Uint8Array.from(bytes), placements });
  plan.dispose();
  store.dispose();
  return [...result.y!];
}

for (const backend of opened) {
  describe(title(backend), () => {
    test('IM-13: crops that leave the picture are filled with zeros', async () => {
      const given = byId('IM-13') as {
        image: number[][];
        crops: { box: [number, number, number, number]; pixels: number[][] }[];
      };
      const bytes = given.image.flat().flatMap((value) => [value, value, value]);
      for (const {
        box: [x0, y0, x1, y1],
        pixels,
      } of given.crops) {
        const y = await warp(backend, bytes, 4, 3, [1, 0, x0, 0, 1, y0], { width: x1 - x0, height: y1 - y0 });
        expect(y).toEqual(pixels.flat().flatMap((value) => [value, value, value]));
      }
    });

    test('IM-09: the same pixels under two contracts, with and without alpha', async () => {
      const given = byId('IM-09') as {
        pixels: number[][][];
        rgb01: number[][][];
        fixedStandardisationRgb: number[][][];
        absTolerance: number;
      };
      const rgb = given.pixels.flat(2);
      const rgba = given.pixels.flat().flatMap((pixel) => [...pixel, 77]);
      for (const [planes, scale, shift] of [
        [given.rgb01, 1 / 255, 0],
        [given.fixedStandardisationRgb, 1 / 128, -127.5 / 128],
      ] as const) {
        const expected = [0, 1].flatMap((row) =>
          [0, 1].flatMap((column) => planes.map((plane) => plane[row]![column]!)),
        );
        for (const bytes of [rgb, rgba]) {
          const y = await warp(backend, bytes, 2, 2, identity, { width: 2, height: 2, scale, shift });
          y.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(given.absTolerance));
        }
      }
    });

    test('coordinates beyond the range of integers are outside, not a crash', async () => {
      const bytes = Array.from({ length: 12 }, (_, i) => i + 1);
      for (const far of [1e30, -1e30, 3e9]) {
        expect(await warp(backend, bytes, 2, 2, [1, 0, far, 0, 1, 0], { width: 1, height: 1 })).toEqual([0, 0, 0]);
        const edge = await warp(backend, bytes, 2, 2, [1, 0, far, 0, 1, 0], { width: 1, height: 1, border: 'edge' });
        expect(edge).toEqual(far > 0 ? [4, 5, 6] : [1, 2, 3]);
      }
    });

    test('halving with 2 x 2 samples averages whole pixels', async () => {
      const bytes = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44].flatMap((value) => [value, value, value]);
      // Centres of 2 x 2 blocks of a picture of 4 x 2 lie half a pixel further: 2 x + 0.5.
      const y = await warp(backend, bytes.slice(0, 24), 4, 2, [2, 0, 0.5, 0, 2, 0.5], {
        width: 2,
        height: 1,
        samples: 2,
      });
      expect(y).toEqual([10, 10, 10, 18, 18, 18]);
    });
  });

  test('what does not fit is refused by name', () => {
    const graph = new Graph();
    const images = graph.input('images', [64], 'u8');
    const placements = graph.input('placements', [1, 12]);
    expect(() => warpAffine(graph.input('floats', [64]), placements, { width: 1, height: 1 })).toThrow(
      /images must be bytes \(u8\), got f32/,
    );
    expect(() => warpAffine(images, graph.input('eleven', [1, 11]), { width: 1, height: 1 })).toThrow(
      /placements must be \[N, 12\], got \[1, 11\]/,
    );
    expect(() => warpAffine(images, placements, { width: 0, height: 1 })).toThrow(
      /width must be a whole number from 1, got 0/,
    );
    expect(() => warpAffine(images, placements, { width: 1, height: 1, scale: [1, 2] })).toThrow(
      /scale must be three finite numbers/,
    );
  });
}
