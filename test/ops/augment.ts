import { augment, augmentControls, augmentOperator } from '../../src/ops/augment.ts';
import type { Case, OperatorSpec } from './operator-spec.ts';

const UNIT = 2 ** -24;

/** Identity, with the numbers of `change` on top: [index in the row, value]. */
const controls = (change: readonly (readonly [number, number])[]): Case['fill'] => ({
  controls: (index) => {
    const at = index % augmentControls.columns;
    return change.find(([where]) => where === at)?.[1] ?? ([0, 4, 8].includes(at) ? 1 : 0);
  },
});

/** Random numbers everywhere, the blur in its range [0, 1]. */
const anything: Case['fill'] = {
  controls: (index, random) =>
    index % augmentControls.columns === augmentControls.blur ? Math.abs(random()) : random(),
};

export const spec: OperatorSpec = {
  operator: augmentOperator,
  inputs: ['x', 'controls'],
  differentiable: [],
  build: ({ x, controls: rows }) => augment(x!, rows!),
  forward({ x, controls: c }, shapes) {
    const [batch, height, width] = shapes.x as [number, number, number];
    const y = new Float64Array(x!.length);
    const near = (value: number, size: number) => Math.max(0, Math.min(size - 1, value));
    for (let n = 0; n < batch; n++) {
      const row = c!.subarray(n * 20, n * 20 + 20);
      for (let iy = 0; iy < height; iy++) {
        for (let ix = 0; ix < width; ix++) {
          const source = [0, 1, 2].map((channel) => {
            let sum = 0;
            for (let dy = -1; dy <= 1; dy++)
              for (let dx = -1; dx <= 1; dx++)
                sum += x![((n * height + near(iy + dy, height)) * width + near(ix + dx, width)) * 3 + channel]!;
            return (1 - row[12]!) * x![((n * height + iy) * width + ix) * 3 + channel]! + row[12]! * (sum / 9);
          });
          const painted = ix >= row[13]! && ix < row[15]! && iy >= row[14]! && iy < row[16]!;
          for (let channel = 0; channel < 3; channel++) {
            const colour = row[9 + channel]! + source.reduce((sum, value, k) => sum + value * row[3 * channel + k]!, 0);
            y[((n * height + iy) * width + ix) * 3 + channel] = painted ? row[17 + channel]! : colour;
          }
        }
      }
    }
    return y;
  },
  // Nine terms of the blur, three of the colour, and the roundings between.
  bound: () => (9 + 3 + 6) * UNIT,
  // Random matrices cancel: terms are below 1 each.
  magnitude: () => 2,
  cases: [
    { why: 'one pixel, left as it is', shapes: { x: [1, 1, 1, 3], controls: [1, 20] }, fill: controls([]) },
    { why: 'random colours, blur and rectangle', shapes: { x: [2, 5, 7, 3], controls: [2, 20] }, fill: anything },
    { why: 'half a blur, edges repeated', shapes: { x: [1, 3, 4, 3], controls: [1, 20] }, fill: controls([[12, 0.5]]) },
    {
      why: 'a rectangle over part of the picture',
      shapes: { x: [1, 6, 5, 3], controls: [1, 20] },
      fill: controls([
        [13, 1],
        [14, 2],
        [15, 4],
        [16, 5],
        [17, 0.25],
        [19, -0.5],
      ]),
    },
    {
      why: 'a rectangle beyond the picture',
      shapes: { x: [1, 3, 3, 3], controls: [1, 20] },
      fill: controls([
        [13, -4],
        [14, -4],
        [15, 40],
        [16, 2],
        [18, 0.75],
      ]),
    },
    { why: 'pixels inside wider ones', shapes: { x: [2, 3, 3, 3], controls: [2, 20] }, fill: anything, slices: ['x'] },
  ],
};
