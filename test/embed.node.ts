// What test/embed.browser.ts expects, computed in Node by the build whose bits are the same everywhere.
import { readFileSync } from 'node:fs';
import { FaceNetGPU } from '../src/node.ts';
import { type GoldenFaces, sampleFaces } from './golden-faces.ts';

/** One sample face: where its photo is served, its embedding in float64, and what plain wasm gives in Node. */
export interface ExpectedFace {
  readonly photo: string;
  readonly landmarks: readonly (readonly [number, number])[];
  readonly exact: readonly number[];
  readonly plain: readonly number[];
}

export async function expected(): Promise<ExpectedFace> {
  const golden = JSON.parse(readFileSync(new URL('cases/golden-faces.json', import.meta.url), 'utf8')) as GoldenFaces;
  const [face] = sampleFaces();
  const record = golden.faces.find(({ name }) => name === face?.name);
  if (!face || !record) throw new Error('the first sample face has no golden record');
  const net = await FaceNetGPU.create({
    model: 'dlib-resnet',
    backend: 'wasm',
    threads: 1,
    relaxed: false,
    batchSize: 1,
  });
  const { data } = await net.embed(face);
  await net.dispose();
  return {
    photo: face.image.slice(face.image.indexOf('/node_modules/')),
    landmarks: face.landmarks,
    exact: record.embedding,
    plain: [...data],
  };
}
