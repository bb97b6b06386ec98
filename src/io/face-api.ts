/**
 * Weights as TensorFlow.js and face-api.js keep them: a manifest (JSON: groups of { paths, weights: name, shape, dtype, quantization }) and
 * binary files that hold the weights one after another in the manifest's order. And the conversion of dlib's face recognition network,
 * which comes in that form, to one model file of ours.
 */
import { FaceNetError } from '../errors.ts';
import { type StoredOperatingPoint, writeModelFile } from './model-file.ts';
import { type Quantization, quoteName, type Tensor, viewTensor } from './safetensors.ts';
import { sha256 } from './sha256.ts';

/** Largest manifest that is read, in characters: 10 MB; real ones have some 20 kB. */
export const MAX_MANIFEST_CHARACTERS = 10_000_000;

/** Weights of a manifest. Quantised to uint8 they stay U8, exactly as stored. */
export interface ManifestWeights {
  readonly tensors: Map<string, Tensor>;
  /** Scale and min of the tensors that are U8. */
  readonly quantization: Map<string, Quantization>;
}

/** How one weight lies in the file. */
interface Storage {
  readonly bytes: number;
  read(shape: readonly number[], bytes: Uint8Array, start: number, count: number): Tensor;
}

/**
 * Reads a manifest and its binary files. float32 gives F32, float16-quantised F16, uint8-quantised floats U8 with scale and min;
 * uint8- and uint16-quantised int32 and uint16-quantised floats are decoded (I32, F32), as no storage type of ours holds them.
 * @param manifest the JSON text. @param files the binary files by the names the manifest gives in `paths`.
 * @throws FaceNetError 'model' for anything that is no such manifest, and where bytes are missing or left over.
 */
export function readManifest(
  manifest: string,
  files: ReadonlyMap<string, Uint8Array>,
  source = 'manifest',
): ManifestWeights {
  const refuse = refusal(source);
  const tensors = new Map<string, Tensor>();
  const quantization = new Map<string, Quantization>();
  for (const { paths, weights } of groupsOf(manifest, source)) {
    const parts = paths.map((path) => {
      const part = typeof path === 'string' ? files.get(path) : undefined;
      if (part === undefined)
        throw refuse(
          'the files of a manifest are given',
          `none for ${typeof path === 'string' ? quoteName(path) : typeof path}`,
        );
      return part;
    });
    const bytes = joined(parts);
    let at = 0;
    for (const weight of weights) {
      const name = member(weight, 'name');
      if (typeof name !== 'string') throw refuse('a weight has a name', typeof name);
      if (tensors.has(name)) throw refuse('names are unique', quoteName(name));
      const shape = shapeOf(member(weight, 'shape'));
      if (shape === undefined)
        throw refuse('a shape is a list of at most 32 sizes below 2^53 in all', `another for ${quoteName(name)}`);
      const count = shape.reduce((product, size) => product * size, 1);
      const rule = member(weight, 'quantization');
      const scaling = rule === undefined ? undefined : scalingOf(rule);
      if (rule !== undefined && scaling === undefined)
        throw refuse('a quantization has dtype, finite scale and min', `another for ${quoteName(name)}`);
      const storage = storageOf(member(weight, 'dtype'), scaling);
      if (storage === undefined)
        throw refuse('a weight is float32 or int32, plain, uint8, uint16 or float16', `another for ${quoteName(name)}`);
      const length = count * storage.bytes;
      if (!(at + length <= bytes.length))
        throw refuse(`bytes for ${quoteName(name)}`, `${bytes.length - at} of ${length}`);
      const tensor = storage.read(shape, bytes, at, count);
      tensors.set(name, tensor);
      if (tensor.dtype === 'U8' && scaling !== undefined)
        quantization.set(name, { scale: scaling.scale, min: scaling.min });
      at += length;
    }
    if (at !== bytes.length) throw refuse('every byte belongs to a weight', `${bytes.length - at} more`);
  }
  return { tensors, quantization };
}

const refusal =
  (source: string) =>
  (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Get the files again.`);

/** Names of the binary files that a manifest wants, in its order. @throws FaceNetError 'model' for text that is no manifest. */
export function manifestPaths(manifest: string, source = 'manifest'): string[] {
  return groupsOf(manifest, source).flatMap(({ paths }) =>
    paths.map((path) => {
      if (typeof path !== 'string') throw refusal(source)('paths are texts', typeof path);
      return path;
    }),
  );
}

function groupsOf(manifest: string, source: string): { paths: unknown[]; weights: unknown[] }[] {
  const refuse = refusal(source);
  if (manifest.length > MAX_MANIFEST_CHARACTERS)
    throw refuse(`at most ${MAX_MANIFEST_CHARACTERS} characters`, `${manifest.length}`);
  let groups: unknown;
  try {
    groups = JSON.parse(manifest);
  } catch (cause) {
    throw new FaceNetError('model', `${source}: a manifest is JSON, got other text. Get the files again.`, { cause });
  }
  if (!Array.isArray(groups)) throw refuse('a manifest is a list of groups', typeof groups);
  return (groups as unknown[]).map((group) => {
    const paths = member(group, 'paths');
    const weights = member(group, 'weights');
    if (!Array.isArray(paths) || !Array.isArray(weights)) throw refuse('a group has paths and weights', 'less');
    return { paths: paths as unknown[], weights: weights as unknown[] };
  });
}

/** An own property of an object, else undefined. */
function member(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A copy of a list of sizes whose product in elements stays below 2^50, else undefined. */
function shapeOf(value: unknown): number[] | undefined {
  if (!Array.isArray(value) || value.length > 32) return undefined;
  let product = 1;
  for (const size of value as unknown[]) {
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined;
    product *= Math.max(size, 1);
    if (product > 2 ** 50) return undefined;
  }
  return [...(value as number[])];
}

interface Scaling extends Quantization {
  readonly dtype: 'uint8' | 'uint16' | 'float16';
}

function scalingOf(value: unknown): Scaling | undefined {
  const dtype = member(value, 'dtype');
  const scale = member(value, 'scale') ?? (dtype === 'float16' ? 1 : undefined);
  const min = member(value, 'min') ?? (dtype === 'float16' ? 0 : undefined);
  if (dtype !== 'uint8' && dtype !== 'uint16' && dtype !== 'float16') return undefined;
  if (typeof scale !== 'number' || typeof min !== 'number' || !Number.isFinite(scale) || !Number.isFinite(min))
    return undefined;
  return { dtype, scale, min };
}

function storageOf(dtype: unknown, scaling: Scaling | undefined): Storage | undefined {
  if (dtype !== 'float32' && dtype !== 'int32') return undefined;
  const float = dtype === 'float32';
  if (scaling === undefined) {
    return {
      bytes: 4,
      read: (shape, bytes, start, count) => viewTensor(float ? 'F32' : 'I32', shape, bytes, start, count * 4),
    };
  }
  if (scaling.dtype === 'float16') {
    return float
      ? { bytes: 2, read: (shape, bytes, start, count) => viewTensor('F16', shape, bytes, start, count * 2) }
      : undefined;
  }
  if (float && scaling.dtype === 'uint8') {
    return { bytes: 1, read: (shape, bytes, start, count) => viewTensor('U8', shape, bytes, start, count) };
  }
  const size = scaling.dtype === 'uint8' ? 1 : 2;
  const { scale, min } = scaling;
  return {
    bytes: size,
    read(shape, bytes, start, count) {
      const stored =
        size === 1
          ? bytes.subarray(start, start + count)
          : (viewTensor('F16', shape, bytes, start, count * 2).data as Uint16Array);
      return float
        ? { dtype: 'F32', shape, data: Float32Array.from(stored, (x) => x * scale + min) }
        : { dtype: 'I32', shape, data: Int32Array.from(stored, (x) => Math.round(x * scale + min)) };
    },
  };
}

/** SHA-256 of face_recognition_model.bin and of its manifest in @vladmandic/face-api 1.7.15: the files whose provenance is stated below. */
export const DLIB_RESNET_SHA256 = {
  weights: 'b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589',
  manifest: 'cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b',
} as const;

/** Whether these are the tensors of dlib's face recognition ResNet. */
export const isDlibResNet = (tensors: ReadonlyMap<string, Tensor>): boolean =>
  tensors.has('conv32_down/conv/filters') && tensors.has('fc');

/** What that network wants of a picture, and how its crop lies. */
const dlibContract = {
  network: 'dlib-resnet',
  dimensions: 128,
  input: { width: 150, height: 150, colour: 'rgb' },
  // FaceRecognitionNet of that package: (x - mean) / 255. dlib's own code divides by 256.
  pixels: { scale: 1 / 255, mean: [122.782, 117.001, 104.298] },
  // Eye centres of dlib's face chips with padding 0.25.
  template: {
    name: 'dlib',
    points: [
      [47.7, 47.1],
      [100.3, 47.1],
    ],
  },
} as const;

const dlibProvenance = {
  licence:
    'Public domain (CC0) by its author, Davis King (dlib-models); quantised form by way of @vladmandic/face-api, MIT',
  trainedOn:
    'About 3 million faces of 7,485 people: FaceScrub, VGG-Face and images from the web, as dlib-models states',
  source:
    '@vladmandic/face-api 1.7.15, model/face_recognition_model.bin; originally dlib_face_recognition_resnet_model_v1',
  sourceSha256: DLIB_RESNET_SHA256.weights,
} as const;

/** The card of dlib's network, given the SHA-256 of its files; where the weights come from is said of those of @vladmandic/face-api 1.7.15 alone. */
export function describeDlibResNet(hashes: readonly string[]): typeof dlibContract & Partial<typeof dlibProvenance> {
  return { ...dlibContract, ...(hashes.includes(DLIB_RESNET_SHA256.weights) && dlibProvenance) };
}

/**
 * dlib's face recognition ResNet (128-d, input 150 x 150) as one model file of ours: 117 tensors U8 as stored, with scale and min, names and
 * layout (convolutions [height, width, in, out], fc [in, out]) as in the original.
 * @param files content of face_recognition_model-weights_manifest.json and of face_recognition_model.bin.
 * @param library name and version of the converting program, for the metadata. @param operatingPoints decision lines fitted for it.
 * @throws FaceNetError 'model' where the files are others than those of @vladmandic/face-api 1.7.15.
 */
export async function convertDlibResNet(
  files: { readonly manifest: Uint8Array; readonly weights: Uint8Array },
  library: string,
  operatingPoints: readonly StoredOperatingPoint[] = [],
): Promise<Uint8Array> {
  for (const part of ['manifest', 'weights'] as const) {
    const found = await sha256(files[part]);
    if (found !== DLIB_RESNET_SHA256[part]) {
      throw new FaceNetError(
        'model',
        `dlib-resnet ${part}: SHA-256 ${DLIB_RESNET_SHA256[part]}, got ${found}. Take the files of @vladmandic/face-api 1.7.15.`,
      );
    }
  }
  const name = 'face_recognition_model.bin';
  const { tensors, quantization } = readManifest(
    new TextDecoder().decode(files.manifest),
    new Map([[name, files.weights]]),
    'dlib-resnet',
  );
  return writeModelFile({
    metadata: { ...dlibContract, ...dlibProvenance, operatingPoints, library },
    tensors,
    quantization,
  });
}
