import { FaceNetError } from '../errors.ts';
import {
  type AffineMap,
  affineFromPoints,
  applyMap,
  invertMap,
  mapError,
  mirroredInverse,
  type Point,
  similarityFromPoints,
} from './affine-map.ts';
import type { AlignmentTemplate } from './alignment-templates.ts';
import { type LandmarkOrder, type Landmarks, landmarksFrom } from './landmarks.ts';

/** How a photo's pixels become a network's input. */
export interface Alignment {
  /** Source pixel -> output pixel. */
  readonly map: AffineMap;
  /**
   * Output pixel -> source pixel: what the warp kernel evaluates for every output pixel. Integer coordinates are
   * pixel centres on both sides: output column 0 is x = 0, and a result of (0, 0) is exactly the first source pixel.
   */
  readonly inverse: AffineMap;
  readonly width: number;
  readonly height: number;
  /** Root mean square distance of the mapped landmarks from the template, in output pixels. */
  readonly rms: number;
}

export interface AlignOptions {
  /** The order of the points; 2, 5 and 68 are told apart by their number. */
  readonly order?: LandmarkOrder;
  /** Size of the source image; given, landmarks far outside it are refused. Needed for MediaPipe orders. */
  readonly image?: { readonly width: number; readonly height: number };
  /** The mirrored crop. */
  readonly mirror?: boolean;
}

/**
 * Fits a face's landmarks to a template. The kind of fit follows from the template's number of points (see
 * AlignmentTemplate). Throws 'input' for points that are missing, not finite, in one place, on one line (three-point
 * templates), listed right before left, or outside the image: any point farther out than a quarter of the
 * image's size, or the middle of all points outside.
 */
export function alignFace(points: unknown, template: AlignmentTemplate, options: AlignOptions = {}): Alignment {
  const landmarks = landmarksFrom(points, options.order, options.image);
  const [source, target] = matched(landmarks, template);
  if (options.image) checkInside(source, options.image);
  const map =
    target.length === 3
      ? affineFromPoints(source as [Point, Point, Point], target as [Point, Point, Point])
      : similarityFromPoints(source, target);
  const inverse = invertMap(map);
  return {
    map: options.mirror ? mirroredMap(map, template.width) : map,
    inverse: options.mirror ? mirroredInverse(inverse, template.width) : inverse,
    width: template.width,
    height: template.height,
    rms: mapError(map, source, target),
  };
}

/**
 * The centre crop used when no landmarks are known: the largest box of the template's proportions, or `fraction` of
 * it, about the middle of the image. Honest only for images that are face crops already.
 */
export function centreCrop(
  image: { width: number; height: number },
  template: { width: number; height: number },
  fraction = 1,
): Alignment {
  if (!(image.width >= 1) || !(image.height >= 1) || !(fraction > 0 && fraction <= 1)) {
    throw new FaceNetError(
      'input',
      `centre crop: needs an image and a fraction in (0, 1], got ${image.width} x ${image.height} and ${fraction}. Give a decoded image.`,
    );
  }
  const scale = Math.min(image.width / template.width, image.height / template.height) * fraction;
  const width = template.width * scale;
  const height = template.height * scale;
  return boxAlignment((image.width - width) / 2, (image.height - height) / 2, width, height, template);
}

/** Scales a box to the output size without rotation. Its edges are counted as boxes are: the first pixel covers 0 .. 1. */
export function boxAlignment(
  x: number,
  y: number,
  width: number,
  height: number,
  output: { width: number; height: number },
): Alignment {
  const sx = width / output.width;
  const sy = height / output.height;
  // Edges lie half a pixel before the centres, on both sides.
  const inverse: AffineMap = [sx, 0, x + 0.5 * sx - 0.5, 0, sy, y + 0.5 * sy - 0.5];
  return { map: invertMap(inverse), inverse, width: output.width, height: output.height, rms: 0 };
}

/** The corners of the crop in the source image, clockwise from top left (corner pixel centres). */
export function cropCorners({ inverse, width, height }: Alignment): Point[] {
  const corners: Point[] = [
    [0, 0],
    [width - 1, 0],
    [width - 1, height - 1],
    [0, height - 1],
  ];
  return corners.map((corner) => applyMap(inverse, corner));
}

function mirroredMap([a, b, tx, c, d, ty]: AffineMap, width: number): AffineMap {
  return [-a, -b, width - 1 - tx, c, d, ty];
}

function matched(landmarks: Landmarks, template: AlignmentTemplate): [readonly Point[], readonly Point[]] {
  const { points, fivePoints, name } = template;
  if (points.length === 2) return [landmarks.eyes, points];
  if (points.length === 3) {
    if (landmarks.outerEyesAndNose) return [landmarks.outerEyesAndNose, points];
    if (landmarks.five && fivePoints) return [landmarks.five, fivePoints];
    throw new FaceNetError(
      'input',
      `landmarks: template ${name} needs outer eye corners and nose base (68 points, or dlib's 5)${fivePoints ? ' or five points' : ''}, got eyes only. Give more points.`,
    );
  }
  if (points.length === 5) {
    if (landmarks.five) return [landmarks.five, points];
    throw new FaceNetError(
      'input',
      `landmarks: template ${name} needs five points (eyes, nose tip, mouth corners), got eyes only. Give five or 68 points.`,
    );
  }
  throw new FaceNetError(
    'input',
    `alignment template ${name}: must have 2, 3 or 5 points, got ${points.length}. Use alignmentTemplate() or give one of these.`,
  );
}

function checkInside(points: readonly Point[], { width, height }: { width: number; height: number }): void {
  let sx = 0;
  let sy = 0;
  points.forEach(([x, y], index) => {
    if (x < -0.25 * width || x > 1.25 * width || y < -0.25 * height || y > 1.25 * height) {
      throw new FaceNetError(
        'input',
        `landmarks: must lie in the image of ${width} x ${height} pixels, got (${x}, ${y}) at point ${index}. Were they found in an image of another size?`,
        { index },
      );
    }
    sx += x / points.length;
    sy += y / points.length;
  });
  if (sx < -0.5 || sx > width - 0.5 || sy < -0.5 || sy > height - 0.5) {
    throw new FaceNetError(
      'input',
      `landmarks: the face must lie in the image of ${width} x ${height} pixels, got its middle at (${sx}, ${sy}). Were they found in an image of another size?`,
    );
  }
}
