// What the library needs from Node: files, worker threads, Dawn. Everything is looked up when it is used, nothing at import.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { FaceNetError } from '../../errors.ts';
import { type DownloadProgress, fetchModel, type ModelCache } from '../fetch-model.ts';
import { readModelFile } from '../model-file.ts';
import { Spares } from '../spares.ts';
import { directoryCache } from './directory-cache.ts';
import { ImageReader, readWholeFile } from './image-files.ts';
import { resting } from './rest.ts';

/** Largest model file that is read: 2 GiB. */
const MAX_MODEL_BYTES = 2 ** 31;

/** A file of dist/: beside the bundle, or in dist/ when run from source. */
export function asset(name: string): URL {
  const beside = new URL(`./${name}`, import.meta.url);
  return existsSync(fileURLToPath(beside)) ? beside : new URL(`../../../dist/${name}`, import.meta.url);
}

/**
 * Modules of dist/ by name, compiled once in a process: code, which does not change. Compiled for each object anew, V8 11.3 (Node 20) would
 * keep some 4.5 kB of each for ever.
 */
const modules = new Map<string, Promise<WebAssembly.Module>>();

function compiledModule(file: string): Promise<WebAssembly.Module> {
  let module = modules.get(file);
  if (!module) {
    module = compile(file);
    modules.set(file, module);
    // What failed once may succeed the next time.
    module.catch(() => modules.delete(file));
  }
  return module;
}

/** Devices of objects that are no longer used, for the next ones. */
const spares = new Spares();

async function compile(file: string): Promise<WebAssembly.Module> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await readFile(asset(file)));
  } catch (cause) {
    throw new FaceNetError(
      'internal',
      `${file}: part of this package, got no readable file. Install the package again, or run node build.mjs.`,
      { cause },
    );
  }
  return WebAssembly.compile(bytes);
}

/** Sources of images that Node can read besides pixels. */
type EncodedImage = ArrayBuffer | Uint8Array | Blob | ImageBitmap | string | URL;

/** Abort and progress of a download. */
interface Watched {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** `false` keeps nothing, a text is the folder to keep models in; default: the user's cache folder. */
  readonly cache?: Cache;
  /** Looks at a download before it is kept; default: it must be a model file. */
  readonly check?: (bytes: Uint8Array) => void;
}

/** Where files are kept: nowhere, in a folder, or as the user does it. */
type Cache = false | string | ModelCache | undefined;

const kept = (cache: Cache): ModelCache | undefined =>
  cache === false ? undefined : typeof cache === 'object' ? cache : directoryCache(cache);

/** A host of its own for each object: it keeps one JPEG decoder. */
export function createNodeHost() {
  const images = new ImageReader();
  return {
    get cores(): number {
      return availableParallelism();
    },

    singleThreadReason: undefined,

    relaxedSimd(): boolean {
      // Node 20 has it behind a flag that may be set while running; later versions have it anyway and ignore or refuse the flag.
      const module = new Uint8Array([
        0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 0, 253, 17, 65, 0, 253,
        17, 65, 0, 253, 17, 253, 133, 2, 11,
      ]);
      if (!WebAssembly.validate(module)) setFlagsFromString('--experimental-wasm-relaxed-simd');
      return WebAssembly.validate(module);
    },

    wasmModule: compiledModule,

    spares,

    startThread() {
      const worker = new Worker(asset('thread.js'));
      // A waiting thread must not keep a program alive that forgot dispose().
      worker.unref();
      const failed = new Promise<Error>((resolve) => {
        worker.once('error', resolve);
        worker.once('exit', (code) => resolve(new Error(`a worker ended with code ${code}`)));
      });
      return {
        post: (message: unknown) => worker.postMessage(message),
        listen: (listener: (message: never) => void) => worker.on('message', listener as (message: unknown) => void),
        failed,
        hold: (busy: boolean) => (busy ? worker.ref() : worker.unref()),
        terminate: () => worker.terminate(),
      };
    },

    /** The runtime's own WebGPU where it has one (Deno), else Dawn, from the optional package `webgpu`. */
    async gpu(): Promise<{ gpu: GPU; release(): void } | string> {
      const own = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
      if (own) return { gpu: own, release: () => {} };
      let dawn: { create(flags: string[]): GPU; globals: object };
      try {
        dawn = (await import('webgpu')) as unknown as typeof dawn;
      } catch (cause) {
        return `the optional package webgpu is not there (npm install webgpu): ${(cause as Error).message.split('\n')[0]}`;
      }
      // Dawn's Vulkan loader wants this folder to exist.
      if (!process.env.XDG_RUNTIME_DIR || !existsSync(process.env.XDG_RUNTIME_DIR)) {
        const folder = join(tmpdir(), `facenet-gpu-${process.getuid?.() ?? 0}`);
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        process.env.XDG_RUNTIME_DIR = folder;
      }
      const kept: { gpu: GPU | undefined } = { gpu: dawn.create([]) };
      return {
        get gpu() {
          return kept.gpu as GPU;
        },
        // Node can end only when nobody refers to Dawn any more.
        release: () => {
          kept.gpu = undefined;
        },
      };
    },

    // The runtime's own WebGPU does not poll.
    ...(!(globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu && { restWhileWaiting: resting() }),

    kept,

    /** OpenSSL's: WebCrypto copies its input first. */
    async sha256(bytes: Uint8Array): Promise<string> {
      return createHash('sha256').update(bytes).digest('hex');
    },

    async readImage(source: EncodedImage) {
      if (typeof source === 'string' || source instanceof URL || source instanceof Uint8Array)
        return images.read(source);
      if (source instanceof ArrayBuffer) return images.read(new Uint8Array(source));
      if (typeof Blob !== 'undefined' && source instanceof Blob)
        return images.read(new Uint8Array(await source.arrayBuffer()));
      throw new FaceNetError(
        'input',
        `image: must be pixels, bytes, a Blob, a path or a file URL, got ${source === null ? 'null' : typeof source}.`,
      );
    },

    /** A packaged name ('dlib-resnet'), a path, a file URL, or an http(s) URL, which is downloaded, checked and kept. */
    async readModel(
      source: string | URL,
      { signal, onProgress, cache, check = (found) => void readModelFile(found) }: Watched = {},
    ): Promise<{ bytes: Uint8Array; name: string }> {
      const text = String(source);
      if (/^https?:/i.test(text)) {
        const bytes = await fetchModel(text, {
          cache: kept(cache) ?? false,
          check,
          ...(signal ? { signal } : {}),
          ...(onProgress ? { onProgress } : {}),
        });
        return { bytes, name: new URL(text).pathname.replace(/^.*\//, '').replace(/\.safetensors$/, '') };
      }
      const packaged =
        typeof source === 'string' && /^[\w.-]+$/.test(source) && !existsSync(source)
          ? asset(`models/${source}.safetensors`)
          : undefined;
      const name = text.replace(/^.*[\\/]/, '').replace(/\.safetensors$/, '');
      if (packaged && !existsSync(fileURLToPath(packaged))) {
        throw new FaceNetError(
          'model',
          `create: model must be a packaged name, a file or bytes, got ${JSON.stringify(text)}, which is neither. Packaged: dlib-resnet.`,
        );
      }
      return { bytes: await readWholeFile(packaged ?? source, text, MAX_MODEL_BYTES), name };
    },
  };
}
