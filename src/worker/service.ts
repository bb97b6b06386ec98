// The worker's end: makes the object, calls its methods, tells how it goes. Runs in a module worker or in a thread of Node.
import { FaceNetError } from '../errors.ts';
import type { CreateOptions, Embeddings, Face, FaceNet, Pair, Pixels } from '../facenet-gpu.ts';
import type { Dataset, TrainingImage } from '../train/dataset.ts';
import { type ErrorData, errorData, errorFrom, type Port, type State, type ToWorker } from './messages.ts';

/** What the place makes: the class of Node or that of browsers. */
export interface Maker {
  create(options: CreateOptions): Promise<FaceNet>;
  probe(): Promise<unknown>;
}

/** Options as they come: what belongs to this side is put back. */
interface SentOptions {
  readonly signal?: boolean;
  readonly onProgress?: boolean;
  readonly onDeviceLost?: boolean;
  readonly [name: string]: unknown;
}

type Stream = AsyncGenerator<unknown, unknown>;

/** Answers the messages of one page. `receive` takes each of them. */
export class Service {
  readonly #port: Port;
  readonly #maker: Maker;
  #net: FaceNet | undefined;
  readonly #aborts = new Map<number, AbortController>();
  readonly #streams = new Map<number, Stream>();
  readonly #questions = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #asked = 0;
  /** The state that the page knows. */
  #told = '';

  constructor(port: Port, maker: Maker) {
    this.#port = port;
    this.#maker = maker;
  }

  receive(message: ToWorker): void {
    if ('abort' in message) this.#aborts.get(message.abort)?.abort(errorFrom(message.reason));
    else if ('answer' in message) {
      const question = this.#questions.get(message.answer);
      this.#questions.delete(message.answer);
      if (message.error) question?.reject(errorFrom(message.error));
      else question?.resolve(message.value);
    } else void this.#answer(message.call, message.method, message.args);
  }

  async #answer(call: number, method: string, args: readonly unknown[]): Promise<void> {
    let value: unknown;
    let error: ErrorData | undefined;
    try {
      value = await this.#perform(call, method, args);
    } catch (thrown) {
      error = errorData(thrown);
    }
    if (!this.#streams.has(call)) this.#aborts.delete(call);
    const state = this.#state();
    this.#post({ reply: call, ...(error ? { error } : { value }), ...(state && { state }) }, buffersOf(value));
  }

  async #perform(call: number, method: string, args: readonly unknown[]): Promise<unknown> {
    if (method === 'probe') return this.#maker.probe();
    if (method === 'create') {
      const options = this.#options(call, args[0]);
      const cache = options.cache === true ? this.#cache(call) : options.cache;
      this.#net = await this.#maker.create({
        ...options,
        ...(cache !== undefined && { cache }),
      } as unknown as CreateOptions);
      return undefined;
    }
    const net = this.#net as FaceNet;
    const [first, second, third] = args;
    switch (method) {
      case 'align':
        return net.align(first as Face);
      case 'embed':
        return sendable(await net.embed(this.#faces(call, first), this.#options(call, second)));
      case 'embedStream':
        return this.#open(
          call,
          net.embedStream(this.#faces(call, first) as AsyncIterable<Face>, this.#options(call, second)),
        );
      case 'verify':
        return net.verify(first as Face, second as Face, this.#options(call, third));
      case 'cluster':
        return net.cluster(
          (isIterator(first) ? await this.#all(call) : first) as Embeddings | Face[],
          this.#options(call, second),
        );
      case 'evaluate':
        return net.evaluate(this.#items<Pair>(call), this.#options(call, second));
      case 'calibrate':
        return net.calibrate(this.#items<Pair>(call), this.#options(call, second) as { far: number });
      case 'profile':
        return net.profile(this.#options(call, first));
      case 'train':
        return this.#open(call, this.#train(net, call, first as Int32Array, second));
      case 'checkpoint':
        return net.checkpoint();
      case 'save':
        return net.save(first as object);
      case 'counters':
        return net.counters();
      case 'values': {
        const next = await (this.#streams.get(first as number) as Stream).next();
        return { done: next.done ?? false, value: sendable(next.value) };
      }
      case 'end': {
        const stream = this.#streams.get(first as number);
        this.#streams.delete(first as number);
        this.#aborts.delete(first as number);
        await stream?.return(undefined);
        return undefined;
      }
      case 'dispose':
        return net.dispose();
      default:
        throw new FaceNetError('internal', `worker: a method that both sides know, got ${method}.`);
    }
  }

  #open(call: number, stream: Stream): undefined {
    this.#streams.set(call, stream);
  }

  #options(call: number, sent: unknown): Record<string, unknown> {
    const { signal, onProgress, onDeviceLost, ...rest } = (sent ?? {}) as SentOptions;
    const options: Record<string, unknown> = rest;
    if (signal) {
      const controller = new AbortController();
      this.#aborts.set(call, controller);
      options.signal = controller.signal;
    }
    if (onProgress) options.onProgress = (value: unknown) => this.#post({ progress: call, value });
    if (onDeviceLost) options.onDeviceLost = (lost: unknown) => this.#post({ lost });
    return options;
  }

  #ask(of: number, what: string, args: readonly unknown[] = []): Promise<unknown> {
    const ask = ++this.#asked;
    return new Promise((resolve, reject) => {
      this.#questions.set(ask, { resolve, reject });
      this.#post({ ask, of, what, args });
    });
  }

  #faces(call: number, first: unknown): Face | AsyncIterable<Face> {
    return isIterator(first) ? this.#items<Face>(call) : (first as Face);
  }

  async #all(call: number): Promise<Face[]> {
    const faces: Face[] = [];
    for await (const face of this.#items<Face>(call)) faces.push(face);
    return faces;
  }

  /** The page's iterable, fetched one by one as it is needed: a long list is never here as a whole. */
  #items<T>(call: number): AsyncIterable<T> {
    const next = () => this.#ask(call, 'next') as Promise<IteratorResult<T>>;
    const end = async (): Promise<IteratorResult<T>> => {
      await this.#ask(call, 'return');
      return { done: true, value: undefined };
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: end }) };
  }

  #train(net: FaceNet, call: number, labels: Int32Array, sent: unknown): Stream {
    const options = this.#options(call, sent);
    const { validation } = options as { validation?: { labels: Int32Array } | readonly Pair[] };
    if (validation && 'labels' in validation) options.validation = this.#dataset(call, validation.labels, 'held-out');
    return net.train(this.#dataset(call, labels, 'read'), options as never);
  }

  #dataset(call: number, labels: Int32Array, what: 'read' | 'held-out'): Dataset {
    const names = new Map<number, string>();
    return {
      labels,
      read: async (index) => {
        const { image, source } = (await this.#ask(call, what, [index])) as { image: TrainingImage; source?: string };
        if (source !== undefined) names.set(index, source);
        return image;
      },
      source: (index) => names.get(index) ?? `${what === 'read' ? 'picture' : 'held-out picture'} ${index}`,
    };
  }

  #cache(call: number): CreateOptions['cache'] {
    return {
      match: (key) => this.#ask(call, 'match', [key]) as Promise<Uint8Array | undefined>,
      put: (key, bytes) => this.#ask(call, 'put', [key, bytes]) as Promise<void>,
    };
  }

  /** The object's state where the page does not know it. */
  #state(): State | undefined {
    if (!this.#net) return undefined;
    const { backend, why, dimensions, fingerprint, former, model } = this.#net;
    const state: State = { backend, why, dimensions, fingerprint, former, model };
    const text = JSON.stringify(state);
    if (text === this.#told) return undefined;
    this.#told = text;
    return state;
  }

  #post(message: unknown, transfer: readonly Transferable[] = []): void {
    this.#port.post(message, transfer);
  }
}

const isIterator = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'iterator' in value && value.iterator === true;

/** Embeddings with their errors as data; everything else as it is. */
function sendable(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('skipped' in value)) return value;
  const { skipped, ...rest } = value as Embeddings;
  return { ...rest, skipped: skipped.map(({ index, error }) => ({ index, error: errorData(error) })) };
}

/** Memory of a result, which nobody here needs any more. */
function buffersOf(value: unknown): Transferable[] {
  if (typeof value !== 'object' || value === null) return [];
  if (value instanceof Uint8Array) return transferable(value);
  const { data, value: inner } = value as Partial<Pixels> & { value?: unknown };
  return data instanceof Float32Array || data instanceof Uint8Array ? transferable(data) : buffersOf(inner);
}

/** A whole buffer of its own can be handed over; part of one, or shared memory, is copied. */
const transferable = ({ buffer, byteLength }: ArrayBufferView): Transferable[] =>
  buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
