// What the library needs from a page or a worker: files by fetch, module workers, the browser's WebGPU. Everything is looked up when it is
// used, nothing at import. Each file is written out as `new URL('./name', import.meta.url)`, the form that bundlers look for.
import { FaceNetError } from '../errors.ts';
import { cacheStorage, fetchModel, type ModelCache } from './fetch-model.ts';
import { decodeImage, type ImageFormat, imageFormat, limitPixels, type Pixels } from './images.ts';
import { JpegDecoder, readJpegComponents } from './jpeg.ts';
import { overBlack } from './png.ts';
import { Spares } from './spares.ts';

/** What a browser can draw. */
export type Drawable =
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | VideoFrame;

/** Formats that have no decoder here and are left to the browser, whose pixels may differ by a level from other runtimes'. */
const BROWSER_FORMATS: ReadonlySet<ImageFormat> = new Set<ImageFormat>(['webp', 'avif', 'gif', 'heic', 'bmp']);

/** Largest image file that is read, in bytes: 1 GiB. */
const MAX_IMAGE_FILE_BYTES = 1 << 30;

interface DownloadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: {
    readonly phase: 'download' | 'verify';
    readonly done: number;
    readonly total?: number;
    readonly item?: string;
  }) => void;
  readonly sha256?: string;
  readonly cache?: false | ModelCache;
  /** Looks at a download before it is kept. */
  readonly check?: (bytes: Uint8Array) => void;
}

/** A page or a worker as the host of one object; keeps the JPEG decoder once it was needed. */
export class BrowserHost {
  readonly spares = spares;
  #jpeg: Promise<JpegDecoder> | undefined;

  /** Logical processors, as far as the browser tells. */
  get cores(): number {
    return navigator.hardwareConcurrency || 1;
  }

  /** Why there is one thread only. */
  get singleThreadReason(): string | undefined {
    if (globalThis.crossOriginIsolated !== true) {
      return 'the page is not cross-origin isolated (serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)';
    }
    return typeof Worker === 'undefined' ? 'this context cannot start workers' : undefined;
  }

  /** The thread of a page may not sleep (Atomics.wait throws there) and has a page to serve. A worker may. */
  get apart(): boolean {
    return 'document' in globalThis;
  }

  /** A module of dist/, compiled while it arrives where the server gives it the right type. @throws 'internal' when it is not there. */
  async wasmModule(file: string): Promise<WebAssembly.Module> {
    return compiledModule(file, moduleAddress(file));
  }

  /** Starts a thread of the wasm backend as a module worker. */
  startThread() {
    const worker = new Worker(new URL('./thread.js', import.meta.url), { type: 'module' });
    const failed = new Promise<Error>((resolve) => {
      // A script that cannot be loaded gives an event without message.
      worker.addEventListener('error', ({ message }) =>
        resolve(new Error(message || 'thread.js could not be loaded; it must lie beside the library')),
      );
      worker.addEventListener('messageerror', () => resolve(new Error('the worker did not accept the module')));
    });
    return {
      post: (message: unknown) => worker.postMessage(message),
      listen: (listener: (message: never) => void) =>
        worker.addEventListener('message', ({ data }) => listener(data as never)),
      failed,
      terminate: () => worker.terminate(),
    };
  }

  /** The browser's WebGPU, or why there is none. */
  async gpu(): Promise<{ gpu: GPU; release(): void } | string> {
    if (navigator.gpu) return { gpu: navigator.gpu, release: () => {} };
    return globalThis.isSecureContext
      ? 'this browser has no WebGPU, or it is switched off.'
      : 'the page is no secure context: WebGPU needs https or localhost.';
  }

  /**
   * Pixels of an image: JPEG, PNG and PNM by our own decoders, with the bits of every other runtime; WebP, AVIF, GIF, BMP, HEIC and CMYK by
   * the browser, as far as it knows them; whatever can be drawn, by drawing it.
   * @param source encoded bytes, a Blob or File, a URL, or something that can be drawn, at its natural size.
   * @throws 'image' for what cannot be decoded, 'input' for what is no image source, is not there, or belongs to another origin.
   */
  async readImage(source: string | URL | Blob | ArrayBuffer | Uint8Array | Drawable): Promise<Pixels> {
    if (typeof source === 'string' || source instanceof URL) {
      return this.#decode(await fetchImage(String(source)), shortened(String(source)));
    }
    if (source instanceof Uint8Array) return this.#decode(source, 'image');
    if (source instanceof ArrayBuffer) return this.#decode(new Uint8Array(source), 'image');
    if (source instanceof Blob) {
      const name = typeof File !== 'undefined' && source instanceof File ? source.name : 'image';
      return this.#decode(await bytesOf(source, name), name);
    }
    if (isDrawable(source)) return drawn(source, 'image');
    const got = source === null ? 'null' : typeof source;
    throw new FaceNetError(
      'input',
      `image: must be pixels, bytes, a Blob, a URL, or an image, canvas or video, got ${got}.`,
    );
  }

  /** What may be kept between visits: the cache given, else the Cache API where there is one. */
  kept(cache: false | ModelCache | undefined): ModelCache | undefined {
    return cache === false ? undefined : (cache ?? cacheStorage());
  }

  /** A packaged model by its name, or a file by its URL. A file is kept in the Cache API only where `sha256` names it, or in a cache given. */
  async readModel(source: string | URL, options: DownloadOptions = {}): Promise<{ bytes: Uint8Array; name: string }> {
    const text = String(source);
    const packaged = typeof source === 'string' && /^[\w-]+$/.test(source);
    if (packaged && source !== 'dlib-resnet') {
      throw new FaceNetError(
        'model',
        `create: model must be a packaged name, a URL or bytes, got ${JSON.stringify(text)}. Packaged: dlib-resnet.`,
      );
    }
    const address = packaged ? new URL('./models/dlib-resnet.safetensors', import.meta.url).href : text;
    const { sha256, signal, onProgress, check } = options;
    const cache = options.cache ?? (sha256 === undefined ? undefined : cacheStorage()) ?? false;
    const bytes = await fetchModel(address, {
      cache,
      ...(sha256 !== undefined && { sha256 }),
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
      ...(check && { check }),
    });
    const name = packaged
      ? text
      : text
          .replace(/[?#].*$/, '')
          .replace(/^.*\//, '')
          .replace(/\.safetensors$/, '');
    return { bytes, name: name || 'model' };
  }

  async #decode(bytes: Uint8Array, source: string): Promise<Pixels> {
    const format = imageFormat(bytes);
    if (format !== 'jpeg') {
      return format !== undefined && BROWSER_FORMATS.has(format)
        ? drawn(blobOf(bytes), source)
        : decodeImage(bytes, { source });
    }
    if (readJpegComponents(bytes) === 4) return drawn(blobOf(bytes), source);
    this.#jpeg ??= compiledModule('jpeg-turbo.wasm', new URL('./jpeg-turbo.wasm', import.meta.url)).then(
      (module) => new JpegDecoder(module),
    );
    // A download that failed once may succeed the next time.
    this.#jpeg.catch(() => {
      this.#jpeg = undefined;
    });
    return decodeImage(bytes, { source, jpeg: await this.#jpeg });
  }
}

function moduleAddress(file: string): URL {
  if (file === 'facenet.wasm') return new URL('./facenet.wasm', import.meta.url);
  if (file === 'facenet.relaxed.wasm') return new URL('./facenet.relaxed.wasm', import.meta.url);
  if (file === 'facenet.single.wasm') return new URL('./facenet.single.wasm', import.meta.url);
  if (file === 'facenet.single.relaxed.wasm') return new URL('./facenet.single.relaxed.wasm', import.meta.url);
  throw new FaceNetError('internal', `${file}: must be a module of this package.`);
}

/** Devices of objects that are no longer used, for the next ones. */
const spares = new Spares();

/** Modules of dist/, fetched and compiled once in a page: code, which does not change. */
const modules = new Map<string, Promise<WebAssembly.Module>>();

function compiledModule(file: string, address: URL): Promise<WebAssembly.Module> {
  let module = modules.get(file);
  if (!module) {
    module = compile(file, address);
    modules.set(file, module);
    // A download that failed once may succeed the next time.
    module.catch(() => modules.delete(file));
  }
  return module;
}

async function compile(file: string, address: URL): Promise<WebAssembly.Module> {
  const missing = (got: string, cause?: unknown): FaceNetError =>
    new FaceNetError(
      'internal',
      `${file}: part of this package, got ${got} from ${address.href}. Serve the file beside the library, or let the bundler copy it.`,
      { cause },
    );
  let response: Response;
  try {
    response = await fetch(address);
  } catch (cause) {
    throw missing('no answer', cause);
  }
  if (!response.ok) throw missing(`status ${response.status}`);
  try {
    if (/^application\/wasm\s*$/i.test(response.headers.get('content-type') ?? ''))
      return await WebAssembly.compileStreaming(response);
    const bytes = await response.arrayBuffer();
    const head = new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength));
    if (String.fromCharCode(...head) !== '\0asm') throw missing('something else, such as a web page');
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    if (cause instanceof FaceNetError) throw cause;
    throw missing(`'${(cause as Error).message}'`, cause);
  }
}

async function fetchImage(address: string): Promise<Uint8Array> {
  const source = shortened(address);
  const refuse = (got: string, cause?: unknown) =>
    new FaceNetError('input', `${source}: an image that can be fetched, got ${got}. Check the address.`, { cause });
  try {
    const response = await fetch(address);
    if (!response.ok) throw refuse(`status ${response.status}`);
    const length = Number(response.headers.get('content-length') ?? 0);
    if (length > MAX_IMAGE_FILE_BYTES) throw refuse(`${length} bytes, of ${MAX_IMAGE_FILE_BYTES} at most`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    if (cause instanceof FaceNetError) throw cause;
    throw refuse(`'${(cause as Error).message}'`, cause);
  }
}

async function bytesOf(blob: Blob, source: string): Promise<Uint8Array> {
  if (blob.size > MAX_IMAGE_FILE_BYTES) {
    throw new FaceNetError(
      'input',
      `${source}: at most ${MAX_IMAGE_FILE_BYTES} bytes, got ${blob.size}. Make it smaller.`,
    );
  }
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (cause) {
    throw new FaceNetError('input', `${source}: a file that can be read, got '${(cause as Error).message}'.`, {
      cause,
    });
  }
}

/** Pixels of what the browser can draw: full size, colours not converted, alpha over black. */
async function drawn(source: Blob | Drawable, name: string): Promise<Pixels> {
  let bitmap: ImageBitmap;
  try {
    // A bitmap of the caller stays the caller's; everything else becomes one that is closed here.
    bitmap = await createImageBitmap(source, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch (cause) {
    throw new FaceNetError(
      'image',
      `${name}: an image that the browser can decode, got '${(cause as Error).message}'. Convert it to JPEG or PNG.`,
      { cause },
    );
  }
  try {
    const { width, height } = bitmap;
    limitPixels(width, height, { source: name });
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw new FaceNetError('internal', `${name}: a canvas of ${width} x ${height}, got none.`);
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    for (let i = 0; i < data.length; i += 4) {
      const alpha = data[i + 3] as number;
      if (alpha === 255) continue;
      for (let c = i; c < i + 3; c++) data[c] = overBlack(data[c] as number, alpha);
      data[i + 3] = 255;
    }
    return { data, width, height };
  } catch (cause) {
    if (cause instanceof FaceNetError) throw cause;
    throw new FaceNetError(
      'input',
      `${name}: an image whose pixels may be read, got '${(cause as Error).message}'. Serve it from this origin or with CORS.`,
      { cause },
    );
  } finally {
    bitmap.close();
  }
}

const blobOf = (bytes: Uint8Array): Blob =>
  new Blob([bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes)]);

/** A data URL is longer than a message should be. */
const shortened = (address: string): string => (address.length > 100 ? `${address.slice(0, 97)}...` : address);

function isDrawable(source: unknown): source is Drawable {
  // Workers have no elements, some browsers no VideoFrame.
  const names = [
    'ImageBitmap',
    'HTMLImageElement',
    'HTMLCanvasElement',
    'HTMLVideoElement',
    'OffscreenCanvas',
    'VideoFrame',
  ] as const;
  return names.some((name) => typeof globalThis[name] === 'function' && source instanceof globalThis[name]);
}
