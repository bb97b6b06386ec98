// test/conformance-report.ts in Node and in Deno: node conformance-process.mjs RUNTIME BACKENDS OUTPUT LFW [PARTS BEFORE OPERATORS]
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FaceDetector, FaceNetGPU } from '../src/node.ts';
import { type LfwSample, type Part, type RuntimeReport, report } from './conformance-report.ts';

const [runtime = '', backends = '', output = '', lfw = '', parts, before, operators] = process.argv.slice(2);
await report({
  runtime,
  backends: backends.split(','),
  create: (options) => FaceNetGPU.create(options),
  openDetector: (options) => FaceDetector.create(options),
  detector: fileURLToPath(new URL('../dist/models/tiny-face.safetensors', import.meta.url)),
  ...(existsSync(lfw) && { lfw: JSON.parse(readFileSync(lfw, 'utf8')) as LfwSample }),
  photos: fileURLToPath(new URL('../node_modules/@vladmandic/face-api/demo/', import.meta.url)),
  ...(parts && { parts: parts.split(',') as Part[] }),
  ...(before && { before: JSON.parse(readFileSync(before, 'utf8')) as RuntimeReport }),
  ...(operators && { operators: operators.split(',') }),
  tell: (line) => console.error(line),
  keep: (found) => writeFileSync(output, JSON.stringify(found)),
});
process.exit(0);
