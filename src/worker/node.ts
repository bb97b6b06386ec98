// The entry `facenet-gpu/worker` in Node: the work is done in a worker thread.
import { fileURLToPath } from 'node:url';
import { type Transferable as NodeTransferable, Worker } from 'node:worker_threads';
import type { Capabilities } from '../facenet-gpu.ts';
import { asset } from '../io/node/host.ts';
import {
  type Connection,
  connect,
  FaceNetInWorker,
  type Place,
  probeInWorker,
  type WorkerCreateOptions,
} from './client.ts';

export { FaceNetError, type FaceNetErrorCode } from '../errors.ts';
export { type FolderDataset, folderDataset } from '../io/node/folder-dataset.ts';
export { memoryDataset } from '../train/dataset.ts';
export type { Handover, WorkerCreateOptions } from './client.ts';

const program: Place = {
  start(): Connection {
    // Without the program's own flags, some of which a thread refuses.
    const worker = new Worker(asset('worker-service.node.js'), { execArgv: [] });
    worker.unref();
    return {
      post: (message, transfer) => worker.postMessage(message, transfer as unknown as NodeTransferable[]),
      listen(onMessage, onFailure) {
        worker.on('message', onMessage);
        worker.once('error', onFailure);
        worker.once('exit', (code) => onFailure(new Error(`the worker ended with code ${code}`)));
      },
      // A program that forgot dispose() ends; one that waits for a result does not.
      hold: (waited) => (waited ? worker.ref() : worker.unref()),
      terminate: () => worker.terminate(),
    };
  },
  address: (source) => {
    const text = String(source);
    return text.startsWith('file:') ? fileURLToPath(text) : text;
  },
  bitmap: () => undefined,
};

/** FaceNet in a worker thread of its own. The calling thread stays free; several objects compute beside each other. */
export class FaceNetGPU extends FaceNetInWorker {
  /** Starts a thread, which loads, checks, compiles and warms a model. */
  static async create(options: WorkerCreateOptions): Promise<FaceNetGPU> {
    return new FaceNetGPU(await connect(program, options));
  }

  /** What a thread of this program can do. */
  static async probe(): Promise<Capabilities> {
    return (await probeInWorker(program)) as Capabilities;
  }
}
