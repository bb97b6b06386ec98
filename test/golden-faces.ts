// The sample faces in float64: crops by the oracle of warpAffine, embeddings by the oracle of the whole network. Nothing here touches a kernel.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { alignFace } from '../src/faces/alignment.ts';
import { alignmentTemplate } from '../src/faces/alignment-templates.ts';
import { cutRegion } from '../src/faces/preprocessing.ts';
import { Graph } from '../src/graph/graph.ts';
import { readModelFile, weightsOf } from '../src/io/model-file.ts';
import { type ImageReader, readWholeFile } from '../src/io/node/image-files.ts';
import { dlibResnet } from '../src/networks/dlib-resnet.ts';
import { evaluate } from './networks-oracle.ts';
import { spec as warp } from './ops/warpAffine.ts';

type Point = readonly [x: number, y: number];

/** One face of demo/faces.json. */
export interface SampleFace {
  readonly name: string;
  /** Path of the photo. */
  readonly image: string;
  readonly landmarks: readonly Point[];
}

/** What test/oracles/record-golden.ts found out about a face. */
export interface GoldenFace {
  readonly name: string;
  /** SHA-256 of the crop: 150 x 150 RGB bytes, the float64 crop rounded. */
  readonly chip: string;
  /** Unit vector by the float64 oracle, from the photo: crop (not rounded), scaling, network, normalisation. */
  readonly embedding: readonly number[];
  /** The 128 values before normalisation that @vladmandic/face-api computes for the crop's bytes. */
  readonly original: readonly number[];
}

export interface GoldenFaces {
  readonly command: string;
  readonly programs: Readonly<Record<string, string>>;
  readonly faces: readonly GoldenFace[];
}

const SIZE = 150;
const photos = new URL('../node_modules/@vladmandic/face-api/demo/', import.meta.url);
const modelFile = new URL('../dist/models/dlib-resnet.safetensors', import.meta.url);
/** (byte - mean) / 255: what the network was trained on, by FaceRecognitionNet of face-api. */
export const means = [122.782, 117.001, 104.298] as const;

/** Every face of demo/faces.json, in its order. */
export function sampleFaces(): SampleFace[] {
  const text = readFileSync(new URL('../demo/faces.json', import.meta.url), 'utf8');
  const file = JSON.parse(text) as { photos: { image: string; faces: { name: string; landmarks: Point[] }[] }[] };
  return file.photos.flatMap(({ image, faces }) =>
    faces.map(({ name, landmarks }) => ({ name, landmarks, image: new URL(image, photos).pathname })),
  );
}

/** The crop of a face in float64: 150 x 150 x 3 values from 0 to 255. */
export async function exactCrop(face: SampleFace, reader: ImageReader): Promise<Float64Array> {
  const pixels = await reader.read(face.image);
  const template = alignmentTemplate('dlib', SIZE);
  const { bytes, placement } = cutRegion({ pixels, alignment: alignFace(face.landmarks, template, { image: pixels }) });
  const words = Math.ceil(bytes.length / 4) * 4;
  const inputs = {
    images: Float64Array.from({ length: words }, (_, i) => bytes[i] ?? 0),
    placements: Float64Array.from([0, ...placement, 0, 0]),
  };
  const shapes = { images: [words], placements: [1, 12] };
  return warp.forward(inputs, shapes, { width: SIZE, height: SIZE }, [1, SIZE, SIZE, 3]);
}

/** A crop as bytes: what both our network and the original are shown. */
export const chipOf = (crop: Float64Array): Uint8Array => Uint8Array.from(crop, (value) => Math.round(value));

export const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Weights of the packaged model by name. */
export async function modelWeights(): Promise<Record<string, Float32Array>> {
  const file = readModelFile(await readWholeFile(modelFile, 'dlib-resnet', 2 ** 24));
  return Object.fromEntries([...file.tensors.keys()].map((name) => [name, weightsOf(file, name)]));
}

/** The network in float64 on a crop: the 128 values before normalisation, and the unit vector. */
export function exactEmbedding(
  crop: Float64Array | Uint8Array,
  weights: Readonly<Record<string, Float32Array>>,
): { features: Float64Array; embedding: Float64Array } {
  const graph = new Graph();
  const features = dlibResnet.features(graph.input('x', [1, SIZE, SIZE, 3]));
  const x = Float64Array.from(crop, (value, i) => (value - means[i % 3]!) / 255);
  const result = evaluate(graph, [features], { ...weights, x }, 1).get(features)!;
  const length = Math.sqrt(result.reduce((sum, value) => sum + value * value, 0));
  return { features: result, embedding: result.map((value) => value / length) };
}
