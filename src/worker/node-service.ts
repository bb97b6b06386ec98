// What the thread of `facenet-gpu/worker` runs in Node.
import { type Transferable as NodeTransferable, parentPort } from 'node:worker_threads';
import { FaceNetGPU } from '../node.ts';
import type { ToWorker } from './messages.ts';
import { Service } from './service.ts';

const service = new Service(
  { post: (message, transfer) => parentPort?.postMessage(message, transfer as unknown as NodeTransferable[]) },
  FaceNetGPU,
);
parentPort?.on('message', (message: ToWorker) => service.receive(message));
