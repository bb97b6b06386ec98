// The original @vladmandic/face-api on tfjs's wasm backend, from a folder where both are installed (test/oracles/record-tiny-face.ts says how).
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

/** The little of the original that is called. */
export interface FaceApi {
  readonly nets: Readonly<
    Record<
      'tinyFaceDetector' | 'faceLandmark68Net' | 'faceRecognitionNet',
      { loadFromDisk(folder: string): Promise<void> }
    >
  >;
  readonly TinyFaceDetectorOptions: new (options: { inputSize: number; scoreThreshold: number }) => unknown;
  /** Of crops of 150 x 150, as tensors. */
  computeFaceDescriptor(input: unknown): Promise<Float32Array | Float32Array[]>;
  detectAllFaces(input: unknown, options: unknown): { withFaceLandmarks(): Promise<FaceApiFace[]> };
}
export interface FaceApiFace {
  readonly detection: {
    readonly score: number;
    readonly box: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  };
  readonly landmarks: { readonly positions: readonly { readonly x: number; readonly y: number }[] };
}
export interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  getBackend(): string;
  tensor(data: ArrayLike<number>, shape: readonly number[], dtype: string): { dispose(): void };
}

/** Loads the original and the weights of its package; `threads` are those of tfjs. */
export async function openFaceApi(from: string, threads: number) {
  const folder = resolve(from);
  const load = createRequire(join(folder, 'package.json'));
  const packages = join(folder, 'node_modules');
  const tensorflow = load('@tensorflow/tfjs') as TensorFlow;
  const wasm = load('@tensorflow/tfjs-backend-wasm') as {
    setWasmPaths(path: string): void;
    setThreadsCount(threads: number): void;
    getThreadsCount(): number;
  };
  wasm.setWasmPaths(`${join(packages, '@tensorflow', 'tfjs-backend-wasm', 'dist')}/`);
  wasm.setThreadsCount(threads);
  await tensorflow.setBackend('wasm');
  const faceApi = load('@vladmandic/face-api/dist/face-api.node-wasm.js') as FaceApi;
  const model = join(packages, '@vladmandic', 'face-api', 'model');
  await faceApi.nets.tinyFaceDetector.loadFromDisk(model);
  await faceApi.nets.faceLandmark68Net.loadFromDisk(model);
  const version = (name: string): string =>
    (JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')) as { version: string }).version;
  return {
    faceApi,
    tensorflow,
    /** Where the package keeps its weights. */
    model,
    threads: () => wasm.getThreadsCount(),
    programs: {
      '@vladmandic/face-api': version('@vladmandic/face-api'),
      '@tensorflow/tfjs': `${version('@tensorflow/tfjs')}, backend ${tensorflow.getBackend()}`,
    },
  };
}
