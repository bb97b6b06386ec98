import { FaceNetError } from '../errors.ts';

/** Most calls that may wait on one object. */
const LIMIT = 1024;

/** The calls of one object, run one after the other in the order in which they were made, whatever became of those before. */
export class CallQueue {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** @throws 'queue-full' where no call more may wait. */
  requireRoom(method: string): void {
    if (this.#waiting >= LIMIT) {
      throw new FaceNetError(
        'queue-full',
        `${method}: at most ${LIMIT} calls may wait, got one more. Await earlier calls first.`,
      );
    }
  }

  /** Runs a task in its turn. @throws 'queue-full', 'aborted' when its turn comes too late, and what the task throws. */
  async add<T>(method: string, signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    this.requireRoom(method);
    this.#waiting++;
    const run = this.settled().then(async () => {
      // On wasm a task ends within a chain of microtasks: without a turn of the event loop no abort, timer or click would come through a full queue.
      await turn();
      if (signal?.aborted)
        throw new FaceNetError('aborted', `${method}: the call was aborted.`, { cause: signal.reason });
      return task();
    });
    this.#last = run;
    try {
      return await run;
    } finally {
      this.#waiting--;
    }
  }

  /** Resolves when all calls made so far have ended. */
  settled(): Promise<unknown> {
    return this.#last.catch(() => {});
  }
}

/** Resolves after one turn of the event loop. Not by setTimeout, which browsers stretch to 4 ms. */
const turn = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === 'function') {
      setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
