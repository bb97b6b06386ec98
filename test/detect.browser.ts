// Faces in a photo as a page finds them: FaceDetector of dist/facenet-gpu.js, files by URL, wasm on one and two threads, and on a model's device.
// area: browser
import type { DetectedFace, FaceDetector as Detector, FaceNetGPU as Net } from '../src/index.ts';
import type { ExpectedFaces } from './detect.node.ts';
import { Checks, type PageReport, rejectsWith } from './page-report.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const library = '/dist/facenet-gpu.js';
  const { FaceDetector, FaceNetGPU } = (await import(/* @vite-ignore */ library)) as {
    FaceDetector: typeof Detector;
    FaceNetGPU: typeof Net;
  };
  const expected = (await (await fetch('/expected.json')).json()) as ExpectedFaces;
  const { photo, model, faces } = expected;
  const same = (found: readonly DetectedFace[]) =>
    JSON.stringify(found) === JSON.stringify(faces) || JSON.stringify(found).slice(0, 300);
  const wasm = { model, backend: 'wasm', relaxed: false } as const;

  const phases = new Set<string>();
  const one = await FaceDetector.create({ ...wasm, threads: 1, onProgress: ({ phase }) => phases.add(phase) });
  await checks.check(
    'is a FaceDetector, and says what it is',
    () => (one instanceof FaceDetector && one.network === 'tiny-face' && one.backend === 'wasm') || one.why,
  );
  await checks.check(
    'progress of the download',
    () => (phases.has('download') && phases.has('compile')) || [...phases],
  );
  await checks.check('one thread: the faces of Node, to the bit', async () => same(await one.detect(photo)));
  await checks.check('a Blob: the same', async () => same(await one.detect(await (await fetch(photo)).blob())));
  await checks.check('limit takes the best', async () => {
    const [best, ...others] = await one.detect(photo, { limit: 1 });
    return (others.length === 0 && JSON.stringify(best) === JSON.stringify(faces[0])) || others.length;
  });
  const two = await FaceDetector.create({ ...wasm, threads: 2 });
  await checks.check('two threads: the faces of Node, to the bit', async () => same(await two.detect(photo)));

  const net = await FaceNetGPU.create({ model: 'dlib-resnet', backend: 'wasm', relaxed: false, threads: 1 });
  const sharing = await FaceDetector.create({ model, share: net });
  await checks.check('on the device of a model, which embeds what it found', async () => {
    const found = await sharing.detect(photo);
    const { count } = await net.embed(found.map((face) => ({ image: photo, ...face })));
    return (same(found) === true && count === faces.length) || count;
  });

  await checks.check('a file that is no detector', () =>
    rejectsWith('model', () => FaceDetector.create({ ...wasm, model: '/dist/models/dlib-resnet.safetensors' })),
  );
  await checks.check('a file that is not there', () =>
    rejectsWith('model', () => FaceDetector.create({ ...wasm, model: '/dist/models/no-such.safetensors' })),
  );
  await checks.check('what is no picture', () => rejectsWith('image', () => one.detect(new Uint8Array(100))));
  await Promise.all([one, two, sharing].map((detector) => detector.dispose()));
  await net.dispose();
  await checks.check('disposed', () => rejectsWith('disposed', () => one.detect(photo)));
  return checks.report;
}
