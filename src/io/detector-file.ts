/**
 * A detector file: safetensors whose metadata name the detector and where its weights come from. What a detector wants of pixels, and how
 * its answers are read, belong to its code.
 */
import { FaceNetError } from '../errors.ts';
import { type ModelFile, parseQuantization, weightsOf } from './model-file.ts';
import { quoteName, readSafetensors, type TensorFile, writeSafetensors } from './safetensors.ts';

/** Version of the metadata below. */
export const DETECTOR_FORMAT = 'facenet-gpu/detector@1';

/** What a detector file says about itself. */
export interface DetectorMetadata {
  /** Name of the detector: 'mtcnn', 'tiny-face'. */
  readonly network: string;
  readonly licence: string;
  readonly trainedOn: string;
  /** Where the weights come from: package or URL, and the SHA-256 of that file in hexadecimal (of several files: of their hashes, a line each). */
  readonly source: string;
  readonly sourceSha256: string;
  /** Name and version of the program that wrote the file. */
  readonly library: string;
}

/** An opened detector: its card, and its tensors as stored. */
export interface DetectorFile extends Pick<ModelFile, 'tensors' | 'quantization'> {
  readonly metadata: DetectorMetadata;
}

const FIELDS = ['network', 'licence', 'trainedOn', 'source', 'sourceSha256', 'library'] as const;

/** True where safetensors metadata are those of a detector. */
export const isDetector = ({ metadata }: Pick<TensorFile, 'metadata'>): boolean =>
  (metadata.get('format') ?? '').startsWith('facenet-gpu/detector@');

/**
 * Opens a detector file.
 * @param source what it is called in messages.
 * @throws FaceNetError 'model' for a broken file, one that is no detector of ours, or a newer version.
 */
export function readDetectorFile(bytes: Uint8Array, source = 'detector'): DetectorFile {
  return detectorOf(readSafetensors(bytes, { source }), source);
}

/** The same of a file whose tensors were read already. */
export function detectorOf({ tensors, metadata }: TensorFile, source: string): DetectorFile {
  const format = metadata.get('format');
  if (format !== DETECTOR_FORMAT) {
    throw new FaceNetError(
      'model',
      `${source}: a detector has the format ${DETECTOR_FORMAT}, got ${format === undefined ? 'none' : quoteName(format)}. Name a detector file, or convert the weights.`,
    );
  }
  const words = (key: (typeof FIELDS)[number]): string => {
    const value = metadata.get(key);
    if (value === undefined)
      throw new FaceNetError('model', `${source}: metadata '${key}' is a text, got nothing. Convert the weights anew.`);
    return value;
  };
  const sourceSha256 = words('sourceSha256');
  if (!/^[0-9a-f]{64}$/.test(sourceSha256)) {
    throw new FaceNetError(
      'model',
      `${source}: metadata 'sourceSha256' is 64 hexadecimal digits, got ${quoteName(sourceSha256)}. Convert the weights anew.`,
    );
  }
  return {
    metadata: {
      network: words('network'),
      licence: words('licence'),
      trainedOn: words('trainedOn'),
      source: words('source'),
      sourceSha256,
      library: words('library'),
    },
    tensors,
    quantization: parseQuantization(metadata, tensors, source),
  };
}

/** The bytes of a detector file. @throws FaceNetError 'input' or 'model' for what `readDetectorFile` would not accept. */
export function writeDetectorFile({ metadata, tensors, quantization }: DetectorFile): Uint8Array {
  const text = new Map<string, string>([
    ['format', DETECTOR_FORMAT],
    ...FIELDS.map((key) => [key, metadata[key]] as const),
  ]);
  if (quantization.size > 0)
    text.set('quantization', JSON.stringify([...quantization].map(([name, { scale, min }]) => [name, scale, min])));
  detectorOf({ tensors, metadata: text }, 'detector');
  return writeSafetensors(tensors, text);
}

/** All weights of a detector as finite float32, by name, in the layout they are stored in. @throws FaceNetError 'model'. */
export function detectorWeights(
  file: DetectorFile,
): Map<string, { readonly data: Float32Array; readonly shape: readonly number[] }> {
  return new Map([...file.tensors].map(([name, { shape }]) => [name, { data: weightsOf(file, name), shape }]));
}
