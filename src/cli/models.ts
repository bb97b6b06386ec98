// The build's step that makes the packaged models from their sources: node build.mjs models.
import { convertDlibFiles } from '../io/node/convert-dlib.ts';

const [, , from = 'node_modules/@vladmandic/face-api/model', to = 'dist/models/dlib-resnet.safetensors', library = 'facenet-gpu'] = process.argv;
const bytes = await convertDlibFiles(from, to, library);
console.error(`models: ${to}, ${bytes} bytes`);
