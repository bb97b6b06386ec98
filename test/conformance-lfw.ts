// The 300 pairs of LFW as one JSON text, for every runtime of test/conformance.mjs: node conformance-lfw.mjs OUTPUT
import { writeFileSync } from 'node:fs';
import type { LfwSample } from './conformance-report.ts';
import { lfwFaces, lfwPresent, lfwSample } from './lfw.ts';

if (lfwPresent) {
  const faces = lfwFaces('eval');
  const pairs = lfwSample();
  const paths = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
  const sample: LfwSample = {
    faces: paths.map((path) => {
      const { image, landmarks } = faces.get(path) as NonNullable<ReturnType<typeof faces.get>>;
      return { image: Buffer.from(image).toString('base64'), landmarks };
    }),
    pairs: pairs.map(({ a, b, same }) => [paths.indexOf(a), paths.indexOf(b), same]),
  };
  writeFileSync(process.argv[2] as string, JSON.stringify(sample));
}
