// The package as a page uses it: dist/facenet-gpu.js, photos by URL, blobs and canvases, wasm on one and two threads, WebGPU.
// area: browser
import type { FaceNetGPU as Class, Face, ImageSource } from '../src/index.ts';
import type { ExpectedFace } from './embed.node.ts';
import { Checks, distance, type PageReport, rejectsWith, sameBits } from './page-report.ts';

/** Runs in the page; see test/browser.mjs. */
export async function run(): Promise<PageReport> {
  const checks = new Checks();
  const library = '/dist/facenet-gpu.js';
  const { FaceNetGPU } = (await import(/* @vite-ignore */ library)) as { FaceNetGPU: typeof Class };
  const expected = (await (await fetch('/expected.json')).json()) as ExpectedFace;
  const { photo, landmarks, exact, plain } = expected;
  const wasm = { model: 'dlib-resnet', backend: 'wasm', relaxed: false, batchSize: 1 } as const;
  const face: Face = { image: photo, landmarks };

  const one = await FaceNetGPU.create({ ...wasm, threads: 1 });
  await checks.check('one thread: within 1e-4 of float64', async () => {
    const away = distance((await one.embed(face)).data, exact);
    return away < 1e-4 || away;
  });
  await checks.check('one thread: the bits of Node', async () => sameBits((await one.embed(face)).data, plain));

  // What 'exact' is in Node: JPEG, PNG and PNM are decoded by the package itself, in whatever form they come.
  const photoFile = await (await fetch(photo)).blob();
  const forms: Record<string, ImageSource> = {
    'a URL': new URL(photo, location.href),
    'a Blob': photoFile,
    'a File': new File([photoFile], 'photo.jpg', { type: 'image/jpeg' }),
    'a File with another type': new File([photoFile], 'photo.png', { type: 'image/png' }),
    bytes: new Uint8Array(await photoFile.arrayBuffer()),
  };
  for (const [name, image] of Object.entries(forms))
    await checks.check(`a JPEG as ${name}: the bits of Node`, async () =>
      sameBits((await one.embed({ image, landmarks })).data, plain),
    );

  // Relative to the page, with progress: how a page that hosts the weights itself loads them.
  const phases = new Set<string>();
  const two = await FaceNetGPU.create({
    ...wasm,
    model: '/dist/models/dlib-resnet.safetensors',
    threads: 2,
    onProgress: ({ phase }) => phases.add(phase),
  });
  await checks.check('two threads: the bits of Node', async () => sameBits((await two.embed(face)).data, plain));
  await checks.check(
    'two threads: .why says where they are',
    () => /2 threads.*page's own thread stays free/.test(two.why) || two.why,
  );
  for (const [name, net, workers] of [
    ['one thread', one, 1],
    ['two threads', two, 2],
  ] as const) {
    await checks.check(`${name}: in workers`, () => net.counters().workers === workers || net.counters().workers);
    await checks.check(`${name}: the page goes on while they compute`, async () => {
      // Tasks of the page while it waits; a page that computes itself, or waits by spinning, gets none.
      let [turns, running, longest, last] = [0, true, 0, performance.now()];
      const { port1, port2 } = new MessageChannel();
      port2.onmessage = () => {
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
        turns++;
        if (running) port1.postMessage(0);
      };
      const { layers, milliseconds } = await net.profile({ runs: 1 });
      port1.postMessage(0);
      [turns, last] = [0, performance.now()];
      await net.profile({ runs: 20 });
      running = false;
      port1.close();
      return (layers.length > 0 && milliseconds > 0 && turns > 100) || `${turns} turns, the longest ${longest} ms`;
    });
  }
  await checks.check(
    'progress of the download',
    () => ['download', 'verify', 'compile'].every((name) => phases.has(name)) || [...phases],
  );
  await checks.check(
    'the same name, the same model',
    () => two.fingerprint === one.fingerprint || `${two.fingerprint}, ${one.fingerprint}`,
  );
  await checks.check('dispose ends the workers', async () => {
    await two.dispose();
    return two.counters().workers === 0 || two.counters().workers;
  });

  // -- sources of images ---------------------------------------------------------------------------------------------
  const chip = await one.align(face);
  const crop = await one.embed(chip);
  const canvas = new OffscreenCanvas(chip.width, chip.height);
  const rgba = new ImageData(chip.width, chip.height);
  for (let i = 0; i < chip.width * chip.height; i++) rgba.data.set([...chip.data.slice(i * 3, i * 3 + 3), 255], i * 4);
  canvas.getContext('2d')?.putImageData(rgba, 0, 0);
  const png = await canvas.convertToBlob({ type: 'image/png' });
  const element = new Image();
  element.src = URL.createObjectURL(png);
  await element.decode();
  const htmlCanvas = document.createElement('canvas');
  [htmlCanvas.width, htmlCanvas.height] = [chip.width, chip.height];
  htmlCanvas.getContext('2d')?.putImageData(rgba, 0, 0);
  const sources: Record<string, ImageSource> = {
    ImageData: rgba,
    'a PNG Blob': png,
    'a PNG File': new File([png], 'face.png'),
    'PNG bytes': new Uint8Array(await png.arrayBuffer()),
    'a PPM Blob': new Blob([`P6\n${chip.width} ${chip.height}\n255\n`, chip.data as Uint8Array<ArrayBuffer>]),
    'an ArrayBuffer': await png.arrayBuffer(),
    'a blob: URL': element.src,
    ImageBitmap: await createImageBitmap(png),
    HTMLImageElement: element,
    HTMLCanvasElement: htmlCanvas,
    OffscreenCanvas: canvas,
    VideoFrame: new VideoFrame(canvas, { timestamp: 0, alpha: 'discard' }),
  };
  for (const [name, source] of Object.entries(sources)) {
    await checks.check(`${name}: the bits of the pixels`, async () =>
      sameBits((await one.embed(source)).data, crop.data),
    );
    if (source instanceof VideoFrame) source.close();
  }
  const bitmap = sources.ImageBitmap as ImageBitmap;
  await checks.check('an ImageBitmap stays open', () => bitmap.width === chip.width || bitmap.width);
  await checks.check('WebP by the browser, lossless: the bits of the pixels', async () => {
    // Chromium writes lossless WebP at quality 1.
    const webp = await canvas.convertToBlob({ type: 'image/webp', quality: 1 });
    return webp.type === 'image/webp' ? sameBits((await one.embed(webp)).data, crop.data) : webp.type;
  });

  // -- errors --------------------------------------------------------------------------------------------------------
  const jpeg = await (await fetch(photo)).blob();
  const wrong: Record<string, readonly [code: string, source: unknown]> = {
    'bytes that are no image': ['image', new Uint8Array(1000).fill(7)],
    'an empty Blob': ['image', new Blob([])],
    'half a JPEG': ['image', jpeg.slice(0, jpeg.size >> 1)],
    'a damaged WebP': ['image', new Blob(['RIFF\x10\0\0\0WEBPVP8 damaged'])],
    'a web page': ['image', '/'],
    'an image that is not there': ['input', '/dist/nothing.jpg'],
    'a server that is not there': ['input', 'http://127.0.0.1:1/face.jpg'],
    'a number': ['input', 7],
  };
  for (const [name, [code, source]] of Object.entries(wrong)) {
    await checks.check(`${name}: '${code}'`, () => rejectsWith(code, () => one.embed(source as Face)));
  }
  await checks.check('a bad image among good ones is named', async () => {
    const { skipped, count } = await one.embed([chip, '/dist/nothing.jpg', chip], { onError: 'skip' });
    return (count === 2 && skipped[0]?.index === 1 && skipped[0].error.code === 'input') || JSON.stringify(skipped);
  });
  for (const model of ['/', '/dist/nothing.safetensors', 'no-such-model', '/dist/facenet.wasm']) {
    await checks.check(`model ${model}: 'model'`, () =>
      rejectsWith('model', () => FaceNetGPU.create({ ...wasm, model })),
    );
  }
  await checks.check("a wrong hash: 'model'", () =>
    rejectsWith('model', () => FaceNetGPU.create({ ...wasm, sha256: '0'.repeat(64) })),
  );
  await one.dispose();
  await checks.check("after dispose: 'disposed'", () => rejectsWith('disposed', () => one.embed(chip)));

  // -- WebGPU --------------------------------------------------------------------------------------------------------
  await checks.check('probe tells of the software adapter', async () => {
    const { webgpu, wasm: cpu } = await FaceNetGPU.probe();
    return (webgpu.available && webgpu.software && cpu.threads >= 1 && cpu.simd) || JSON.stringify(webgpu);
  });
  await checks.check("'auto' never takes a software adapter", async () => {
    const net = await FaceNetGPU.create({ ...wasm, backend: 'auto', threads: 1 });
    await net.dispose();
    return (net.backend === 'wasm' && /software/.test(net.why)) || net.why;
  });
  await checks.check('WebGPU: within 1e-4 of float64', async () => {
    const net = await FaceNetGPU.create({ ...wasm, backend: 'webgpu' });
    const { data } = await net.embed(face);
    await net.dispose();
    return (distance(data, exact) < 1e-4 && net.backend === 'webgpu') || distance(data, exact);
  });
  return checks.report;
}
