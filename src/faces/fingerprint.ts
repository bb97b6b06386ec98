/**
 * What embeddings are of: a text that is equal where two vectors may be compared. It follows from the values of the weights and from how pictures
 * become input, not from the file they came in: calibrating, renaming or storing a model anew leaves it as it is.
 *
 *     network=dlib-resnet dimensions=128 input=150x150,rgb pixels=(x-122.782,117.001,104.298)*0.00392 crop=dlib:47.7,47.1,100.3,47.1 weights=5e884898da28047151d0e56f
 *
 * The metric is squared L2 for all of them. Files of versions before hold other texts (the model's name and the hash of its file).
 */

/** The parts of a model that its embeddings depend on. */
export interface FingerprintParts {
  readonly network: string;
  readonly variant?: Readonly<Record<string, unknown>>;
  readonly dimensions: number;
  readonly input: { readonly width: number; readonly height: number; readonly colour: string };
  readonly pixels:
    | { readonly scale: number; readonly mean: readonly number[] }
    | { readonly standardisation: 'per-image' };
  readonly template: {
    readonly name: string;
    readonly points: readonly (readonly number[])[];
    readonly margin?: number;
  };
  /** SHA-256 of names, shapes and float32 values of all weights, in hexadecimal. */
  readonly weights: string;
  /** Mean of a face and its mirror. */
  readonly mirrored: boolean;
  /** Steps of a training that still runs: its weights change with every step. */
  readonly step?: number;
}

/** Digits of the hash of the weights that are kept: 96 bits. */
const WEIGHT_DIGITS = 24;

/** The text. Fields are parted by blanks, and no value holds one. */
export function fingerprintOf(model: FingerprintParts): string {
  const { network, variant = {}, dimensions, input, pixels, template, weights, mirrored, step } = model;
  const options = Object.entries(variant)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}:${String(value)}`);
  const fields: [string, string][] = [
    ['network', [network, ...options].join(',')],
    ['dimensions', String(dimensions)],
    ['input', `${input.width}x${input.height},${input.colour}`],
    ['pixels', 'scale' in pixels ? `(x-${pixels.mean.join(',')})*${pixels.scale}` : pixels.standardisation],
    [
      'crop',
      `${template.name}:${[...template.points.flat(), ...(template.margin === undefined ? [] : [`margin${template.margin}`])].join(',')}`,
    ],
    ['weights', weights.slice(0, WEIGHT_DIGITS)],
    ...(mirrored ? [['mirrored', 'yes'] as [string, string]] : []),
    ...(step === undefined ? [] : [['step', String(step)] as [string, string]]),
  ];
  return fields.map(([name, value]) => `${name}=${value.replaceAll(/\s/g, '_')}`).join(' ');
}

/** How two fingerprints differ, for people: every field that does, with both values ("input must be 150x150,rgb, got 96x96,rgb"). */
export function difference(wanted: string, found: string): string {
  const [ours, theirs] = [fieldsOf(wanted), fieldsOf(found)];
  if (ours.size < 2 || theirs.size < 2) return `fingerprint must be ${wanted}, got ${found}`;
  const names = [...new Set([...ours.keys(), ...theirs.keys()])].filter((name) => ours.get(name) !== theirs.get(name));
  return names
    .map((name) => `${name} must be ${ours.get(name) ?? 'none'}, got ${theirs.get(name) ?? 'none'}`)
    .join('; ');
}

function fieldsOf(text: string): Map<string, string> {
  const fields = text.split(' ').map((field) => [field, field.indexOf('=')] as const);
  return new Map(fields.filter(([, at]) => at > 0).map(([field, at]) => [field.slice(0, at), field.slice(at + 1)]));
}
