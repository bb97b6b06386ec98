// area: networks
// Quality numbers on pictures whose numbers are known, and faces as other programs print them.
import { describe, expect, test } from 'vitest';
import type { Point } from '../src/faces/affine-map.ts';
import { type ForeignProgram, faceFrom } from '../src/faces/foreign-faces.ts';
import type { Pixels } from '../src/faces/preprocessing.ts';
import { facePose, faceQuality } from '../src/faces/quality.ts';

/** A frontal face with eyes 100 pixels apart about (200, 200): proportions of the template arcface. */
const frontal: Point[] = [
  [150, 150],
  [250, 150],
  [200, 207.1],
  [158, 265.5],
  [242, 265.5],
];
const degrees = Math.PI / 180;

function picture(value: (x: number, y: number) => number, width = 400, height = 400): Pixels {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++)
    data.fill(Math.round(value(i % width, Math.floor(i / width))), 3 * i, 3 * i + 3);
  return { data, width, height };
}

describe('pose', () => {
  test('a frontal face looks ahead', () => {
    const { roll, yaw, pitch } = facePose(frontal);
    for (const angle of [roll, yaw!, pitch!]) expect(Math.abs(angle)).toBeLessThan(0.5);
  });

  test.each([-60, 35, 120])('turned in the picture by %i degrees: roll alone', (angle) => {
    const [c, s] = [Math.cos(angle * degrees), Math.sin(angle * degrees)];
    const turned = frontal.map(
      ([x, y]): Point => [200 + c * (x - 200) - s * (y - 200), 200 + s * (x - 200) + c * (y - 200)],
    );
    const { roll, yaw, pitch } = facePose(turned);
    expect(roll).toBeCloseTo(angle, 6);
    expect(Math.abs(yaw!)).toBeLessThan(0.5);
    expect(Math.abs(pitch!)).toBeLessThan(0.5);
  });

  /** The head as points in space, eyes 100 apart, the nose 50 before the others; turned, then seen from far away. */
  function seen(yaw: number, pitch: number): Point[] {
    return frontal.map(([px, py], i) => {
      const [x, y, z] = [px - 200, py - 207, i === 2 ? 50 : 0];
      const turnedX = x * Math.cos(yaw * degrees) + z * Math.sin(yaw * degrees);
      const depth = -x * Math.sin(yaw * degrees) + z * Math.cos(yaw * degrees);
      return [200 + turnedX, 200 + y * Math.cos(pitch * degrees) - depth * Math.sin(pitch * degrees)];
    });
  }

  test.each([
    [30, 0],
    [-45, 0],
    [0, 25],
    [0, -30],
  ])('a head turned by yaw %i, pitch %i', (yaw, pitch) => {
    const pose = facePose(seen(yaw, pitch));
    expect(Math.abs(pose.yaw! - yaw)).toBeLessThan(3);
    expect(Math.abs(pose.pitch! - pitch)).toBeLessThan(3);
  });

  test('two eyes tell the roll alone', () => {
    expect(facePose(frontal.slice(0, 2))).toEqual({ roll: 0, yaw: undefined, pitch: undefined });
  });
});

describe('quality', () => {
  test('a flat grey face: its brightness, no contrast, no sharpness', () => {
    const found = faceQuality(
      picture(() => 90),
      frontal,
    );
    expect(found.eyeDistance).toBe(100);
    expect(found.brightness).toBeCloseTo(90, 6);
    expect(found.contrast).toBeCloseTo(0, 6);
    expect(found.sharpness).toBeCloseTo(0, 6);
    expect(found.clipping).toEqual({ dark: 0, bright: 0 });
    expect(found.visible).toBe(1);
  });

  test('red, green and blue count as brightness by 0.299, 0.587, 0.114', () => {
    const photo = picture(() => 0);
    for (let i = 0; i < photo.data.length; i += 3) photo.data.set([200, 100, 50], i);
    expect(faceQuality(photo, frontal).brightness).toBeCloseTo(0.299 * 200 + 0.587 * 100 + 0.114 * 50, 6);
  });

  test('half black, half white: clipped at both ends, deviation near 127.5', () => {
    const found = faceQuality(
      picture((x) => (x < 200 ? 0 : 255)),
      frontal,
    );
    expect(found.clipping.dark).toBeCloseTo(0.5, 1);
    expect(found.clipping.bright).toBeCloseTo(0.5, 1);
    expect(found.contrast).toBeGreaterThan(120);
  });

  test('a ramp has no Laplacian; a finer pattern has more; blur takes it away', () => {
    const sharpness = (value: (x: number, y: number) => number) => faceQuality(picture(value), frontal).sharpness;
    const waves = (length: number) => (x: number, y: number) =>
      128 + 60 * Math.sin((2 * Math.PI * x) / length) * Math.sin((2 * Math.PI * y) / length);
    expect(sharpness((x) => x / 2)).toBeLessThan(1);
    const [fine, coarse, coarser] = [40, 80, 160].map((length) => sharpness(waves(length)));
    expect(fine!).toBeGreaterThan(8 * coarse!);
    expect(coarse!).toBeGreaterThan(8 * coarser!);
  });

  test('a face half outside: what is visible, measured on that alone', () => {
    const shifted = frontal.map(([x, y]): Point => [x - 200, y]);
    const found = faceQuality(
      picture(() => 90),
      shifted,
    );
    expect(found.visible).toBeGreaterThan(0.4);
    expect(found.visible).toBeLessThan(0.6);
    expect(found.brightness).toBeCloseTo(90, 6);
  });

  test('bad points and bad pixels are typed errors', () => {
    const photo = picture(() => 0);
    expect(() => faceQuality(photo, frontal.slice(0, 3))).toThrow(expect.objectContaining({ code: 'input' }));
    expect(() => faceQuality({ ...photo, width: 7 }, frontal)).toThrow(expect.objectContaining({ code: 'image' }));
  });
});

describe('faces of other programs', () => {
  const image = { width: 400, height: 400 };
  const [left, right, nose, mouthLeft, mouthRight] = frontal as [Point, Point, Point, Point, Point];
  const box = [100, 80, 300, 330];
  const xy = ([x, y]: Point) => ({ x, y });
  // Fractions count from the edge, pixels from the centre of the first.
  const fraction = ([x, y]: Point) => ({ x: (x + 0.5) / 400, y: (y + 0.5) / 400 });
  const sixtyEight = Array.from({ length: 68 }, (_, i): Point => {
    if (i >= 36 && i < 42) return left;
    if (i >= 42 && i < 48) return right;
    return i === 30 ? nose : i === 48 ? mouthLeft : i === 54 ? mouthRight : [200, 220];
  });
  const mesh = Array.from({ length: 478 }, (): { x: number; y: number } => fraction([200, 220]));
  for (const [indices, point] of [
    [[33, 133], left],
    [[362, 263], right],
    [[1], nose],
    [[61], mouthLeft],
    [[291], mouthRight],
  ] as const)
    for (const i of indices) mesh[i] = fraction(point);
  const six = [left, right, nose, [200, 265.5] as Point, [100, 160] as Point, [300, 160] as Point].map(fraction);
  const rectangle = { x: 100, y: 80, width: 200, height: 250 };

  const answers: readonly [ForeignProgram, string, unknown, boolean, readonly Point[]][] = [
    [
      'mediapipe',
      'tasks',
      { boundingBox: { originX: 100, originY: 80, width: 200, height: 250 }, keypoints: six },
      true,
      [left, right],
    ],
    [
      'mediapipe',
      'solutions',
      {
        locationData: {
          relativeBoundingBox: { xmin: 0.25, ymin: 0.2, width: 0.5, height: 0.625 },
          relativeKeypoints: six,
        },
      },
      true,
      [left, right],
    ],
    ['mediapipe-mesh', 'list', mesh, false, frontal],
    ['mediapipe-mesh', 'in an object', { landmarks: mesh.slice(0, 468) }, false, frontal],
    [
      'face-api',
      'objects',
      { detection: { box: rectangle }, landmarks: { positions: sixtyEight.map(xy) } },
      true,
      frontal,
    ],
    [
      'face-api',
      'JSON',
      {
        detection: { _box: { _x: 100, _y: 80, _width: 200, _height: 250 } },
        landmarks: { _positions: sixtyEight.map(([x, y]) => ({ _x: x, _y: y })) },
      },
      true,
      frontal,
    ],
    [
      'dlib',
      '68',
      { rect: { left: 100, top: 80, right: 299, bottom: 329 }, points: sixtyEight.map(xy) },
      true,
      frontal,
    ],
    [
      'dlib',
      '5, the eye at the right first',
      {
        points: [
          [265, 150],
          [235, 150],
          [135, 150],
          [165, 150],
          [200, 220],
        ],
      },
      false,
      [left, right],
    ],
    [
      'retinaface',
      'by the side of the person',
      {
        facial_area: box,
        landmarks: { right_eye: left, left_eye: right, nose, mouth_right: mouthLeft, mouth_left: mouthRight },
      },
      true,
      frontal,
    ],
    ['retinaface', 'kps', { bbox: Float32Array.from(box), kps: frontal }, true, frontal],
    [
      'mtcnn',
      'by the side of the picture',
      {
        box: [100, 80, 200, 250],
        keypoints: { left_eye: left, right_eye: right, nose, mouth_left: mouthLeft, mouth_right: mouthRight },
      },
      true,
      frontal,
    ],
  ];
  test.each(answers)('%s, %s', (program, _, answer, hasBox, points) => {
    const face = faceFrom(program, answer, image);
    if (hasBox) face.box!.forEach((edge, i) => expect(edge).toBeCloseTo(box[i]!, 6));
    else expect(face.box).toBeUndefined();
    expect(face.landmarks).toHaveLength(points.length);
    face.landmarks!.forEach((point, i) =>
      point.forEach((value, axis) => expect(value).toBeCloseTo(points[i]![axis]!, 6)),
    );
  });

  test.each<[string, ForeignProgram, unknown]>([
    ['another program', 'opencv' as ForeignProgram, {}],
    ['neither box nor points', 'mtcnn', { score: 1 }],
    ['nothing', 'retinaface', null],
    ['no numbers', 'mtcnn', { box: [1, 2, 'x', 4] }],
    ['an empty box', 'retinaface', { bbox: [5, 5, 5, 9] }],
    ['too few points', 'mediapipe', { keypoints: six.slice(1) }],
    [
      'sides exchanged',
      'mtcnn',
      { keypoints: { left_eye: right, right_eye: left, nose, mouth_left: mouthRight, mouth_right: mouthLeft } },
    ],
  ])('%s is an input error', (_, program, answer) => {
    expect(() => faceFrom(program, answer, image)).toThrow(expect.objectContaining({ code: 'input' }));
  });
});
