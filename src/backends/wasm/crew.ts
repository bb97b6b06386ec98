// The threads of one backend, all of them workers: who calls the library never blocks, so that pages may (their own thread must not sleep),
// servers stay responsive, and a worker that dies in the middle of a run is noticed by the thread that waits for nobody.
//
// A job is given by one atomic increment that wakes the sleeping threads, and answered by one message of thread 0. The threads never
// look whether the others live: that costs nothing in the barrier. When one dies (a trap, no memory, ended from outside) those that
// wait for it would do so for ever; the crew ends them all, and the run, like every later one, rejects. How a death is heard of: a trap by the
// thread's own last message; in Node any end by the event 'exit'. In a page only the crew holds its workers, so nobody else can end one;
// what cannot be started gives the event 'error'.
import type { ThreadMessage, ThreadStart } from './thread.ts';

/** A worker that runs thread.ts. */
export interface Thread {
  post(message: ThreadStart): void;
  /** Hands over everything the worker says from now on. Called once, before anything is posted. */
  listen(listener: (message: ThreadMessage) => void): void;
  /** Settles with an error when the worker ends by itself, or did not start. */
  readonly failed: Promise<Error>;
  /** Whether a program with nothing else to do waits for this worker (Node). */
  hold?(busy: boolean): void;
  terminate(): void | Promise<unknown>;
}

interface Pending {
  resolve(milliseconds: number): void;
  reject(error: Error): void;
}

/** Words of the control block of asm/plan.ts: number of the last job, its records, their count. */
const JOB = 0;
const RECORDS = 16;
const COUNT = 17;

/** Writes a job where the threads look for it; the one who calls `runJob` then runs it. */
export function writeJob(memory: WebAssembly.Memory, control: number, records: number, count: number): Int32Array {
  const words = new Int32Array(memory.buffer, control, COUNT + 1);
  words[RECORDS] = records;
  words[COUNT] = count;
  return words;
}

export class Crew {
  readonly #threads: readonly Thread[];
  readonly #memory: WebAssembly.Memory;
  readonly #control: number;
  #pending: Pending | undefined;
  #failure: Error | undefined;
  #ended = false;

  private constructor(threads: readonly Thread[], memory: WebAssembly.Memory, control: number) {
    this.#threads = threads;
    this.#memory = memory;
    this.#control = control;
  }

  /** Starts all threads and waits until they wait for jobs. @throws the first failure, when all workers are ended. */
  static async start(startThread: () => Thread, start: Omit<ThreadStart, 'thread'>): Promise<Crew> {
    const threads: Thread[] = [];
    const crew = new Crew(threads, start.memory, start.control);
    try {
      const ready: Promise<void>[] = [];
      for (let number = 0; number < start.threads; number++) {
        const thread = startThread();
        threads.push(thread);
        ready.push(
          new Promise((resolve) => {
            thread.listen((message) => {
              if (message === 'ready') resolve();
              else if ('failed' in message) crew.#fail(new Error(message.failed));
              else crew.#finish(message.milliseconds);
            });
          }),
        );
        thread.failed.then((error) => crew.#fail(error));
        thread.hold?.(true);
        thread.post({ ...start, thread: number });
      }
      await new Promise<void>((resolve, reject) => {
        crew.#pending = { resolve: () => resolve(), reject };
        if (crew.#failure) reject(crew.#failure);
        Promise.all(ready).then(() => resolve());
      });
      return crew;
    } catch (error) {
      await crew.end();
      throw error;
    } finally {
      crew.#pending = undefined;
      for (const thread of threads) thread.hold?.(false);
    }
  }

  /** Why the threads are gone, once one has died. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Workers that live. */
  get size(): number {
    return this.#ended ? 0 : this.#threads.length;
  }

  /** Runs `count` records on all threads; resolves to the milliseconds it took thread 0. One at a time. @throws `failure`. */
  async run(records: number, count: number): Promise<number> {
    if (this.#failure) throw this.#failure;
    const [master] = this.#threads;
    master?.hold?.(true);
    try {
      return await new Promise<number>((resolve, reject) => {
        this.#pending = { resolve, reject };
        const words = writeJob(this.#memory, this.#control, records, count);
        Atomics.add(words, JOB, 1);
        Atomics.notify(words, JOB);
      });
    } finally {
      this.#pending = undefined;
      master?.hold?.(false);
    }
  }

  /** Ends all workers, wherever they are. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #finish(milliseconds: number): void {
    this.#pending?.resolve(milliseconds);
  }

  #fail(error: Error): void {
    if (this.#ended) return;
    this.#failure = error;
    void this.end();
    this.#pending?.reject(error);
  }
}
