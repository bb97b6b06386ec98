// What test/detect.browser.ts expects, computed in Node by the build whose bits are the same everywhere.
import { fileURLToPath } from 'node:url';
import { type DetectedFace, FaceDetector } from '../src/node.ts';
import { photoPath } from './tiny-face.ts';

export interface ExpectedFaces {
  /** Where the photo and the detector are served. */
  readonly photo: string;
  readonly model: string;
  readonly faces: readonly DetectedFace[];
}

export async function expected(): Promise<ExpectedFaces> {
  const file = '/dist/models/tiny-face.safetensors';
  const model = fileURLToPath(new URL(`..${file}`, import.meta.url));
  const detector = await FaceDetector.create({ model, backend: 'wasm', threads: 1, relaxed: false });
  const path = photoPath('sample1.jpg');
  const faces = await detector.detect(path);
  await detector.dispose();
  if (faces.length === 0) throw new Error('the sample photo must have faces');
  return { photo: path.slice(path.replaceAll('\\', '/').indexOf('/node_modules/')), model: file, faces };
}
