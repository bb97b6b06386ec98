// The entry `facenet-gpu/worker` in pages: the work is done in a module worker, which may start threads and use the GPU.
import type { Capabilities } from '../facenet-gpu.ts';
import {
  type Connection,
  connect,
  FaceNetInWorker,
  type Place,
  probeInWorker,
  type WorkerCreateOptions,
} from './client.ts';

export { FaceNetError, type FaceNetErrorCode } from '../errors.ts';
export { memoryDataset } from '../train/dataset.ts';
export type { Handover, WorkerCreateOptions } from './client.ts';

const page: Place = {
  start(): Connection {
    const worker = new Worker(new URL('./worker-service.js', import.meta.url), { type: 'module' });
    return {
      post: (message, transfer) => worker.postMessage(message, [...transfer]),
      listen(onMessage, onFailure) {
        worker.addEventListener('message', ({ data }) => onMessage(data));
        // A script that cannot be loaded gives an event without message.
        worker.addEventListener('error', ({ message }) =>
          onFailure(new Error(message || 'worker-service.js could not be loaded; it must lie beside the library')),
        );
        worker.addEventListener('messageerror', () => onFailure(new Error('a message could not be read')));
      },
      hold: () => {},
      terminate: () => worker.terminate(),
    };
  },

  // Relative to the page, not to the worker's script. The name of a packaged model is no address.
  address: (source) =>
    typeof source === 'string' && /^[\w-]+$/.test(source)
      ? source
      : new URL(source, 'document' in globalThis ? document.baseURI : location.href).href,

  bitmap(source) {
    const drawable = [
      'HTMLImageElement',
      'HTMLCanvasElement',
      'HTMLVideoElement',
      'OffscreenCanvas',
      'VideoFrame',
    ] as const;
    return drawable.some((name) => typeof globalThis[name] === 'function' && source instanceof globalThis[name])
      ? createImageBitmap(source as ImageBitmapSource, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' })
      : undefined;
  },
};

/** FaceNet in a module worker of its own. The page's thread stays free; several objects compute beside each other. */
export class FaceNetGPU extends FaceNetInWorker {
  /** Starts a worker, which loads, checks, compiles and warms a model. */
  static async create(options: WorkerCreateOptions): Promise<FaceNetGPU> {
    return new FaceNetGPU(await connect(page, options));
  }

  /** What a worker of this browser can do. */
  static async probe(): Promise<Capabilities> {
    return (await probeInWorker(page)) as Capabilities;
  }
}
