import { type WarpAffineOptions, warpAffine, warpAffineOperator } from '../../src/ops/warpAffine.ts';
import type { Case, OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;
/** |a x| + |b y| + |tx| of every case stays below this many source pixels. */
const EXTENT = 64;

interface Image {
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  readonly map: readonly number[];
}

/** A case of images one after the other, each at a multiple of four bytes, with the last map's image shown once more if `repeat`. */
function warpCase(
  why: string,
  images: readonly Image[],
  options: WarpAffineOptions,
  show: readonly number[] = images.map((_, i) => i),
): Case {
  let words = 0;
  const starts = images.map(({ width, height, bytes }) => {
    const start = words;
    words += Math.ceil((width * height * bytes) / 4);
    return start;
  });
  const placements = show.flatMap((index) => {
    const { width, height, bytes, map } = images[index] as Image;
    return [starts[index] as number, width, height, bytes, ...map, -7, -7];
  });
  return {
    why,
    options: { ...options },
    shapes: { images: [words * 4], placements: [show.length, 12] },
    fill: { images: (_, uniform) => Math.floor((uniform() + 1) * 128), placements: (i) => placements[i] as number },
  };
}

const identity = [1, 0, 0, 0, 1, 0];
const turned = [0.83, 0.41, -1.7, -0.41, 0.83, 3.2];

export const spec: OperatorSpec = {
  operator: warpAffineOperator,
  inputs: ['images', 'placements'],
  integers: ['images'],
  bytes: ['images'],
  differentiable: [],
  build: ({ images, placements }, options) => warpAffine(images!, placements!, options as unknown as WarpAffineOptions),
  forward({ images, placements }, shapes, options) {
    const {
      height,
      width,
      border = 'zero',
      samples = 1,
      scale = 1,
      shift = 0,
    } = options as unknown as WarpAffineOptions;
    const at = (list: number | readonly number[], c: number) => (typeof list === 'number' ? list : (list[c] as number));
    const y: number[] = [];
    for (let n = 0; n < shapes.placements![0]!; n++) {
      const [start, w, h, bytes, a, b, tx, c, d, ty] = placements!.subarray(n * 12, n * 12 + 10) as unknown as [
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      const pixel = (x: number, yy: number, channel: number) => {
        const inside = x >= 0 && x < w && yy >= 0 && yy < h;
        if (!inside && border === 'zero') return 0;
        const [cx, cy] = [Math.min(Math.max(x, 0), w - 1), Math.min(Math.max(yy, 0), h - 1)];
        return images![start * 4 + (cy * w + cx) * bytes + channel]!;
      };
      for (let oy = 0; oy < height; oy++) {
        for (let ox = 0; ox < width; ox++) {
          for (let channel = 0; channel < 3; channel++) {
            let sum = 0;
            for (let s = 0; s < samples * samples; s++) {
              const u = ox + ((s % samples) + 0.5) / samples - 0.5;
              const v = oy + (Math.floor(s / samples) + 0.5) / samples - 0.5;
              const [px, py] = [a * u + b * v + tx, c * u + d * v + ty];
              const [x, yy] = [Math.floor(px), Math.floor(py)];
              const [fx, fy] = [px - x, py - yy];
              sum +=
                (1 - fy) * ((1 - fx) * pixel(x, yy, channel) + fx * pixel(x + 1, yy, channel)) +
                fy * ((1 - fx) * pixel(x, yy + 1, channel) + fx * pixel(x + 1, yy + 1, channel));
            }
            y.push((sum / samples ** 2) * at(scale, channel) + at(shift, channel));
          }
        }
      }
    }
    return Float64Array.from(y);
  },
  // A coordinate carries at most six roundings (sample position, products, sums) of EXTENT, and neighbours differ by up to the
  // largest value in each direction; then at most 3 roundings a mix, the sum of the samples and four more. Relative to `magnitude`.
  bound: (_, __, { samples = 1 }) => (2 * 6 * EXTENT + 9 + (samples as number) ** 2 + 4) * UNIT,
  magnitude(_, __, ___, ____, { scale = 1, shift = 0 }) {
    const largest = (list: unknown) => Math.max(...[list].flat().map((value) => Math.abs(value as number)));
    return 255 * largest(scale) + largest(shift);
  },
  cases: [
    warpCase('one pixel', [{ width: 1, height: 1, bytes: 3, map: identity }], { height: 1, width: 1 }),
    warpCase('a copy: integers are pixel centres', [{ width: 5, height: 3, bytes: 3, map: identity }], {
      height: 3,
      width: 5,
    }),
    warpCase('turned, RGB, black outside', [{ width: 13, height: 11, bytes: 3, map: turned }], {
      height: 12,
      width: 9,
      scale: 1 / 255,
    }),
    warpCase('turned, RGBA, nearest pixel outside', [{ width: 13, height: 11, bytes: 4, map: turned }], {
      height: 12,
      width: 9,
      border: 'edge',
    }),
    warpCase(
      'several images of odd sizes, one of them twice, own scale and shift per channel',
      [
        { width: 7, height: 5, bytes: 3, map: turned },
        { width: 3, height: 1, bytes: 3, map: [0.3, 0, 0.1, 0, 0.2, 0] },
        { width: 4, height: 6, bytes: 4, map: identity },
      ],
      { height: 6, width: 5, scale: [1 / 256, 2 / 256, 3 / 256], shift: [-0.5, 0.25, 1] },
      [2, 0, 1, 0],
    ),
    warpCase(
      'reduced, 3 x 3 samples a pixel',
      [{ width: 31, height: 29, bytes: 3, map: [3.1, 0.2, 0.7, -0.2, 3.1, 1.1] }],
      { height: 9, width: 8, samples: 3 },
    ),
    warpCase('wholly outside, black', [{ width: 4, height: 4, bytes: 3, map: [1, 0, 40, 0, 1, 0] }], {
      height: 2,
      width: 2,
      shift: 3,
    }),
    warpCase('wholly outside, nearest pixel', [{ width: 4, height: 4, bytes: 3, map: [1, 0, -40, 0, 1, 50] }], {
      height: 2,
      width: 2,
      border: 'edge',
    }),
  ],
};
