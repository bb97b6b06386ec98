import { describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import {
  type AffineMap,
  affineFromPoints,
  applyMap,
  checkedPoints,
  composeMaps,
  invertMap,
  mirroredInverse,
  type Point,
  similarityFromEyes,
  similarityFromPoints,
} from '../src/faces/affine-map.ts';
import { alignFace, centreCrop, cropCorners } from '../src/faces/alignment.ts';
import { alignmentTemplate } from '../src/faces/alignment-templates.ts';
import { landmarksFrom } from '../src/faces/landmarks.ts';
import { marginCrop } from '../src/faces/margin-crop.ts';
import cases from './cases/alignment.json' with { type: 'json' };

const [al01, al02] = cases.cases;
const pairs = (values: number[][]): Point[] => values.map(([x, y]) => [x!, y!]);
const three = (values: number[][]) => pairs(values) as unknown as [Point, Point, Point];

function expectMap(map: AffineMap, matrix: number[][], tolerance: number): void {
  map.forEach((value, i) => {
    expect(Math.abs(value - matrix.flat()[i]!), `entry ${i}: ${value}`).toBeLessThanOrEqual(tolerance);
  });
}

function expectPoint(point: Point, expected: Point, digits = 9): void {
  expect(point[0]).toBeCloseTo(expected[0], digits);
  expect(point[1]).toBeCloseTo(expected[1], digits);
}

function refusal(run: () => unknown): FaceNetError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(FaceNetError);
    return error as FaceNetError;
  }
  throw new Error('nothing was thrown');
}

describe('fits', () => {
  test('AL-01: five-point similarity equals the linear solve', () => {
    const map = similarityFromPoints(pairs(al01!.source), pairs(al01!.target));
    expectMap(map, al01!.matrix, al01!.absTolerance);
    expect(Math.hypot(map[0], map[3])).toBeCloseTo(al01!.scale!, 6);
    expect((Math.atan2(map[3], map[0]) * 180) / Math.PI).toBeCloseTo(al01!.degrees!, 6);
    const template = { name: 'case', width: 96, height: 112, points: pairs(al01!.target) };
    expect(alignFace(al01!.source, template).rms).toBeCloseTo(al01!.rms!, 6);
  });

  test('AL-02: affine of three points is exact at the points', () => {
    const map = affineFromPoints(three(al02!.source), three(al02!.target));
    expectMap(map, al02!.matrix, al02!.absTolerance);
    pairs(al02!.source).forEach((point, i) => expectPoint(applyMap(map, point), pairs(al02!.target)[i]!));
  });

  test('AL-02: picture and landmarks four times as large only scale the matrix', () => {
    const small = affineFromPoints(three(al02!.source), three(al02!.target));
    const large = affineFromPoints(three(al02!.source.map((p) => p.map((v) => v * 4))), three(al02!.target));
    [0, 1, 3, 4].forEach((i) => expect(large[i]! * 4).toBeCloseTo(small[i]!, 12));
    [2, 5].forEach((i) => expect(large[i]!).toBeCloseTo(small[i]!, 9));
  });

  test('a similarity never reflects: mirrored targets give a worse fit, not a flip', () => {
    const source = pairs(al01!.source);
    const mirrored = pairs(al01!.target).map(([x, y]): Point => [95 - x, y]);
    const [a, b, , c, d] = similarityFromPoints(source, mirrored);
    expect(a).toBe(d);
    expect(b).toBe(-c);
    expect(a * d - b * c).toBeGreaterThanOrEqual(0);
  });

  test('the least-squares fit beats every small change of its four unknowns', () => {
    const source = pairs(al01!.source);
    const target = pairs(al01!.target);
    const [a, , tx, c, , ty] = similarityFromPoints(source, target);
    const error = (p: number[]) =>
      source.reduce(
        (sum, [x, y], i) =>
          sum +
          (p[0]! * x - p[1]! * y + p[2]! - target[i]![0]) ** 2 +
          (p[1]! * x + p[0]! * y + p[3]! - target[i]![1]) ** 2,
        0,
      );
    const best = [a, c, tx, ty];
    for (let k = 0; k < 4; k++) {
      for (const step of [-1e-4, 1e-4]) {
        expect(error(best.map((v, i) => (i === k ? v + step : v)))).toBeGreaterThan(error(best));
      }
    }
  });

  test('two eyes are met exactly', () => {
    const eyes: [Point, Point] = [
      [431.5, 220.25],
      [548, 190],
    ];
    const target: [Point, Point] = [
      [47.7, 47.1],
      [100.3, 47.1],
    ];
    const map = similarityFromEyes(eyes, target);
    eyes.forEach((eye, i) => expectPoint(applyMap(map, eye), target[i]!));
  });

  test('inverse, composition and mirror agree with each other', () => {
    const map = affineFromPoints(three(al02!.source), three(al02!.target));
    const inverse = invertMap(map);
    expectPoint(applyMap(composeMaps(inverse, map), [17, -3]), [17, -3]);
    const mirrored = mirroredInverse(inverse, 96);
    for (const [x, y] of [
      [0, 0],
      [95, 10],
      [20.5, 95],
    ] as const) {
      expectPoint(applyMap(mirrored, [x, y]), applyMap(inverse, [95 - x, y]));
    }
    mirroredInverse(mirrored, 96).forEach((value, i) => expect(value).toBeCloseTo(inverse[i]!, 10));
  });
});

describe('templates', () => {
  test('named templates have the published points at their own size', () => {
    expect(alignmentTemplate('arcface').points[0]).toEqual([38.2946, 51.6963]);
    expect(alignmentTemplate('dlib')).toMatchObject({
      width: 150,
      points: [
        [47.7, 47.1],
        [100.3, 47.1],
      ],
    });
    expect(alignmentTemplate('openface').points).toEqual([
      [18.639, 16.25],
      [75.73, 15.184],
      [47.515, 49.386],
    ]);
  });

  test('arcface at 96 pixels is the template the LFW recipes were measured with', () => {
    const expected: Point[] = [
      [32.82, 44.31],
      [63.03, 44.14],
      [48.02, 61.49],
      [35.61, 79.17],
      [60.63, 79.03],
    ];
    alignmentTemplate('arcface', 96).points.forEach((point, i) => expectPoint(point, expected[i]!, 1.9));
  });

  test('dlib: eye centres of its mean five points with a quarter of padding on each side', () => {
    // dlib's mean face (image_transforms/interpolation.h): corners of the right, then of the left eye.
    const corners: Point[] = [
      [0.8595674595992, 0.2134981538014],
      [0.6460604764104, 0.2289674387677],
      [0.1205750620789, 0.2137274526848],
      [0.3340850613712, 0.2290642403242],
    ];
    const chip = (v: number) => (150 * (v + 0.25)) / 1.5;
    const eyes: Point[] = [
      [chip((corners[2]![0] + corners[3]![0]) / 2), chip((corners[2]![1] + corners[3]![1]) / 2)],
      [chip((corners[0]![0] + corners[1]![0]) / 2), chip((corners[0]![1] + corners[1]![1]) / 2)],
    ];
    alignmentTemplate('dlib').points.forEach(([x, y], i) => {
      expect(Math.abs(x - eyes[i]![0])).toBeLessThan(0.06);
      expect(Math.abs(y - eyes[i]![1])).toBeLessThan(0.06);
    });
  });

  test('unknown names and sizes are refused', () => {
    expect(refusal(() => alignmentTemplate('toString' as never)).message).toMatch(/toString/);
    for (const size of [0, 7.5, Number.NaN, 1e9])
      expect(refusal(() => alignmentTemplate('dlib', size)).code).toBe('input');
  });
});

describe('point orders', () => {
  const sixtyEight = Array.from({ length: 68 }, (_, i): Point => [100 + i, 50 + i * 2]);

  test('68 points are reduced to eye means, nose tip 30, mouth corners 48 and 54', () => {
    const { five, outerEyesAndNose } = landmarksFrom(sixtyEight);
    expect(five).toEqual([
      [138.5, 127],
      [144.5, 139],
      [130, 110],
      [148, 146],
      [154, 158],
    ]);
    expect(outerEyesAndNose).toEqual([
      [136, 122],
      [145, 140],
      [133, 116],
    ]);
  });

  test('dlib-five: the right eye comes first', () => {
    const { eyes, outerEyesAndNose, five } = landmarksFrom(
      [
        [90, 40],
        [70, 42],
        [10, 41],
        [30, 43],
        [50, 80],
      ],
      'dlib-five',
    );
    expect(eyes).toEqual([
      [20, 42],
      [80, 41],
    ]);
    expect(outerEyesAndNose).toEqual([
      [10, 41],
      [90, 40],
      [50, 80],
    ]);
    expect(five).toBeUndefined();
  });

  test('MediaPipe: fractions of the image, counted from its edge', () => {
    const six = [
      { x: 0.3, y: 0.4, z: 0 },
      { x: 0.6, y: 0.4 },
      { x: 0.45, y: 0.5 },
      { x: 0.45, y: 0.6 },
      { x: 0.2, y: 0.4 },
      { x: 0.7, y: 0.4 },
    ];
    const { eyes, five } = landmarksFrom(six, 'mediapipe-six', { width: 200, height: 100 });
    expect(five).toBeUndefined();
    expectPoint(eyes[0], [59.5, 39.5]);
    expectPoint(eyes[1], [119.5, 39.5]);
    const mesh = Array.from({ length: 478 }, () => [0, 0, 0]);
    const put = (i: number, x: number, y: number) => {
      mesh[i] = [x, y, 1];
    };
    put(33, 0.2, 0.3);
    put(133, 0.4, 0.3);
    put(362, 0.6, 0.3);
    put(263, 0.8, 0.3);
    put(1, 0.5, 0.5);
    put(2, 0.5, 0.55);
    put(61, 0.4, 0.7);
    put(291, 0.6, 0.7);
    const found = landmarksFrom(mesh, 'mediapipe-mesh', { width: 100, height: 100 });
    expect(found.five!.map(([x, y]) => [Math.round(x + 0.5), Math.round(y + 0.5)])).toEqual([
      [30, 30],
      [70, 30],
      [50, 50],
      [40, 70],
      [60, 70],
    ]);
    expect(found.outerEyesAndNose!.map(([x]) => Math.round(x + 0.5))).toEqual([20, 80, 50]);
    expect(refusal(() => landmarksFrom(mesh, 'mediapipe-mesh')).message).toMatch(/size/);
  });

  test('counts, types and values that are no points are refused with their index', () => {
    expect(
      refusal(() =>
        landmarksFrom([
          [1, 2],
          [3, 4],
          [5, 6],
        ]),
      ).message,
    ).toMatch(/2 or 5 or 68 points, got 3/);
    expect(refusal(() => landmarksFrom(sixtyEight, 'five')).message).toMatch(/5 points, got 68/);
    for (const bad of [[Number.NaN, 1], [1, Number.POSITIVE_INFINITY], [1], [1, 2, 3], ['1', 2], null, 7]) {
      const error = refusal(() => landmarksFrom([[1, 2], bad]));
      expect(error.code).toBe('input');
      expect(error.index).toBe(1);
    }
    for (const bad of [null, undefined, 'five', {}]) expect(refusal(() => checkedPoints(bad, [2])).code).toBe('input');
    expect(refusal(() => landmarksFrom([], 'seventy' as never)).message).toMatch(/seventy/);
  });

  test('points listed right before left are refused, a turned head is not', () => {
    const [left, right, nose, mouthLeft, mouthRight] = pairs(al01!.source);
    expect(refusal(() => landmarksFrom([right, left, nose, mouthRight, mouthLeft])).message).toMatch(
      /left before right/,
    );
    const turned = (degrees: number) =>
      pairs(al01!.source).map(([x, y]): Point => {
        const t = (degrees * Math.PI) / 180;
        return [
          Math.cos(t) * (x - 220) - Math.sin(t) * (y - 140) + 220,
          Math.sin(t) * (x - 220) + Math.cos(t) * (y - 140) + 140,
        ];
      });
    for (const degrees of [90, 180, 270]) expect(landmarksFrom(turned(degrees)).five).toHaveLength(5);
  });
});

describe('alignFace', () => {
  const five = pairs(al01!.source);

  test.each(['arcface', 'dlib', 'openface'] as const)('%s takes five points', (name) => {
    const template = alignmentTemplate(name);
    const { map, inverse, width } = alignFace(five, template, { image: { width: 400, height: 300 } });
    expect(width).toBe(template.width);
    expectPoint(applyMap(inverse, applyMap(map, [220, 150])), [220, 150]);
    // Eyes land on the template's eyes (exactly for dlib, within the fit's error otherwise).
    const targets = template.points.length === 3 ? template.fivePoints! : template.points;
    const [x, y] = applyMap(map, five[0]!);
    expect(Math.hypot(x - targets[0]![0], y - targets[0]![1])).toBeLessThan(name === 'dlib' ? 1e-9 : 5);
  });

  test('mirror shows the same pixels from right to left', () => {
    const template = alignmentTemplate('arcface');
    const plain = alignFace(five, template);
    const mirrored = alignFace(five, template, { mirror: true });
    expectPoint(applyMap(mirrored.inverse, [0, 7]), applyMap(plain.inverse, [111, 7]));
    expectPoint(applyMap(mirrored.map, applyMap(mirrored.inverse, [30, 40])), [30, 40]);
  });

  test('degenerate faces are refused', () => {
    const arcface = alignmentTemplate('arcface');
    expect(refusal(() => alignFace(Array(5).fill([10, 10]), arcface)).message).toMatch(/apart/);
    expect(
      refusal(() =>
        alignFace(
          [
            [0.3, 0.4],
            [0.6, 0.4],
            [0.45, 0.5],
            [0.35, 0.7],
            [0.6, 0.7],
          ],
          arcface,
        ),
      ).message,
    ).toMatch(/fractions/);
    expect(
      refusal(() =>
        alignFace(
          [
            [1e200, 0],
            [-1e200, 0],
            [0, 1e200],
            [0, 0],
            [1, 1],
          ],
          arcface,
        ),
      ).code,
    ).toBe('input');
    expect(
      refusal(() =>
        alignFace(
          [
            [1, 1],
            [2, 2],
          ],
          arcface,
        ),
      ).message,
    ).toMatch(/eyes only/);
    expect(
      refusal(() =>
        alignFace(
          [
            [1, 1],
            [9, 2],
          ],
          alignmentTemplate('openface'),
        ),
      ).message,
    ).toMatch(/eyes only/);
    const line = Array.from({ length: 68 }, (_, i): Point => [i * 3, i * 2]);
    line[48] = [100, 200];
    line[54] = [120, 200];
    expect(refusal(() => alignFace(line, alignmentTemplate('openface'))).message).toMatch(/one line/);
    expect(
      refusal(() =>
        affineFromPoints(
          [
            [0, 0],
            [1000, 0],
            [500, 0.2],
          ],
          three(al02!.target),
        ),
      ).message,
    ).toMatch(/one line/);
    expect(refusal(() => alignFace(five, { name: 'x', width: 9, height: 9, points: [[1, 1]] })).message).toMatch(
      /2, 3 or 5/,
    );
  });

  test('landmarks of another image size are refused, a face at the border is not', () => {
    const arcface = alignmentTemplate('arcface');
    expect(refusal(() => alignFace(five, arcface, { image: { width: 100, height: 100 } })).message).toMatch(
      /another size/,
    );
    expect(refusal(() => alignFace(five, arcface, { image: { width: 210, height: 300 } })).message).toMatch(/middle/);
    const border = five.map(([x, y]): Point => [x - 215, y]);
    expect(alignFace(border, arcface, { image: { width: 250, height: 250 } }).rms).toBeGreaterThan(0);
  });
});

describe('crops without landmarks', () => {
  test('centre crop of an image of the template size is the identity', () => {
    const { inverse } = centreCrop({ width: 96, height: 96 }, { width: 96, height: 96 });
    inverse.forEach((value, i) => expect(value).toBeCloseTo([1, 0, 0, 0, 1, 0][i]!, 12));
    const wide = centreCrop({ width: 200, height: 100 }, { width: 50, height: 50 });
    expect(cropCorners(wide)[0]).toEqual([50.5, 0.5]);
    expect(cropCorners(wide)[2]).toEqual([148.5, 98.5]);
    expect(refusal(() => centreCrop({ width: 0, height: 5 }, { width: 9, height: 9 })).code).toBe('input');
  });

  // Worked by hand from the two projects' formulas.
  test('facenet counts the margin in source pixels', () => {
    const image = { width: 640, height: 480 };
    expect(marginCrop([100.6, 80.2, 200.9, 220.7], image, { size: 160, margin: 32, unit: 'source' }).box).toEqual([
      84, 64, 216, 236,
    ]);
    expect(marginCrop([5, 5, 635, 478], image, { size: 160, margin: 32, unit: 'source' }).box).toEqual([
      0, 0, 640, 480,
    ]);
  });

  test('facenet-pytorch counts the margin in output pixels', () => {
    const image = { width: 640, height: 480 };
    // 14 * 130 / (160 - 14) = 12.466: half of it on each side; 14 * 146 / 146 = 14.
    expect(marginCrop([100, 80, 230, 226], image, { size: 160, margin: 14, unit: 'output' }).box).toEqual([
      93, 73, 236, 233,
    ]);
  });

  test('a box as large as the output is copied pixel for pixel', () => {
    const { inverse } = marginCrop([20, 30, 180, 190], { width: 300, height: 300 }, { size: 160, unit: 'source' });
    inverse.forEach((value, i) => expect(value).toBeCloseTo([1, 0, 20, 0, 1, 30][i]!, 12));
  });

  test('IM-13: boxes that are empty, inverted or outside are refused', () => {
    const image = { width: 4, height: 3 };
    const bad = [
      [2, 2, 2, 3],
      [3, 0, 1, 2],
      [-5, -5, -1, -1],
      [4, 0, 8, 2],
      [0, 0, Number.NaN, 1],
      [0.2, 0.2, 0.8, 0.9],
    ] as const;
    for (const box of bad)
      expect(refusal(() => marginCrop(box, image, { size: 16, unit: 'source' })).code, String(box)).toBe('input');
    expect(refusal(() => marginCrop([0, 0, 2, 2], image, { size: 16, margin: 16, unit: 'output' })).message).toMatch(
      /margin/,
    );
    expect(
      refusal(() => marginCrop([0, 0, 2, 2], image, { size: 16, margin: Number.NaN, unit: 'source' })).message,
    ).toMatch(/margin/);
  });
});
