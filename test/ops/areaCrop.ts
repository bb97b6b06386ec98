import { type AreaCropOptions, areaCrop, areaCropOperator } from '../../src/ops/areaCrop.ts';
import type { Case, OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

interface Image {
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
}

/** left, top, width, height, columns, rows, x, y; then which image. */
type Crop = readonly [...numbers: number[]];

/** A case of images one after the other, each at a multiple of four bytes, with four bytes to spare. */
function cropCase(
  why: string,
  images: readonly Image[],
  options: AreaCropOptions,
  crops: readonly Crop[],
  fill?: number,
): Case {
  let words = 0;
  const starts = images.map(({ width, height, bytes }) => {
    const start = words;
    words += Math.ceil((width * height * bytes) / 4);
    return start;
  });
  const placements = crops.flatMap((crop) => {
    const index = crop[8] ?? 0;
    const { width, height, bytes } = images[index] as Image;
    return [...crop.slice(0, 8), width, height, bytes, starts[index] as number];
  });
  return {
    why,
    options: { ...options },
    shapes: { images: [words + 1, 4], placements: [crops.length, 12] },
    fill: {
      images: (_, uniform) => fill ?? Math.floor((uniform() + 1) * 128),
      placements: (i) => placements[i] as number,
    },
  };
}

export const spec: OperatorSpec = {
  operator: areaCropOperator,
  inputs: ['images', 'placements'],
  integers: ['images'],
  bytes: ['images'],
  differentiable: [],
  build: ({ images, placements }, options) => areaCrop(images!, placements!, options as unknown as AreaCropOptions),
  forward({ images, placements }, shapes, options) {
    const { height, width, scale = 1, shift = 0 } = options as unknown as AreaCropOptions;
    const y: number[] = [];
    for (let n = 0; n < shapes.placements![0]!; n++) {
      const [left, top, w, h, columns, rows, x, yy, imageWidth, imageHeight, bytes, start] = [
        ...placements!.subarray(n * 12, n * 12 + 12),
      ] as [number, number, number, number, number, number, number, number, number, number, number, number];
      for (let oy = 0; oy < height; oy++) {
        for (let ox = 0; ox < width; ox++) {
          const column = Math.min(x + ox, columns - 1);
          const line = Math.min(yy + oy, rows - 1);
          for (let channel = 0; channel < 3; channel++) {
            let sum = 0;
            let count = 0;
            for (let sy = 0; sy < h; sy++) {
              for (let sx = 0; sx < w; sx++) {
                // Pixel sx covers [sx, sx + 1), the output's [column, column + 1) * w / columns: whole numbers decide.
                const touchesX = sx * columns < (column + 1) * w && (sx + 1) * columns > column * w;
                const touchesY = sy * rows < (line + 1) * h && (sy + 1) * rows > line * h;
                if (!touchesX || !touchesY) continue;
                count++;
                const [px, py] = [left + sx, top + sy];
                if (px < 0 || py < 0 || px >= imageWidth || py >= imageHeight) continue;
                sum += images![start * 4 + (py * imageWidth + px) * bytes + channel]!;
              }
            }
            y.push((sum / count) * scale + shift);
          }
        }
      }
    }
    return Float64Array.from(y);
  },
  // The sum is exact below 2^24; a division (2.5 units on GPUs), a product and a sum, each of numbers below `magnitude`.
  bound: () => 5 * UNIT,
  magnitude(_, __, ___, ____, { scale = 1, shift = 0 }) {
    return 255 * Math.abs(scale as number) + Math.abs(shift as number);
  },
  cases: [
    cropCase('one pixel', [{ width: 1, height: 1, bytes: 3 }], { height: 1, width: 1 }, [[0, 0, 1, 1, 1, 1, 0, 0]]),
    cropCase('a copy', [{ width: 5, height: 3, bytes: 3 }], { height: 3, width: 5 }, [[0, 0, 5, 3, 5, 3, 0, 0]]),
    cropCase(
      'reduced by factors that are no whole numbers, scaled to -1..1',
      [{ width: 31, height: 23, bytes: 3 }],
      { height: 7, width: 9, scale: 1 / 128, shift: -127.5 / 128 },
      [[0, 0, 31, 23, 9, 7, 0, 0]],
    ),
    cropCase(
      'tiles of a level: the last column and line repeated',
      [{ width: 41, height: 37, bytes: 4 }],
      { height: 6, width: 8 },
      [
        [0, 0, 41, 37, 13, 11, 0, 0],
        [0, 0, 41, 37, 13, 11, 8, 0],
        [0, 0, 41, 37, 13, 11, 0, 6],
        [0, 0, 41, 37, 13, 11, 8, 6],
      ],
    ),
    cropCase(
      'rectangles beyond every edge, black there; enlarged, reduced, wholly outside',
      [{ width: 19, height: 17, bytes: 3 }],
      { height: 8, width: 8, scale: 1 / 255 },
      [
        [-5, -3, 12, 12, 8, 8, 0, 0],
        [10, 11, 21, 21, 8, 8, 0, 0],
        [3, 4, 5, 5, 8, 8, 0, 0],
        [40, 40, 9, 9, 8, 8, 0, 0],
        [-30, 2, 9, 9, 8, 8, 0, 0],
      ],
    ),
    cropCase(
      'several images of odd sizes, one of them twice',
      [
        { width: 7, height: 5, bytes: 3 },
        { width: 3, height: 1, bytes: 3 },
        { width: 4, height: 6, bytes: 4 },
      ],
      { height: 3, width: 2, scale: -2, shift: 1 },
      [
        [0, 0, 4, 6, 2, 3, 0, 0, 2],
        [0, 0, 7, 5, 2, 3, 0, 0, 0],
        [0, 0, 3, 1, 2, 3, 0, 0, 1],
        [1, 1, 3, 3, 2, 3, 0, 0, 0],
      ],
    ),
    cropCase(
      'a strip of white, thousands of pixels to one: sums beyond 16 bits',
      [{ width: 9001, height: 2, bytes: 3 }],
      { height: 1, width: 3 },
      [[0, 0, 9001, 2, 3, 1, 0, 0]],
      255,
    ),
  ],
};
