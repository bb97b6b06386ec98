import { FaceNetError } from '../errors.ts';
import type { Point } from './affine-map.ts';

/** Where the points of a face lie in a network's input image, in pixels (integer = pixel centre). */
export interface AlignmentTemplate {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /**
   * Two points: the eyes, met exactly by a similarity. Three: outer eye corners and nose base, met exactly by an affine
   * map. Five: eyes, nose tip, mouth corners, met by the least-squares similarity.
   */
  readonly points: readonly Point[];
  /** Five points used where a template of three is given a face of which only five points are known. */
  readonly fivePoints?: readonly Point[];
  /** Of a template that is a detector's box and has no points (`marginUnits`). */
  readonly margin?: number;
}

export type AlignmentTemplateName = 'arcface' | 'dlib' | 'openface';

interface BaseTemplate {
  readonly size: number;
  readonly points: readonly Point[];
  readonly fivePoints?: readonly Point[];
}

const bases: Readonly<Record<AlignmentTemplateName, BaseTemplate>> = {
  // InsightFace's five points for 112 x 112 (ArcFace, CosFace, SphereFace crops).
  arcface: {
    size: 112,
    points: [
      [38.2946, 51.6963],
      [73.5318, 51.5014],
      [56.0252, 71.7366],
      [41.5493, 92.3655],
      [70.7299, 92.2041],
    ],
  },
  // Eye centres of dlib's face chips with padding 0.25 (its mean 5-point face), at 150 x 150.
  dlib: {
    size: 150,
    points: [
      [47.7, 47.1],
      [100.3, 47.1],
    ],
  },
  // OpenFace's OUTER_EYES_AND_NOSE: the mean 68-point face scaled to fill the 96 x 96 image exactly; the five points
  // are the same mean face reduced (eye means, 30, 48, 54).
  openface: {
    size: 96,
    points: [
      [18.639, 16.25],
      [75.73, 15.184],
      [47.515, 49.386],
    ],
    fivePoints: [
      [26.628, 16.059],
      [67.79, 15.264],
      [47.241, 40.522],
      [29.483, 61.618],
      [66.76, 60.878],
    ],
  },
};

/**
 * A named template, scaled from its own size (arcface 112, dlib 150, openface 96) to `size`. Coordinates are
 * multiplied by size / own size, as the sources do. Throws 'input' for an unknown name or size.
 */
export function alignmentTemplate(name: AlignmentTemplateName, size?: number): AlignmentTemplate {
  if (!Object.hasOwn(bases, name)) {
    throw new FaceNetError(
      'input',
      `alignment template: must be ${Object.keys(bases).join(', ')}, got ${String(name)}. Name one of these or give your own points.`,
    );
  }
  const base = bases[name];
  const side = size ?? base.size;
  if (!Number.isInteger(side) || side < 8 || side > 4096) {
    throw new FaceNetError(
      'input',
      `alignment template ${name}: size must be a whole number of pixels from 8 to 4096, got ${side}. Give the network's input size.`,
    );
  }
  const scaled = (points: readonly Point[]): Point[] =>
    points.map(([x, y]) => [x * (side / base.size), y * (side / base.size)]);
  return {
    name,
    width: side,
    height: side,
    points: scaled(base.points),
    ...(base.fivePoints && { fivePoints: scaled(base.fivePoints) }),
  };
}
