// The build's step that makes the models from their sources: node build.mjs models. The package holds dlib-resnet alone.
import { readFileSync } from 'node:fs';
import { convertDlibFiles, convertTinyFaceFiles } from '../io/node/convert-face-api.ts';
import { dlibOperatingPoints } from './dlib-operating-points.ts';

const [, , from = 'node_modules/@vladmandic/face-api/model', to = 'dist/models/dlib-resnet.safetensors'] = process.argv;
const { name, version } = JSON.parse(readFileSync('package.json', 'utf8')) as { name: string; version: string };
const bytes = await convertDlibFiles(from, to, `${name} ${version}`, dlibOperatingPoints());
console.error(`models: ${to}, ${bytes} bytes`);
const detector = to.replace(/[^\\/]*$/, 'tiny-face.safetensors');
console.error(`models: ${detector}, ${await convertTinyFaceFiles(from, detector, `${name} ${version}`)} bytes`);
