// What the module worker of `facenet-gpu/worker` runs.
import { FaceNet, load, probe } from '../facenet-gpu.ts';
import { BrowserHost } from '../io/browser-host.ts';
import type { ToWorker } from './messages.ts';
import { Service } from './service.ts';

/** Bitmaps and frames that arrive here are copies, or were handed over: closed once their pixels are read. */
class WorkerHost extends BrowserHost {
  override async readImage(...[source]: Parameters<BrowserHost['readImage']>): ReturnType<BrowserHost['readImage']> {
    try {
      return await super.readImage(source);
    } finally {
      if (source instanceof ImageBitmap) source.close();
    }
  }
}

const scope = globalThis as unknown as {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: { data: ToWorker }) => void): void;
};
const service = new Service(
  { post: (message, transfer) => scope.postMessage(message, [...transfer]) },
  {
    async create(options) {
      const host = new WorkerHost();
      return new FaceNet(host, await load(host, options));
    },
    probe: () => probe(new WorkerHost()),
  },
);
scope.addEventListener('message', ({ data }) => service.receive(data));
