// test/conformance-report.ts in Node and in Deno: node conformance-process.mjs RUNTIME BACKENDS OUTPUT
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FaceNetGPU } from '../src/node.ts';
import { report } from './conformance-report.ts';

const [runtime = '', backends = '', output = ''] = process.argv.slice(2);
await report({
  runtime,
  backends: backends.split(','),
  create: (options) => FaceNetGPU.create(options),
  photos: fileURLToPath(new URL('../node_modules/@vladmandic/face-api/demo/', import.meta.url)),
  tell: (line) => console.error(line),
  keep: (found) => writeFileSync(output, JSON.stringify(found)),
});
process.exit(0);
