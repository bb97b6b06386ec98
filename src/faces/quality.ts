/**
 * What a face in a photo is worth: numbers that say why an embedding may be bad, from pixels and points alone. No number decides anything here;
 * docs/detection.md says which limits to skip, warn and choose by.
 */
import type { AffineMap, Point } from './affine-map.ts';
import { alignFace } from './alignment.ts';
import { alignmentTemplate } from './alignment-templates.ts';
import { landmarksFrom } from './landmarks.ts';
import { checkPixels, type Pixels } from './preprocessing.ts';

/** How far a head is turned, in degrees, as far as points tell: an estimate; raised mouth corners (a smile) make pitch some 15 too low. */
export interface Pose {
  /** In the picture: positive when the eye at the right lies lower. -180..180. */
  readonly roll: number;
  /** About the vertical: positive when the face looks to the right of the picture. -90..90. Undefined of two points. */
  readonly yaw: number | undefined;
  /** About the line through the ears: positive when the face looks up. -90..90. Undefined of two points. */
  readonly pitch: number | undefined;
}

/** Numbers of one face. */
export interface FaceQuality {
  /** Distance of the eyes in pixels of the photo: what the network's input was made of. */
  readonly eyeDistance: number;
  /**
   * Variance of the Laplacian of the brightness (0..255) over the aligned face at 64 x 64 pixels (Pech-Pacheco et al. 2000), from 0; the blur of
   * a face enlarged from few pixels counts as blur. Sharp portraits have hundreds, out-of-focus ones tens.
   */
  readonly sharpness: number;
  readonly pose: Pose;
  /** Mean brightness of the face, 0 (black) to 255 (white): 0.299 R + 0.587 G + 0.114 B. */
  readonly brightness: number;
  /** Standard deviation of the brightness over the face, 0..127.5. */
  readonly contrast: number;
  /** Fractions 0..1 of the face's pixels at the ends of the range: below 8, above 247. */
  readonly clipping: { readonly dark: number; readonly bright: number };
  /** Fraction 0..1 of the aligned face that lies in the photo; below 1 the rest is black. */
  readonly visible: number;
}

/** Side of the picture that sharpness and brightness are measured on. */
const SIDE = 64;

/** Samples a side of each measured pixel, at most: averages a larger face so that pixels of noise do not count as sharpness. */
const MOST_SAMPLES = 8;

/**
 * Size, sharpness, pose, brightness and clipping of a face.
 *
 * @param photo RGB or RGBA bytes. @param points 2, 5 or 68 points as alignment takes them, pixels of the photo.
 * @throws 'input' and 'image' as alignment does.
 */
export function faceQuality(photo: Pixels, points: unknown): FaceQuality {
  checkPixels(photo, 'quality');
  const landmarks = landmarksFrom(points);
  const template = alignmentTemplate(landmarks.five ? 'arcface' : 'dlib', SIDE);
  const { inverse } = alignFace(points, template, { image: photo });
  const { values, inside } = measuredFace(photo, inverse);
  const seen = [...inside].reduce((sum, value) => sum + value, 0);
  let sum = 0;
  let dark = 0;
  let bright = 0;
  for (let i = 0; i < values.length; i++) {
    if (!inside[i]) continue;
    const value = values[i] as number;
    sum += value;
    if (value < 8) dark++;
    if (value > 247) bright++;
  }
  const share = Math.max(1, seen);
  const brightness = sum / share;
  let spread = 0;
  for (let i = 0; i < values.length; i++) if (inside[i]) spread += ((values[i] as number) - brightness) ** 2;
  const [left, right] = landmarks.eyes;
  return {
    eyeDistance: Math.hypot(right[0] - left[0], right[1] - left[1]),
    sharpness: laplacianVariance(values, inside),
    pose: facePose(points),
    brightness,
    contrast: Math.sqrt(spread / share),
    clipping: { dark: dark / share, bright: bright / share },
    visible: seen / values.length,
  };
}

/** Brightness of the aligned face, SIDE x SIDE, and which of its pixels lie in the photo. */
function measuredFace({ data, width, height }: Pixels, [a, b, tx, c, d, ty]: AffineMap) {
  const channels = data.length / (width * height);
  const samples = Math.max(1, Math.min(MOST_SAMPLES, Math.round(Math.sqrt(Math.abs(a * d - b * c)))));
  const luma = (x: number, y: number): number => {
    const at = (y * width + x) * channels;
    return 0.299 * (data[at] as number) + 0.587 * (data[at + 1] as number) + 0.114 * (data[at + 2] as number);
  };
  const bilinear = (x: number, y: number): number => {
    const [left, top] = [Math.min(Math.floor(x), width - 1), Math.min(Math.floor(y), height - 1)];
    const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
    const above = luma(left, top) + (luma(right, top) - luma(left, top)) * (x - left);
    const below = luma(left, bottom) + (luma(right, bottom) - luma(left, bottom)) * (x - left);
    return above + (below - above) * (y - top);
  };
  const values = new Float64Array(SIDE * SIDE);
  const inside = new Uint8Array(SIDE * SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    let sum = 0;
    let count = 0;
    for (let s = 0; s < samples * samples; s++) {
      const u = (i % SIDE) + ((s % samples) + 0.5) / samples - 0.5;
      const v = Math.floor(i / SIDE) + (Math.floor(s / samples) + 0.5) / samples - 0.5;
      const x = a * u + b * v + tx;
      const y = c * u + d * v + ty;
      if (x < 0 || y < 0 || x > width - 1 || y > height - 1) continue;
      sum += bilinear(x, y);
      count++;
    }
    if (count * 2 >= samples * samples && count > 0) {
      values[i] = sum / count;
      inside[i] = 1;
    }
  }
  return { values, inside };
}

/** Variance of 4 v - (left + right + above + below) over the pixels whose neighbours all lie in the photo. */
function laplacianVariance(values: Float64Array, inside: Uint8Array): number {
  let sum = 0;
  let squares = 0;
  let count = 0;
  for (let y = 1; y < SIDE - 1; y++) {
    for (let x = 1; x < SIDE - 1; x++) {
      const i = y * SIDE + x;
      const around = [i - 1, i + 1, i - SIDE, i + SIDE];
      if (!inside[i] || around.some((at) => !inside[at])) continue;
      const value = around.reduce((rest, at) => rest - (values[at] as number), 4 * (values[i] as number));
      sum += value;
      squares += value * value;
      count++;
    }
  }
  return count === 0 ? 0 : Math.max(0, squares / count - (sum / count) ** 2);
}

/** A frontal face whose eyes are 1 apart: mouth and nose below the eyes as in the template `arcface`, the nose before their plane. */
const HEAD = { mouth: 1.155, noseDown: 0.571, noseOut: 0.5 } as const;

/**
 * Pose from points: the turn of the line through the eyes, and how far the nose's tip has moved from the middle of eyes and mouth corners, as
 * the tip of a head does whose nose stands out by half the distance of the eyes. An estimate, for choosing among shots, not for measuring.
 * @param points 2, 5 or 68. @throws 'input' as alignment does.
 */
export function facePose(points: unknown): Pose {
  const { eyes, five } = landmarksFrom(points);
  const [left, right] = eyes;
  const roll = Math.atan2(right[1] - left[1], right[0] - left[0]);
  if (!five) return { roll: degrees(roll), yaw: undefined, pitch: undefined };
  const [cosine, sine] = [Math.cos(-roll), Math.sin(-roll)];
  // Upright, from the middle of the eyes.
  const upright = ([x, y]: Point): Point => {
    const [dx, dy] = [x - (left[0] + right[0]) / 2, y - (left[1] + right[1]) / 2];
    return [dx * cosine - dy * sine, dx * sine + dy * cosine];
  };
  const nose = upright(five[2]);
  const mouth = upright([(five[3][0] + five[4][0]) / 2, (five[3][1] + five[4][1]) / 2]);
  const eyeDistance = Math.hypot(right[0] - left[0], right[1] - left[1]);
  // A turned head narrows the eyes' distance, a nodding one the way to the mouth: the larger of the two tells the size.
  const size = Math.max(eyeDistance, mouth[1] / HEAD.mouth, 1e-9);
  const middle = (mouth[0] * HEAD.noseDown) / HEAD.mouth;
  const yaw = Math.asin(clamp((nose[0] - middle) / (size * HEAD.noseOut)));
  const pitch = Math.asin(clamp((mouth[1] * (HEAD.noseDown / HEAD.mouth) - nose[1]) / (size * HEAD.noseOut)));
  return { roll: degrees(roll), yaw: degrees(yaw), pitch: degrees(pitch) };
}

const degrees = (radians: number): number => (radians * 180) / Math.PI;
const clamp = (value: number): number => Math.max(-1, Math.min(1, value));
