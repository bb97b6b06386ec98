/**
 * A model file of ours: safetensors whose metadata carry the whole contract of the network: which one, what pixels it wants and how
 * they are cropped, at which distances it decides, where it comes from.
 */
import { FaceNetError } from '../errors.ts';
import {
  encodeFloat16,
  type Quantization,
  quoteName,
  readSafetensors,
  type Tensor,
  toFloat32,
  writeSafetensors,
} from './safetensors.ts';

export { sha256 } from './sha256.ts';

/** Version of the metadata below. A reader opens all up to its own; what was written once stays readable. */
export const MODEL_FORMAT = 'facenet-gpu/model@1';

/** A decision line: a threshold on squared L2, and what it did on the pairs it was fitted on. */
export interface StoredOperatingPoint {
  /** Squared L2 distance, 0..4. */
  readonly threshold: number;
  /** False accept rate, 0..1, and its interval. */
  readonly far: number;
  readonly farInterval: readonly [low: number, high: number];
  /** Validation rate, 0..1. */
  readonly val: number;
  /** Number of pairs it was fitted on, and which. */
  readonly pairs: number;
  readonly source: string;
  /** The rate that was asked for, which `far` does not exceed; absent for a threshold chosen otherwise. */
  readonly targetFar?: number;
  /** Said when the pairs were too few for that rate. */
  readonly note?: string;
}

/** How bytes become what the first layer reads: (byte - mean) * scale, or each image to mean 0 and deviation 1. */
export type PixelRule =
  | { readonly scale: number; readonly mean: readonly [first: number, second: number, third: number] }
  | { readonly standardisation: 'per-image' };

/** What a model file says about itself. */
export interface ModelMetadata {
  /** Name of the network, such as 'dlib-resnet'. */
  readonly network: string;
  /** Options that give the network another form, such as { pools: 'released' }. */
  readonly variant?: Readonly<Record<string, string | number | boolean>>;
  /** Length of an embedding. */
  readonly dimensions: number;
  /** Size of the crop in pixels and order of its channels; means and weights are in this order. */
  readonly input: { readonly width: number; readonly height: number; readonly colour: 'rgb' | 'bgr' };
  readonly pixels: PixelRule;
  /** Where the points of a face lie in the crop, in pixels (integer = pixel centre). */
  /** `margin`: for crops that are a detector's box, not points: output pixels added around the box. */
  readonly template: {
    readonly name: string;
    readonly points: readonly (readonly [x: number, y: number])[];
    readonly margin?: number;
  };
  readonly operatingPoints: readonly StoredOperatingPoint[];
  readonly licence: string;
  readonly trainedOn: string;
  /** Where the weights come from: package or URL, and the SHA-256 of that file in hexadecimal. */
  readonly source: string;
  readonly sourceSha256: string;
  /** Name and version of the program that wrote the file. */
  readonly library: string;
  /** Tensors that no training ever saw: the source lacked them, and they are random by this seed. */
  readonly initialised?: { readonly seed: number; readonly tensors: readonly string[] };
}

/** An opened model: its contract and its tensors as stored. */
export interface ModelFile {
  readonly metadata: ModelMetadata;
  readonly tensors: Map<string, Tensor>;
  /** For tensors stored as U8 or I8: how their integers become weights. */
  readonly quantization: Map<string, Quantization>;
}

/**
 * Opens a model file.
 * @param source what it is called in messages.
 * @throws FaceNetError 'model' for a broken file, one that is no model of ours, a newer version, or metadata out of range.
 */
export function readModelFile(bytes: Uint8Array, source = 'model'): ModelFile {
  const { tensors, metadata } = readSafetensors(bytes, { source });
  const format = metadata.get('format');
  if (format === undefined) {
    throw new FaceNetError(
      'model',
      `${source}: a model file names its format, got ${tensors.size} tensors without. Convert it with 'facenet convert'.`,
    );
  }
  if (format !== MODEL_FORMAT) {
    throw new FaceNetError(
      'model',
      `${source}: format ${MODEL_FORMAT}, got ${quoteName(format)}. Use a newer version of this library.`,
    );
  }
  return {
    metadata: parseMetadata(metadata, source),
    tensors,
    quantization: parseQuantization(metadata, tensors, source),
  };
}

/** The bytes of a model file. @throws FaceNetError 'input' or 'model' for what `readModelFile` would not accept. */
export function writeModelFile({ metadata, tensors, quantization }: ModelFile): Uint8Array {
  const text = formatMetadata(metadata);
  if (quantization.size > 0) {
    text.set('quantization', JSON.stringify([...quantization].map(([name, { scale, min }]) => [name, scale, min])));
  }
  parseMetadata(text, 'model');
  parseQuantization(text, tensors, 'model');
  return writeSafetensors(tensors, text);
}

/** Metadata as the strings of a safetensors header, without `quantization`. */
export function formatMetadata(metadata: ModelMetadata): Map<string, string> {
  const {
    network,
    variant,
    dimensions,
    input,
    pixels,
    template,
    operatingPoints,
    licence,
    trainedOn,
    source,
    sourceSha256,
    library,
    initialised,
  } = metadata;
  return new Map([
    ['format', MODEL_FORMAT],
    ['network', network],
    ...(variant === undefined ? [] : [['variant', JSON.stringify(variant)] as [string, string]]),
    ['dimensions', String(dimensions)],
    ['input', JSON.stringify(input)],
    ['pixels', JSON.stringify(pixels)],
    ['template', JSON.stringify(template)],
    ['operatingPoints', JSON.stringify(operatingPoints)],
    ['licence', licence],
    ['trainedOn', trainedOn],
    ['source', source],
    ['sourceSha256', sourceSha256],
    ['library', library],
    ...(initialised === undefined ? [] : [['initialised', JSON.stringify(initialised)] as [string, string]]),
  ]);
}

/** Reads and checks each field by itself: nothing of the parsed JSON is passed on as it came. */
function parseMetadata(text: ReadonlyMap<string, string>, source: string): ModelMetadata {
  const refuse = (key: string, rule: string): FaceNetError =>
    new FaceNetError(
      'model',
      `${source}: metadata '${key}' is ${rule}, got ${quoteName(text.get(key) ?? 'nothing')}. Convert the model anew.`,
    );
  const words = (key: string): string => {
    const value = text.get(key);
    if (value === undefined) throw refuse(key, 'a text');
    return value;
  };
  const json = (key: string): unknown => {
    try {
      return JSON.parse(words(key));
    } catch {
      throw refuse(key, 'JSON');
    }
  };
  const field = (value: unknown, name: string): unknown =>
    typeof value === 'object' && value !== null && Object.hasOwn(value, name)
      ? (value as Record<string, unknown>)[name]
      : undefined;
  const whole = (value: unknown, key: string, limit: number): number => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > limit)
      throw refuse(key, `made of whole numbers from 1 to ${limit}`);
    return value;
  };
  const finite = (value: unknown, key: string, low = -1e6, high = 1e6): number => {
    if (typeof value !== 'number' || !(value >= low && value <= high))
      throw refuse(key, `made of numbers from ${low} to ${high}`);
    return value;
  };
  const string = (value: unknown, key: string): string => {
    if (typeof value !== 'string') throw refuse(key, 'made of texts');
    return value;
  };
  const list = (value: unknown, key: string): unknown[] => {
    if (!Array.isArray(value) || value.length > 1000) throw refuse(key, 'a list of at most 1000');
    return value;
  };

  const dimensions = words('dimensions');
  const input = json('input');
  const colour = field(input, 'colour');
  if (colour !== 'rgb' && colour !== 'bgr') throw refuse('input', "an object with colour 'rgb' or 'bgr'");
  const pixels = json('pixels');
  const mean = field(pixels, 'mean');
  const pixelRule = (): PixelRule => {
    if (field(pixels, 'standardisation') === 'per-image') return { standardisation: 'per-image' };
    const [first, second, third, ...more] = list(mean, 'pixels');
    if (more.length > 0) throw refuse('pixels', 'an object with a mean of three numbers');
    const scale = finite(field(pixels, 'scale'), 'pixels');
    if (scale === 0) throw refuse('pixels', 'an object with a scale other than 0');
    return { scale, mean: [finite(first, 'pixels'), finite(second, 'pixels'), finite(third, 'pixels')] };
  };
  const template = json('template');
  const margin = field(template, 'margin');
  const operatingPoints = list(json('operatingPoints'), 'operatingPoints').map((point): StoredOperatingPoint => {
    const rate = (value: unknown): number => finite(value, 'operatingPoints', 0, 1);
    const interval = list(field(point, 'farInterval'), 'operatingPoints');
    const [targetFar, note] = [field(point, 'targetFar'), field(point, 'note')];
    return {
      threshold: finite(field(point, 'threshold'), 'operatingPoints', 0, 4),
      far: rate(field(point, 'far')),
      farInterval: [rate(interval[0]), rate(interval[1])],
      val: rate(field(point, 'val')),
      pairs: whole(field(point, 'pairs'), 'operatingPoints', 2 ** 53 - 1),
      source: string(field(point, 'source'), 'operatingPoints'),
      ...(targetFar !== undefined && { targetFar: rate(targetFar) }),
      ...(note !== undefined && { note: string(note, 'operatingPoints') }),
    };
  });
  const variant = text.has('variant') ? json('variant') : undefined;
  if (variant !== undefined && (typeof variant !== 'object' || variant === null || Array.isArray(variant)))
    throw refuse('variant', 'an object');
  const options = Object.entries(variant ?? {}).map(
    ([name, value]: [string, unknown]): [string, string | number | boolean] => {
      if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
        throw refuse('variant', 'an object of texts, numbers and truth values');
      return [name, value];
    },
  );
  const initialised = text.has('initialised') ? json('initialised') : undefined;
  const seed = field(initialised, 'seed');
  if (initialised !== undefined && !(Number.isSafeInteger(seed) && (seed as number) >= 0))
    throw refuse('initialised', 'an object with a whole seed and tensors');
  const sourceSha256 = words('sourceSha256');
  if (!/^[0-9a-f]{64}$/.test(sourceSha256)) throw refuse('sourceSha256', '64 hexadecimal digits');
  return {
    network: words('network'),
    ...(variant !== undefined && { variant: Object.fromEntries(options) }),
    dimensions: whole(/^[0-9]{1,7}$/.test(dimensions) ? Number(dimensions) : undefined, 'dimensions', 65_536),
    input: {
      width: whole(field(input, 'width'), 'input', 4096),
      height: whole(field(input, 'height'), 'input', 4096),
      colour,
    },
    pixels: pixelRule(),
    template: {
      name: string(field(template, 'name'), 'template'),
      ...(margin !== undefined && { margin: finite(margin, 'template', 0, 4096) }),
      points: list(field(template, 'points'), 'template').map((point): [number, number] => {
        const [x, y, ...more] = list(point, 'template');
        if (more.length > 0) throw refuse('template', 'an object with points of two numbers');
        return [finite(x, 'template'), finite(y, 'template')];
      }),
    },
    operatingPoints,
    licence: words('licence'),
    trainedOn: words('trainedOn'),
    source: words('source'),
    sourceSha256,
    library: words('library'),
    ...(initialised !== undefined && {
      initialised: {
        seed: seed as number,
        tensors: list(field(initialised, 'tensors'), 'initialised').map((name) => string(name, 'initialised')),
      },
    }),
  };
}

/** Reads and checks metadata `quantization`: how U8 and I8 tensors become weights. @throws 'model'. */
export function parseQuantization(
  text: ReadonlyMap<string, string>,
  tensors: ReadonlyMap<string, Tensor>,
  source: string,
): Map<string, Quantization> {
  const quantization = new Map<string, Quantization>();
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Convert the model anew.`);
  const written = text.get('quantization');
  let rows: unknown = [];
  try {
    rows = written === undefined ? [] : JSON.parse(written);
  } catch {
    throw refuse("metadata 'quantization' is JSON", quoteName(written ?? ''));
  }
  if (!Array.isArray(rows)) throw refuse("metadata 'quantization' is a list", typeof rows);
  for (const row of rows as unknown[]) {
    const [name, scale, min] = Array.isArray(row) ? (row as unknown[]) : [];
    if (typeof name !== 'string' || typeof scale !== 'number' || typeof min !== 'number')
      throw refuse('quantization rows are [name, scale, min]', typeof name);
    const dtype = tensors.get(name)?.dtype;
    if ((dtype !== 'U8' && dtype !== 'I8') || quantization.has(name))
      throw refuse('a quantised tensor is U8 or I8 and named once', quoteName(name));
    quantization.set(name, { scale, min });
  }
  for (const [name, { dtype }] of tensors) {
    if ((dtype === 'U8' || dtype === 'I8') && !quantization.has(name))
      throw refuse('an integer tensor has scale and min', `none for ${quoteName(name)}`);
  }
  return quantization;
}

/**
 * One tensor as finite float32 weights, in the layout it is stored in.
 * @throws FaceNetError 'model' when it is missing, holds labels, or a value is not finite.
 */
export function weightsOf(file: Pick<ModelFile, 'tensors' | 'quantization'>, name: string): Float32Array {
  const values = valuesOf(file, name);
  requireFinite(name, values);
  return values;
}

/** As `weightsOf`, whatever the values are. */
export function valuesOf(
  { tensors, quantization }: Pick<ModelFile, 'tensors' | 'quantization'>,
  name: string,
): Float32Array {
  const tensor = tensors.get(name);
  if (tensor === undefined)
    throw new FaceNetError(
      'model',
      `weights: tensor ${quoteName(name)} in the file, got none. Use the file of this network.`,
    );
  const { scale, min } = quantization.get(name) ?? { scale: 1, min: 0 };
  return toFloat32(tensor, scale, min);
}

/**
 * Refuses weights that are not numbers. Works on bit patterns, as an infinity or NaN has all exponent bits set.
 * @throws FaceNetError 'model' naming the tensor and the place.
 */
export function requireFinite(name: string, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    if (((bits[i] as number) & 0x7f800000) === 0x7f800000) {
      throw new FaceNetError(
        'model',
        `weights: non-finite value in ${quoteName(name)}, got ${values[i]} at ${i}. Get the file again or train anew.`,
      );
    }
  }
}

/** Largest float16. */
const MOST_HALF = 65_504;

/**
 * A weight as float16, where it has more than one dimension; biases and statistics stay float32, integers as they are.
 * @throws FaceNetError 'model' for a value beyond 65,504, which float16 does not have.
 */
export function halfWeights(name: string, tensor: Tensor): Tensor {
  const { dtype, shape, data } = tensor;
  if (dtype !== 'F32' || shape.length < 2) return tensor;
  for (let i = 0; i < data.length; i++) {
    if (!(Math.abs(data[i] as number) <= MOST_HALF)) {
      throw new FaceNetError(
        'model',
        `weights: float16 holds values up to ${MOST_HALF}, got ${data[i]} in ${quoteName(name)} at ${i}. Store float32.`,
      );
    }
  }
  return { dtype: 'F16', shape, data: encodeFloat16(data) };
}

/** A tensor that a network needs. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Names listed in one message; beyond that their number. */
const MOST_NAMES = 200;

/**
 * Compares what a network needs with what a file holds, by name and shape.
 * @param options.allowMissing return the missing ones instead of refusing them. @param options.allowSurplus ignore tensors that nobody needs.
 * @param options.remedy what the error advises.
 * @returns names of missing tensors, in the order of `expected`; empty unless allowed.
 * @throws FaceNetError 'model': ONE error that lists every missing, surplus and misshapen tensor.
 */
export function matchTensors(
  expected: Iterable<ExpectedTensor>,
  tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>,
  options: {
    readonly source?: string;
    readonly allowMissing?: boolean;
    readonly allowSurplus?: boolean;
    readonly remedy?: string;
  } = {},
): string[] {
  const {
    source = 'weights',
    allowMissing = false,
    allowSurplus = false,
    remedy = 'Use the weights of this network',
  } = options;
  const missing: string[] = [];
  const misshapen: string[] = [];
  const missingNames: string[] = [];
  const wanted = new Set<string>();
  for (const { name, shape } of expected) {
    wanted.add(name);
    const found = tensors.get(name);
    if (found === undefined) {
      missing.push(`${quoteName(name)} [${shape.join(', ')}]`);
      missingNames.push(name);
    } else if (found.shape.length !== shape.length || found.shape.some((size, i) => size !== shape[i])) {
      misshapen.push(`${quoteName(name)} [${found.shape.join(', ')}] instead of [${shape.join(', ')}]`);
    }
  }
  const surplus = [...tensors.keys()].filter((name) => !wanted.has(name)).map((name) => quoteName(name));
  const complaints = [
    ...(allowMissing ? [] : describe('missing', missing)),
    ...describe('of another shape', misshapen),
    ...(allowSurplus ? [] : describe('surplus', surplus)),
  ];
  if (complaints.length > 0) {
    throw new FaceNetError(
      'model',
      `${source}: every tensor of the network and no other, got ${complaints.join('; ')}. ${remedy}.`,
    );
  }
  return missingNames;
}

function describe(what: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const more = items.length > MOST_NAMES ? [`and ${items.length - MOST_NAMES} more`] : [];
  return [`${items.length} ${what}: ${[...items.slice(0, MOST_NAMES), ...more].join(', ')}`];
}
