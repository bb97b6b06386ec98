import { FaceNetError } from '../errors.ts';

/**
 * A point in pixels. **Pixel-centre convention** of everything in this folder: the integer coordinate (x, y)
 * is the CENTRE of the pixel in column x and row y (as OpenCV and dlib count), so an image `width` wide
 * covers -0.5 .. width - 0.5. x runs to the right, y down.
 */
export type Point = readonly [x: number, y: number];

/** x' = a x + b y + tx, y' = c x + d y + ty, as the six numbers [a, b, tx, c, d, ty]. */
export type AffineMap = readonly [a: number, b: number, tx: number, c: number, d: number, ty: number];

/** Landmarks closer together than this many pixels are no face; it also catches coordinates given as fractions of the image. */
export const smallestEyeDistance = 1;

/** Checks that `points` is a list of `counts` finite pairs and returns plain copies. Throws 'input'. */
export function checkedPoints(points: unknown, counts: readonly number[], subject = 'landmarks'): Point[] {
  if (!Array.isArray(points)) {
    throw new FaceNetError(
      'input',
      `${subject}: must be a list of [x, y] pairs, got ${typeof points}. Give pixels of the image.`,
    );
  }
  if (!counts.includes(points.length)) {
    throw new FaceNetError(
      'input',
      `${subject}: must be ${counts.join(' or ')} points, got ${points.length}. Convert other point orders with landmarksFrom().`,
    );
  }
  return points.map((point: unknown, index) => {
    const pair = point as ArrayLike<unknown> | null;
    const x = pair?.[0];
    const y = pair?.[1];
    if (
      typeof pair !== 'object' ||
      pair?.length !== 2 ||
      typeof x !== 'number' ||
      typeof y !== 'number' ||
      !Number.isFinite(x) ||
      !Number.isFinite(y)
    ) {
      throw new FaceNetError(
        'input',
        `${subject}: point ${index} must be two finite numbers, got [${String(x)}, ${String(y)}]. Give [x, y] in pixels.`,
        { index },
      );
    }
    return [x, y] as const;
  });
}

export function applyMap(map: AffineMap, [x, y]: Point): Point {
  return [map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]];
}

/** The map that does `inner` first and `outer` afterwards. */
export function composeMaps(outer: AffineMap, inner: AffineMap): AffineMap {
  const [a, b, tx, c, d, ty] = outer;
  return [
    a * inner[0] + b * inner[3],
    a * inner[1] + b * inner[4],
    a * inner[2] + b * inner[5] + tx,
    c * inner[0] + d * inner[3],
    c * inner[1] + d * inner[4],
    c * inner[2] + d * inner[5] + ty,
  ];
}

/** The inverse map. Throws 'input' when the map flattens the plane or leaves the range of numbers. */
export function invertMap(map: AffineMap): AffineMap {
  const [a, b, tx, c, d, ty] = map;
  const determinant = a * d - b * c;
  const scale = Math.max(Math.abs(a * d), Math.abs(b * c));
  if (!(Math.abs(determinant) > 1e-12 * scale) || !Number.isFinite(1 / determinant)) {
    throw new FaceNetError(
      'input',
      `affine map: must be invertible, got determinant ${determinant}. The points it was made from lie on one line or in one place.`,
    );
  }
  const [ia, ib, ic, id] = [d / determinant, -b / determinant, -c / determinant, a / determinant];
  return [ia, ib, -(ia * tx + ib * ty), ic, id, -(ic * tx + id * ty)];
}

/**
 * The inverse map (output pixel -> source pixel) of the mirrored crop: output column x shows what column
 * width - 1 - x shows without it. A second call gives the map back.
 */
export function mirroredInverse(inverse: AffineMap, width: number): AffineMap {
  const [a, b, tx, c, d, ty] = inverse;
  return [-a, b, tx + a * (width - 1), -c, d, ty + c * (width - 1)];
}

/** Root mean square distance, in target pixels, between the mapped source points and the target points. */
export function mapError(map: AffineMap, source: readonly Point[], target: readonly Point[]): number {
  let sum = 0;
  for (let i = 0; i < source.length; i++) {
    const [x, y] = applyMap(map, source[i]!);
    sum += (x - target[i]![0]) ** 2 + (y - target[i]![1]) ** 2;
  }
  return Math.sqrt(sum / source.length);
}

/**
 * The similarity (rotation, one scale, shift; never a reflection) that maps `source` to `target` with the
 * least sum of squared distances: Umeyama 1991 with the reflection left out, in the plane simply a division of
 * complex numbers. Two points are met exactly. At least two points; throws 'input' when the source points fall together.
 */
export function similarityFromPoints(source: readonly Point[], target: readonly Point[]): AffineMap {
  const n = source.length;
  if (n < 2 || target.length !== n) {
    throw new FaceNetError(
      'input',
      `similarity: needs two or more points and as many targets, got ${n} and ${target.length}. Give matching lists.`,
    );
  }
  const [sx, sy] = centre(source);
  const [ux, uy] = centre(target);
  let spread = 0;
  let real = 0;
  let imaginary = 0;
  for (let i = 0; i < n; i++) {
    const x = source[i]![0] - sx;
    const y = source[i]![1] - sy;
    const u = target[i]![0] - ux;
    const v = target[i]![1] - uy;
    spread += x * x + y * y;
    real += x * u + y * v;
    imaginary += x * v - y * u;
  }
  // Two points one pixel apart have a spread of 1/2.
  if (!(spread >= 0.5 * smallestEyeDistance ** 2) || !Number.isFinite(spread)) {
    throw new FaceNetError(
      'input',
      `landmarks: points must lie at least ${smallestEyeDistance} pixel apart, got a spread of ${Math.sqrt(spread).toPrecision(3)} pixels. Give pixels of the image, not fractions of its size.`,
    );
  }
  const a = real / spread;
  const c = imaginary / spread;
  return [a, -c, ux - (a * sx - c * sy), c, a, uy - (c * sx + a * sy)];
}

/** The similarity that puts the two eyes exactly on their targets (left in the picture first). */
export function similarityFromEyes(eyes: readonly [Point, Point], target: readonly [Point, Point]): AffineMap {
  return similarityFromPoints(eyes, target);
}

/**
 * The affine map (six unknowns) that meets three points exactly, as OpenFace aligns. Throws 'input' when the
 * three source points lie on one line (sine of the angle below 1e-3) or in one place.
 */
export function affineFromPoints(
  source: readonly [Point, Point, Point],
  target: readonly [Point, Point, Point],
): AffineMap {
  const [[x0, y0], [x1, y1], [x2, y2]] = source;
  const [ax, ay, bx, by] = [x1 - x0, y1 - y0, x2 - x0, y2 - y0];
  const determinant = ax * by - ay * bx;
  const lengths = Math.hypot(ax, ay) * Math.hypot(bx, by);
  if (
    !(
      Math.hypot(ax, ay) >= smallestEyeDistance &&
      Math.hypot(bx, by) >= smallestEyeDistance &&
      Math.abs(determinant) > 1e-3 * lengths
    )
  ) {
    throw new FaceNetError(
      'input',
      `landmarks: three points must not lie on one line, got [${source.map(String).join('], [')}]. Give two outer eye corners and the nose base in pixels.`,
    );
  }
  const [[u0, v0], [u1, v1], [u2, v2]] = target;
  const a = ((u1 - u0) * by - (u2 - u0) * ay) / determinant;
  const b = ((u2 - u0) * ax - (u1 - u0) * bx) / determinant;
  const c = ((v1 - v0) * by - (v2 - v0) * ay) / determinant;
  const d = ((v2 - v0) * ax - (v1 - v0) * bx) / determinant;
  return [a, b, u0 - a * x0 - b * y0, c, d, v0 - c * x0 - d * y0];
}

function centre(points: readonly Point[]): Point {
  let x = 0;
  let y = 0;
  for (const point of points) {
    x += point[0];
    y += point[1];
  }
  return [x / points.length, y / points.length];
}
