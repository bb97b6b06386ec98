// `facenet-gpu/worker` in a page: drawables, threads that sleep, WebGPU in the worker, errors, abort, training; the page's bits.
// area: browser
import type { FaceNetGPU as Main, Pixels } from '../src/index.ts';
import type * as Entry from '../src/worker/browser.ts';
import { Checks, distance, type PageReport, rejectsWith, sameBits } from './page-report.ts';

const noise = (seed: number, side: number): Pixels => {
  const data = Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 37 + seed * 91 + (i >> 5) * seed) & 255);
  return { data, width: side, height: side };
};

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const [main, worker] = ['/dist/facenet-gpu.js', '/dist/worker.js'];
  const { FaceNetGPU: Page, FaceNetError } = (await import(/* @vite-ignore */ main)) as {
    FaceNetGPU: typeof Main;
    FaceNetError: typeof Error;
  };
  const { FaceNetGPU, memoryDataset } = (await import(/* @vite-ignore */ worker)) as typeof Entry;
  const wasm = { model: 'dlib-resnet', backend: 'wasm', relaxed: false, batchSize: 2, threads: 1 } as const;
  const page = await Page.create(wasm);
  const chip = noise(1, 150);
  const { data: expected } = await page.embed(chip);

  const phases: string[] = [];
  const net = await FaceNetGPU.create({
    ...wasm,
    model: 'dist/models/dlib-resnet.safetensors',
    threads: 2,
    onProgress: ({ phase }) => phases.push(phase),
  });
  await checks.check('two threads, and none spins', () => /2 threads/.test(net.why) && !/spinning/.test(net.why));
  await checks.check('an address relative to the page, with progress', () =>
    ['download', 'verify', 'compile'].every((phase) => phases.includes(phase)),
  );
  await checks.check("pixels: the page's bits", async () => sameBits((await net.embed(chip)).data, expected));

  const rgba = new ImageData(150, 150);
  for (let i = 0; i < 150 * 150; i++) rgba.data.set([...chip.data.slice(i * 3, i * 3 + 3), 255], i * 4);
  const canvas = new OffscreenCanvas(150, 150);
  canvas.getContext('2d')?.putImageData(rgba, 0, 0);
  const png = await canvas.convertToBlob({ type: 'image/png' });
  const element = new Image();
  element.src = URL.createObjectURL(png);
  await element.decode();
  const bitmap = await createImageBitmap(canvas);
  const sources = {
    ImageData: rgba,
    'a Blob': png,
    'a File': new File([png], 'face.png'),
    'a blob: URL': element.src,
    'a URL object': new URL(element.src),
    HTMLImageElement: element,
    OffscreenCanvas: canvas,
    VideoFrame: new VideoFrame(canvas, { timestamp: 0, alpha: 'discard' }),
    ImageBitmap: bitmap,
  };
  for (const [name, source] of Object.entries(sources))
    await checks.check(`${name}: the bits of the pixels`, async () => {
      const { data } = await net.embed({
        image: source,
        landmarks: [
          [50, 60],
          [100, 60],
        ],
      } as never);
      const { data: own } = await page.embed({
        image: chip,
        landmarks: [
          [50, 60],
          [100, 60],
        ],
      });
      return sameBits(data, own);
    });
  sources.VideoFrame.close();
  await checks.check('an ImageBitmap stays open', () => bitmap.width === 150 || bitmap.width);
  await checks.check('an ImageBitmap handed over is gone, and read', async () => {
    const same = sameBits((await net.embed(bitmap, { transfer: true })).data, expected);
    return same === true ? bitmap.width === 0 || bitmap.width : same;
  });
  await checks.check('errors: class, code, index', async () => {
    const found = (await net.embed([chip, '/nothing.jpg']).catch((error) => error)) as { code: string; index: number };
    return (found instanceof FaceNetError && found.code === 'input' && found.index === 1) || String(found);
  });
  await checks.check("no such model: 'model'", () =>
    rejectsWith('model', () => FaceNetGPU.create({ ...wasm, model: '/dist/nothing.safetensors' })),
  );
  await checks.check("a canvas' context is no face: 'input'", () =>
    rejectsWith('input', () => net.embed((() => 1) as never)),
  );
  await checks.check("an abort while it runs: 'aborted', and usable afterwards", async () => {
    const controller = new AbortController();
    const endless = (function* () {
      for (let seed = 0; ; seed++) {
        if (seed === 5) controller.abort();
        yield noise(seed, 150);
      }
    })();
    const aborted = await rejectsWith('aborted', () => net.embed(endless, { signal: controller.signal }));
    return aborted === true ? sameBits((await net.embed(chip)).data, expected) : aborted;
  });
  await checks.check('verify and identify', async () => {
    const gallery = await net.gallery();
    await gallery.enroll('one', await net.embed(chip));
    const { label } = await net.identify(rgba, gallery);
    const { same, distance: apart } = await net.verify(chip, rgba);
    return (label === 'one' && same && apart === 0) || `${label} ${apart}`;
  });
  await checks.check('WebGPU in a worker: near the float32 of wasm', async () => {
    const gpu = await FaceNetGPU.create({ model: 'dlib-resnet', backend: 'webgpu', batchSize: 1 });
    const { data } = await gpu.embed(chip);
    await gpu.dispose();
    return (gpu.backend === 'webgpu' && distance(data, expected) < 1e-4) || distance(data, expected);
  });
  await checks.check('trains as in the page', async () => {
    const model = { network: 'nn4.small2', seed: 2, size: 32 } as const;
    const data = memoryDataset(Array.from({ length: 12 }, (_, i) => ({ pixels: noise(i, 32), label: i >> 1 })));
    const results: number[][] = [];
    for (const object of [
      await Page.create({ ...wasm, model }),
      await FaceNetGPU.create({ ...wasm, model, threads: 1 }),
    ]) {
      const numbers: number[] = [];
      for await (const { loss } of object.train(data, { steps: 2, people: 3, perPerson: 2, seed: 1 }))
        numbers.push(loss);
      results.push([...numbers, ...(await object.embed(noise(3, 32))).data]);
      await object.dispose();
    }
    return sameBits(results[0] as number[], results[1] as number[]);
  });
  await net.dispose();
  await checks.check("after dispose: 'disposed'", () => rejectsWith('disposed', () => net.embed(chip)));
  await page.dispose();
  return checks.report;
}
