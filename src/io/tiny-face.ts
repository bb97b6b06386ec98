/** The tiny face detector and the 68-point network of face-api.js as one detector file of ours. */
import { FaceNetError } from '../errors.ts';
import { writeDetectorFile } from './detector-file.ts';
import { type ManifestWeights, readManifest } from './face-api.ts';
import type { Quantization, Tensor } from './safetensors.ts';
import { sha256 } from './sha256.ts';

/** The two networks: their prefix in our file, their file names in the package without what follows, and SHA-256 of both files. */
export const TINY_FACE_SOURCES = [
  {
    prefix: 'detector/',
    name: 'tiny_face_detector_model',
    weights: 'b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871',
    manifest: '5d1af4849ac48d5b985f4a9b16010c512353ddd6fcc63d50fd0bc9e9e64296e5',
  },
  {
    prefix: 'landmarks/',
    name: 'face_landmark_68_model',
    weights: '4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b',
    manifest: 'ca4886639f86e99b39fed0c155f81b63317225773bd9616716e887b0153389c9',
  },
] as const;

/**
 * Converts the files of @vladmandic/face-api 1.7.15: U8 as stored, with scale and min, names behind the prefix as in the original, depthwise
 * filters [height, width, channels] in place of [height, width, channels, 1].
 * @param files content of `<name>-weights_manifest.json` and `<name>.bin` by file name. @param library name and version of the converting program.
 * @throws FaceNetError 'model' where a file is missing or another than that package's.
 */
export async function convertTinyFace(files: ReadonlyMap<string, Uint8Array>, library: string): Promise<Uint8Array> {
  const tensors = new Map<string, Tensor>();
  const quantization = new Map<string, Quantization>();
  const hashes: string[] = [];
  for (const source of TINY_FACE_SOURCES) {
    const read = async (file: string, expected: string): Promise<Uint8Array> => {
      const bytes = files.get(file);
      const found = bytes === undefined ? 'nothing' : await sha256(bytes);
      if (bytes === undefined || found !== expected) {
        throw new FaceNetError(
          'model',
          `tiny-face: ${file} has SHA-256 ${expected}, got ${found}. Take the files of @vladmandic/face-api 1.7.15.`,
        );
      }
      return bytes;
    };
    const manifest = await read(`${source.name}-weights_manifest.json`, source.manifest);
    const weights = await read(`${source.name}.bin`, source.weights);
    hashes.push(source.weights);
    const found = readManifest(
      new TextDecoder().decode(manifest),
      new Map([[`${source.name}.bin`, weights]]),
      source.name,
    );
    take(found, source.prefix, tensors, quantization);
  }
  return writeDetectorFile({
    metadata: {
      network: 'tiny-face',
      licence: 'MIT, Vincent Mühler (face-api.js) and Vladimir Mandic (@vladmandic/face-api)',
      trainedOn:
        'As face-api.js states: boxes on some 14,000 pictures of a data set of its author, points on some 35,000 faces labelled with 68 points',
      source: '@vladmandic/face-api 1.7.15, model/tiny_face_detector_model.bin and model/face_landmark_68_model.bin',
      sourceSha256: await sha256(new TextEncoder().encode(hashes.join('\n'))),
      library,
    },
    tensors,
    quantization,
  });
}

function take(
  found: ManifestWeights,
  prefix: string,
  tensors: Map<string, Tensor>,
  quantization: Map<string, Quantization>,
): void {
  for (const [name, tensor] of found.tensors) {
    const { shape } = tensor;
    const depthwise = name.endsWith('/depthwise_filter') && shape.length === 4 && shape[3] === 1;
    tensors.set(`${prefix}${name}`, depthwise ? { ...tensor, shape: shape.slice(0, 3) } : tensor);
    const rule = found.quantization.get(name);
    if (rule !== undefined) quantization.set(`${prefix}${name}`, rule);
  }
}
