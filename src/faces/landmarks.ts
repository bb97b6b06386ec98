import { FaceNetError } from '../errors.ts';
import { checkedPoints, type Point } from './affine-map.ts';

/**
 * Orders in which other programs list a face's points:
 * - `five`: ours, MTCNN's, RetinaFace's and SCRFD's: eye, eye, nose tip, mouth corner, mouth corner;
 * - `sixty-eight`: dlib's and face-api's (iBUG 300-W): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67;
 * - `dlib-five`: shape_predictor_5_face_landmarks: the corners of the right eye (outer, inner), of the left eye (outer, inner), nose base;
 * - `mediapipe-six`: BlazeFace: eye, eye, nose tip, mouth centre, ear, ear, as fractions of the image size;
 * - `mediapipe-mesh`: Face Mesh with 468 points, or 478 with irises, as fractions of the image size.
 * Left and right mean the side of the picture throughout, never the side of the person.
 */
export type LandmarkOrder = 'five' | 'sixty-eight' | 'dlib-five' | 'mediapipe-six' | 'mediapipe-mesh';

/** What an alignment can use of a face, in pixels. Points are left before right as seen in the picture. */
export interface Landmarks {
  readonly eyes: readonly [Point, Point];
  /** Eyes, nose tip, mouth corners. */
  readonly five?: readonly [Point, Point, Point, Point, Point];
  /** Outer eye corners and nose base (36, 45, 33 of the 68), which the OpenFace template is made for. */
  readonly outerEyesAndNose?: readonly [Point, Point, Point];
}

/**
 * Reads a face's points in one of the known orders. `size` is the image's width and height, needed for the
 * MediaPipe orders only. With `order` left out 5 points are `five` and 68 `sixty-eight`. 2 points are the eyes.
 * Throws 'input' for other counts, values that are not finite, and eyes or mouth corners listed right before left.
 */
export function landmarksFrom(
  points: unknown,
  order?: LandmarkOrder,
  size?: { width: number; height: number },
): Landmarks {
  const landmarks = read(points, order, size);
  checkOrder(landmarks);
  return landmarks;
}

function read(
  points: unknown,
  order: LandmarkOrder | undefined,
  size: { width: number; height: number } | undefined,
): Landmarks {
  switch (order) {
    case undefined: {
      const list = checkedPoints(points, [2, 5, 68]);
      if (list.length === 2) return { eyes: [list[0]!, list[1]!] };
      return list.length === 5 ? fromFive(list) : fromSixtyEight(list);
    }
    case 'five':
      return fromFive(checkedPoints(points, [5]));
    case 'sixty-eight':
      return fromSixtyEight(checkedPoints(points, [68]));
    case 'dlib-five': {
      const list = checkedPoints(points, [5]);
      return {
        eyes: [middle(list, [2, 3]), middle(list, [0, 1])],
        outerEyesAndNose: [list[2]!, list[0]!, list[4]!],
      };
    }
    case 'mediapipe-six': {
      const list = inPixels(checkedPlane(points, [6]), size);
      return { eyes: [list[0]!, list[1]!] };
    }
    case 'mediapipe-mesh': {
      const list = inPixels(checkedPlane(points, [468, 478]), size);
      const eyes = [middle(list, [33, 133]), middle(list, [362, 263])] as const;
      return {
        eyes,
        five: [eyes[0], eyes[1], list[1]!, list[61]!, list[291]!],
        outerEyesAndNose: [list[33]!, list[263]!, list[2]!],
      };
    }
    default:
      throw new FaceNetError(
        'input',
        `landmark order: must be five, sixty-eight, dlib-five, mediapipe-six or mediapipe-mesh, got ${String(order)}. Name the program that made the points.`,
      );
  }
}

function fromFive(list: readonly Point[]): Landmarks {
  return { eyes: [list[0]!, list[1]!], five: [list[0]!, list[1]!, list[2]!, list[3]!, list[4]!] };
}

/** Eyes are the means of their six points; the nose tip is 30, the mouth corners are 48 and 54. */
function fromSixtyEight(list: readonly Point[]): Landmarks {
  const five = fiveOfSixtyEight(list);
  return { eyes: [five[0], five[1]], five, outerEyesAndNose: [list[36]!, list[45]!, list[33]!] };
}

/** Eyes (means of 36-41 and 42-47), nose tip (30) and mouth corners (48, 54) of the 68 points of iBUG 300-W, which are not checked. */
export function fiveOfSixtyEight(list: readonly Point[]): readonly [Point, Point, Point, Point, Point] {
  const eyes = [middle(list, [36, 37, 38, 39, 40, 41]), middle(list, [42, 43, 44, 45, 46, 47])] as const;
  return [eyes[0], eyes[1], list[30]!, list[48]!, list[54]!];
}

function middle(points: readonly Point[], indices: readonly number[]): Point {
  let x = 0;
  let y = 0;
  for (const index of indices) {
    x += points[index]![0];
    y += points[index]![1];
  }
  return [x / indices.length, y / indices.length];
}

/** MediaPipe gives objects { x, y, z }; lists are taken as well, a third coordinate is dropped. */
function checkedPlane(points: unknown, counts: readonly number[]): Point[] {
  const plane = !Array.isArray(points)
    ? points
    : points.map((point: unknown) => {
        if (Array.isArray(point)) return point.slice(0, 2);
        const { x, y } = (point ?? {}) as { x?: unknown; y?: unknown };
        return [x, y];
      });
  return checkedPoints(plane, counts);
}

/** MediaPipe's fractions count from the image's left edge, which is -0.5 in pixel centres. */
function inPixels(points: readonly Point[], size: { width: number; height: number } | undefined): Point[] {
  if (!size || !(size.width > 0) || !(size.height > 0)) {
    throw new FaceNetError(
      'input',
      'landmarks: MediaPipe points are fractions of the image size, got no size. Give { width, height } of the image.',
    );
  }
  return points.map(([x, y]) => [x * size.width - 0.5, y * size.height - 0.5]);
}

/** Mirrored lists (the person's left first) would be aligned upside down: refused where they are certain. */
function checkOrder({ eyes: [left, right], five }: Landmarks): void {
  if (!five) return;
  const [dx, dy] = [right[0] - left[0], right[1] - left[1]];
  const mx = (five[3][0] + five[4][0] - left[0] - right[0]) / 2;
  const my = (five[3][1] + five[4][1] - left[1] - right[1]) / 2;
  const sine = (dx * my - dy * mx) / (Math.hypot(dx, dy) * Math.hypot(mx, my));
  if (sine < -0.5) {
    throw new FaceNetError(
      'input',
      `landmarks: points must be left before right as seen in the picture, got eyes [${left.join(', ')}] and [${right.join(', ')}] with the mouth above them. Exchange the two eyes and the two mouth corners.`,
    );
  }
}
