import type { AffineMap } from '../faces/affine-map.ts';
import type { Philox } from '../graph/philox.ts';
import { augmentControls } from '../ops/augment.ts';

/** How far training pictures are changed. Each number is a largest change; 0 or false switches it off. */
export interface Augmentation {
  /** Mirrors half of the pictures. */
  readonly flip?: boolean;
  /** Share of the crop's side. */
  readonly shift?: number;
  /** Size changes by a factor of 1 / (1 + scale) to 1 + scale. */
  readonly scale?: number;
  /** Degrees. */
  readonly rotation?: number;
  /** Of the full range of bytes. */
  readonly brightness?: number;
  /** Contrast changes by a factor of 1 / (1 + contrast) to 1 + contrast. */
  readonly contrast?: number;
  /** Offset of each channel on its own, of the full range. */
  readonly colour?: number;
  /** Shares of pictures that become grey, are blurred, lose a rectangle. */
  readonly grey?: number;
  readonly blur?: number;
  readonly erase?: number;
}

/** What was found to matter most on small sets: without it accuracy was 11 points lower (docs/training.md). */
export const DEFAULT_AUGMENTATION: Required<Augmentation> = {
  flip: true,
  shift: 0.03,
  scale: 0.1,
  rotation: 7.5,
  brightness: 0.125,
  contrast: 0.35,
  colour: 0.04,
  grey: 0.15,
  blur: 0.2,
  erase: 0.3,
};

const NONE: Required<Augmentation> = {
  flip: false,
  shift: 0,
  scale: 0,
  rotation: 0,
  brightness: 0,
  contrast: 0,
  colour: 0,
  grey: 0,
  blur: 0,
  erase: 0,
};

/** The whole set of numbers for `options`; false: nothing is changed. */
export function completeAugmentation(options: Augmentation | false | undefined): Required<Augmentation> {
  return options === false ? NONE : { ...DEFAULT_AUGMENTATION, ...options };
}

/**
 * Sine of a small angle in radians (|angle| <= pi / 4) by its Taylor polynomial: the same bits in every runtime, error below 1e-9.
 */
export function sine(angle: number): number {
  const square = angle * angle;
  return angle * (1 - (square / 6) * (1 - (square / 20) * (1 - (square / 42) * (1 - square / 72))));
}

/** Cosine for the same range. */
export function cosine(angle: number): number {
  const square = angle * angle;
  return 1 - (square / 2) * (1 - (square / 12) * (1 - (square / 30) * (1 - (square / 56) * (1 - square / 90))));
}

/** Uniform in (-1, 1). */
const signed = (random: Philox) => 2 * random.uniform() - 1;

/** A factor between 1 / (1 + range) and 1 + range. */
const factor = (random: Philox, range: number) => {
  const value = signed(random);
  return value >= 0 ? 1 + range * value : 1 / (1 - range * value);
};

/** The map from output to source pixel with mirror, rotation, scale and shift about the middle of the crop put before it. */
export function changedMap(
  inverse: AffineMap,
  width: number,
  height: number,
  options: Required<Augmentation>,
  random: Philox,
): AffineMap {
  const mirrored = options.flip && random.uniform() < 0.5 ? -1 : 1;
  const size = factor(random, options.scale);
  const angle = (signed(random) * options.rotation * Math.PI) / 180;
  const [c, s] = [cosine(angle) * size, sine(angle) * size];
  const [dx, dy] = [signed(random) * options.shift * width, signed(random) * options.shift * height];
  const [mx, my] = [(width - 1) / 2, (height - 1) / 2];
  // Output (x, y) first goes to (a x + b y + tx, ...), then through the alignment.
  const [a, b, d, e] = [c * mirrored, -s, s * mirrored, c];
  const [tx, ty] = [mx + dx - a * mx - b * my, my + dy - d * mx - e * my];
  const [p, q, r, t, u, v] = inverse;
  return [p * a + q * d, p * b + q * e, p * tx + q * ty + r, t * a + u * d, t * b + u * e, t * tx + u * ty + v];
}

/**
 * A row of controls for the operator augment. `scale` and `shift` are the model's: network input = byte * scale + shift, so that
 * brightness, contrast and colour mean shares of the range of bytes whatever the network wants.
 */
export function changedColours(
  width: number,
  height: number,
  scale: readonly number[],
  shift: readonly number[],
  options: Required<Augmentation>,
  random: Philox,
): number[] {
  const row = new Array<number>(augmentControls.columns).fill(0);
  const contrast = factor(random, options.contrast);
  const brightness = signed(random) * options.brightness * 255;
  const grey = random.uniform() < options.grey;
  const weights = [0.299, 0.587, 0.114];
  for (let out = 0; out < 3; out++) {
    const offset = (1 - contrast) * 127.5 + brightness + signed(random) * options.colour * 255;
    // In bytes: out = contrast * mix(in) + offset; the network's scale and shift are undone before and done again after.
    let constant = offset;
    for (let input = 0; input < 3; input++) {
      const share = contrast * (grey ? (weights[input] as number) : input === out ? 1 : 0);
      row[3 * out + input] = (share * (scale[out] as number)) / (scale[input] as number);
      constant -= (share * (shift[input] as number)) / (scale[input] as number);
    }
    row[augmentControls.offset + out] = constant * (scale[out] as number) + (shift[out] as number);
    row[augmentControls.fill + out] = random.uniform() * 255 * (scale[out] as number) + (shift[out] as number);
  }
  row[augmentControls.blur] = random.uniform() < options.blur ? 1 : 0;
  const erased = random.uniform() < options.erase;
  const [w, h] = [0.15 + 0.25 * random.uniform(), 0.15 + 0.25 * random.uniform()];
  const [left, top] = [random.uniform() * (1 - w), random.uniform() * (1 - h)];
  if (erased) {
    [left * width, top * height, (left + w) * width, (top + h) * height].forEach((edge, index) => {
      row[augmentControls.rectangle + index] = Math.floor(edge);
    });
  }
  return row;
}
