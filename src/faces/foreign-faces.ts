/**
 * Faces that other programs found, as they print them: boxes and points by the program's name. Left and right mean the side of the picture;
 * programs that name the person's side are turned round here.
 */
import { FaceNetError } from '../errors.ts';
import type { Point } from './affine-map.ts';
import { type LandmarkOrder, landmarksFrom } from './landmarks.ts';
import { type Box, checkBox } from './margin-crop.ts';

/**
 * Whose answer it is, and the fields read; coordinates are pixels unless it says fractions, and what is missing is left out:
 * - `mediapipe`: Face Detector: `boundingBox` { originX, originY, width, height }, or `locationData.relativeBoundingBox` { xmin, ymin, width,
 *   height } in fractions, and six `keypoints` { x, y } in fractions (also `locationData.relativeKeypoints`);
 * - `mediapipe-mesh`: Face Mesh / Face Landmarker: a list of 468 or 478 { x, y } in fractions, or { landmarks: that list };
 * - `face-api`: the result of detectAllFaces with or without landmarks, or its JSON: `detection` with `box` (or `_box`) { x, y, width, height },
 *   `landmarks` with 68 `positions` (or `_positions`);
 * - `dlib`: `rect` { left, top, right, bottom }, whose edges belong to it, and `points`, 68 or 5;
 * - `retinaface`: `facial_area` [x0, y0, x1, y1] and `landmarks` { right_eye, left_eye, nose, mouth_right, mouth_left } named by the person's
 *   side (serengil's), or `bbox` and `kps`, five points from left to right (InsightFace's: also SCRFD);
 * - `mtcnn`: `box` [x, y, width, height] and `keypoints` { left_eye, right_eye, nose, mouth_left, mouth_right } by the picture's side (ipazc's).
 */
export type ForeignProgram = 'mediapipe' | 'mediapipe-mesh' | 'face-api' | 'dlib' | 'retinaface' | 'mtcnn';

/** A face in pixels of the image, as alignment and margin crops take it. */
export interface ForeignFace {
  /** Edges x0, y0, x1, y1. May reach beyond the image. */
  readonly box?: Box;
  /** Two points (eyes), or five: eyes, nose tip, mouth corners, left in the picture first. */
  readonly landmarks?: readonly Point[];
  /** Outer eye corners and nose base, where the program gives them: what a template of three points wants. */
  readonly outerEyesAndNose?: readonly [Point, Point, Point];
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** What a program's answer holds, before it is checked. */
interface Parts {
  readonly box?: readonly unknown[] | undefined;
  readonly points?: unknown;
  readonly order?: LandmarkOrder;
}

const readers: Readonly<Record<ForeignProgram, (face: unknown, size: Size) => Parts>> = {
  mediapipe(face, { width, height }) {
    const relative = field(face, 'locationData', 'relativeBoundingBox');
    const absolute = field(face, 'boundingBox');
    const points = field(face, 'keypoints') ?? field(face, 'locationData', 'relativeKeypoints');
    const corner = relative
      ? [field(relative, 'xmin'), field(relative, 'ymin'), field(relative, 'width'), field(relative, 'height')]
      : [field(absolute, 'originX'), field(absolute, 'originY'), field(absolute, 'width'), field(absolute, 'height')];
    const scale = relative ? [width, height, width, height] : [1, 1, 1, 1];
    const scaled = corner.map((value, i) => (typeof value === 'number' ? value * (scale[i] as number) : value));
    return { box: relative || absolute ? fromCorner(scaled) : undefined, points, order: 'mediapipe-six' };
  },
  'mediapipe-mesh': (face) => ({
    points: Array.isArray(face) ? face : field(face, 'landmarks'),
    order: 'mediapipe-mesh',
  }),
  'face-api'(face) {
    const detection = field(face, 'detection') ?? face;
    const box = field(detection, 'box') ?? field(detection, '_box');
    const landmarks = field(face, 'landmarks');
    const list = field(landmarks, 'positions') ?? field(landmarks, '_positions');
    const value = (of: unknown, name: string) => field(of, name) ?? field(of, `_${name}`);
    return {
      box: box ? fromCorner(['x', 'y', 'width', 'height'].map((name) => value(box, name))) : undefined,
      points: Array.isArray(list) ? list.map((point: unknown) => [value(point, 'x'), value(point, 'y')]) : list,
      order: 'sixty-eight',
    };
  },
  dlib(face) {
    const rect = field(face, 'rect');
    const points = field(face, 'points');
    const [left, top, right, bottom] = ['left', 'top', 'right', 'bottom'].map((name) => field(rect, name));
    return {
      // dlib's rectangles end with their last pixel.
      box: rect ? [left, top, plusOne(right), plusOne(bottom)] : undefined,
      points: listed(points),
      order: Array.isArray(points) && points.length === 5 ? 'dlib-five' : 'sixty-eight',
    };
  },
  retinaface(face) {
    const named = field(face, 'landmarks');
    const sides = ['right_eye', 'left_eye', 'nose', 'mouth_right', 'mouth_left'];
    return {
      box: list4(field(face, 'facial_area') ?? field(face, 'bbox')),
      points: named === undefined ? listed(field(face, 'kps')) : sides.map((name) => field(named, name)),
      order: 'five',
    };
  },
  mtcnn(face) {
    const named = field(face, 'keypoints');
    const sides = ['left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right'];
    const box = list4(field(face, 'box'));
    return {
      box: box && fromCorner(box),
      points: named === undefined ? undefined : sides.map((name) => field(named, name)),
      order: 'five',
    };
  },
};

/**
 * Reads a face as the named program prints it (see `ForeignProgram`). `image` is the size of the image it was found in, pixels.
 *
 * @throws 'input' for an unknown program, an answer without box and points, and for boxes and points that are not finite, empty, in another
 * number or order than the program's, or outside the image.
 */
export function faceFrom(program: ForeignProgram, face: unknown, image: Size): ForeignFace {
  if (!Object.hasOwn(readers, program)) {
    throw new FaceNetError(
      'input',
      `foreign face: the program must be ${Object.keys(readers).join(', ')}, got ${String(program)}. Name whose answer it is, or give [x, y] points.`,
    );
  }
  if (!(image?.width > 0 && image.height > 0)) {
    throw new FaceNetError('input', `foreign face: needs the width and height of its image, got ${String(image)}.`);
  }
  const { box, points, order } = readers[program](face, image);
  if (box === undefined && points === undefined) {
    throw new FaceNetError(
      'input',
      `foreign face: must hold a box or points as ${program} prints them, got ${brief(face)}. Is it another program's?`,
    );
  }
  if (box !== undefined) checkBox(box as unknown as Box, image);
  const found = points === undefined ? undefined : landmarksFrom(points, order, image);
  return {
    ...(box && { box: box as unknown as Box }),
    ...(found && { landmarks: found.five ?? found.eyes }),
    ...(found?.outerEyesAndNose && { outerEyesAndNose: found.outerEyesAndNose }),
  };
}

/** An own or inherited property, one after the other: results of face-api are objects with getters. */
function field(value: unknown, ...names: readonly string[]): unknown {
  let found: unknown = value;
  for (const name of names) {
    if (typeof found !== 'object' || found === null) return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

/** x, y, width, height as edges. What is no number stays none, for `checkBox` to refuse. */
const fromCorner = ([x, y, width, height]: readonly unknown[]): unknown[] => [
  x,
  y,
  (x as number) + (width as number),
  (y as number) + (height as number),
];

const plusOne = (value: unknown): unknown => (typeof value === 'number' ? value + 1 : value);

const list4 = (value: unknown): unknown[] | undefined =>
  value === undefined ? undefined : ArrayBuffer.isView(value) ? [...(value as Float32Array)] : [...[value].flat()];

/** Points as pairs, whether given as pairs or as { x, y }. */
const listed = (points: unknown): unknown =>
  Array.isArray(points)
    ? points.map((point: unknown) => (Array.isArray(point) ? point : [field(point, 'x'), field(point, 'y')]))
    : points;

function brief(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  const names = Object.keys(value).slice(0, 6).join(', ');
  return Array.isArray(value) ? `a list of ${value.length}` : `an object with ${names || 'nothing'}`;
}
