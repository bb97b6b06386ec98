// The page's end: the class of the other entries, whose calls go to a worker. Galleries and decisions, which are few numbers, stay on this side.
import { FaceNetError } from '../errors.ts';
import type {
  Clustering,
  ClusterOptions,
  CreateOptions,
  Dataset,
  Decide,
  Embeddings,
  EmbedOptions,
  Face,
  FaceGallery,
  FaceNet,
  GalleryOptions,
  Identification,
  ImageSource,
  ModelCard,
  OperatingPoint,
  Pair,
  PairEvaluation,
  Pixels,
  Profile,
  Progress,
  SaveOptions,
  TrainOptions,
  TrainResult,
  TrainStep,
  Verification,
  Watch,
} from '../facenet-gpu.ts';
import { pointFor } from '../faces/operating-point.ts';
import { type ErrorData, errorData, errorFrom, type FromWorker, type State, type ToWorker } from './messages.ts';

/** A worker that runs the service. */
export interface Connection {
  post(message: ToWorker, transfer: readonly Transferable[]): void;
  /** Called once each. `onFailure`: the worker is gone, or never came. */
  listen(onMessage: (message: FromWorker) => void, onFailure: (error: Error) => void): void;
  /** Whether anybody waits for the worker: without that it keeps no program alive. */
  hold(waited: boolean): void;
  terminate(): unknown;
}

/** What differs between a page and Node. */
export interface Place {
  start(): Connection;
  /** An address or a path as the worker understands it, which may lie elsewhere. */
  address(source: string | URL): string;
  /** A picture of something that cannot be sent, such as an element; undefined for everything else. */
  bitmap(source: unknown): Promise<ImageBitmap> | undefined;
}

/** What a call may say besides: about its memory. */
export interface Handover {
  /**
   * True: buffers and bitmaps of the faces are handed over to the worker instead of being copied, and are empty afterwards. Each
   * may then be given once only.
   */
  readonly transfer?: boolean;
}

/** Options of `create` in a worker: a device of the caller's stays in its own thread, so there is none. */
export type WorkerCreateOptions = Omit<CreateOptions, 'device' | 'gpu'> & Handover;

/** Answers questions of the worker that belong to one call. */
type Answerer = (what: string, args: readonly unknown[], transfer: Transferable[]) => Promise<unknown>;

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Numbers calls, pairs them with replies, and answers what the worker asks. */
class Line {
  readonly #connection: Connection;
  readonly #waiting = new Map<number, Waiting>();
  readonly #progress = new Map<number, (progress: Progress) => void>();
  readonly #answerers = new Map<number, Answerer>();
  #calls = 0;
  #failure: FaceNetError | undefined;
  state: State | undefined;
  onLost: ((info: { reason: string; recovered: boolean }) => void) | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    connection.listen(
      (message) => this.#receive(message),
      (cause) => {
        this.#failure = new FaceNetError('internal', `worker: it must keep running, got '${cause.message}'.`, {
          cause,
        });
        for (const { reject } of this.#waiting.values()) reject(this.#failure);
        this.#waiting.clear();
      },
    );
  }

  next(): number {
    return ++this.#calls;
  }

  /** Posts a call and waits for its reply. `open`: what belongs to the call lives until close(). */
  async call(
    method: string,
    args: readonly unknown[],
    {
      id = this.next(),
      watch = {},
      answerer,
      transfer = [],
      open = false,
    }: { id?: number; watch?: Watch; answerer?: Answerer; transfer?: readonly Transferable[]; open?: boolean } = {},
  ): Promise<unknown> {
    if (this.#failure) throw this.#failure;
    const { signal, onProgress } = watch;
    if (signal?.aborted)
      throw new FaceNetError('aborted', `${method}: the call was aborted.`, { cause: signal.reason });
    if (onProgress) this.#progress.set(id, onProgress);
    if (answerer) this.#answerers.set(id, answerer);
    const abort = () => this.#post({ abort: id, reason: errorData(signal?.reason) });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        this.#connection.hold(true);
        try {
          this.#post({ call: id, method, args }, transfer);
        } catch (cause) {
          reject(
            new FaceNetError(
              'input',
              `${method}: everything given must be data that a worker can receive, got '${(cause as Error).message}'.`,
              { cause },
            ),
          );
        }
      });
    } catch (error) {
      open = false;
      throw error;
    } finally {
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#connection.hold(false);
      if (!open) {
        signal?.removeEventListener('abort', abort);
        this.close(id);
      }
    }
  }

  close(id: number): void {
    this.#progress.delete(id);
    this.#answerers.delete(id);
  }

  terminate(): void {
    this.#connection.terminate();
  }

  #post(message: ToWorker, transfer: readonly Transferable[] = []): void {
    this.#connection.post(message, transfer);
  }

  #receive(message: FromWorker): void {
    if ('progress' in message) this.#progress.get(message.progress)?.(message.value);
    else if ('lost' in message) this.onLost?.(message.lost);
    else if ('ask' in message) void this.#answer(message.ask, message.of, message.what, message.args);
    else {
      if (message.state) this.state = message.state;
      const waiting = this.#waiting.get(message.reply);
      if (message.error) waiting?.reject(errorFrom(message.error));
      else waiting?.resolve(message.value);
    }
  }

  async #answer(ask: number, of: number, what: string, args: readonly unknown[]): Promise<void> {
    const transfer: Transferable[] = [];
    try {
      const value = await this.#answerers.get(of)?.(what, args, transfer);
      this.#post({ answer: ask, value }, transfer);
    } catch (error) {
      this.#post({ answer: ask, error: errorData(error) });
    }
  }
}

/** Makes the object in a worker of its own. What the entries' `create` calls. */
export async function connect(place: Place, options: WorkerCreateOptions): Promise<Connected> {
  const { model, signal, onProgress, onDeviceLost, cache, transfer: handOver, ...rest } = options;
  if ('device' in options || 'gpu' in options)
    throw new FaceNetError(
      'input',
      'create: a device belongs to the thread that made it, got one for a worker. Use the class of the main entry, or leave it out.',
    );
  const line = new Line(place.start());
  if (onDeviceLost) line.onLost = onDeviceLost;
  const answerer: Answerer = async (what, [key, bytes]) => {
    if (typeof cache !== 'object') return undefined;
    return what === 'match' ? cache.match(key as string) : cache.put(key as string, bytes as Uint8Array);
  };
  const sent = {
    ...rest,
    model: typeof model === 'string' || model instanceof URL ? place.address(model) : model,
    ...(cache !== undefined && { cache: typeof cache === 'object' ? true : cache }),
    ...(signal && { signal: true }),
    ...(onProgress && { onProgress: true }),
    ...(onDeviceLost && { onDeviceLost: true }),
  };
  const transfer: Transferable[] = [];
  if (handOver) collect(model, transfer);
  try {
    const watch = { ...(signal && { signal }), ...(onProgress && { onProgress }) };
    await line.call('create', [sent], { watch, answerer, transfer });
  } catch (error) {
    line.terminate();
    throw error;
  }
  return { place, line };
}

/** What the worker's runtime can do. */
export async function probeInWorker(place: Place): Promise<unknown> {
  const line = new Line(place.start());
  try {
    return await line.call('probe', []);
  } finally {
    line.terminate();
  }
}

/** What connect() gives to the constructor. */
export interface Connected {
  readonly place: unknown;
  readonly line: unknown;
}

/**
 * FaceNet in a worker: the methods and errors of the class of the main entry, while the calling thread stays free. Differences:
 * `counters()` is a promise, `transfer` hands memory over, and what cannot be sent is refused: a device, a schedule that is a function.
 */
export class FaceNetInWorker implements Omit<FaceNet, 'counters' | 'lend'> {
  readonly #place: Place;
  readonly #line: Line;
  #disposed: Promise<void> | undefined;

  /** Use `create`. */
  constructor({ place, line }: Connected) {
    this.#place = place as Place;
    this.#line = line as Line;
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.dispose() });
  }

  get backend(): 'webgpu' | 'wasm' {
    return this.#state.backend;
  }

  /** Which device computes in the worker, and why it was taken. */
  get why(): string {
    return `in a worker: ${this.#state.why}`;
  }

  get model(): ModelCard {
    return this.#state.model;
  }

  /** Length of an embedding. */
  get dimensions(): number {
    return this.#state.dimensions;
  }

  /** Names model and preprocessing: embeddings of equal fingerprints may be compared. */
  get fingerprint(): string {
    return this.#state.fingerprint;
  }

  /** Other fingerprints of this very model, in files of versions before. */
  get former(): readonly string[] {
    return this.#state.former;
  }

  /** Whether embeddings with this fingerprint are this model's: made with it as it is, by this version of the library or one before. */
  isOwn(fingerprint: string): boolean {
    return fingerprint === this.fingerprint || this.former.includes(fingerprint);
  }

  get #state(): State {
    return this.#line.state as State;
  }

  /** The crop the model will see: aligned to its template and resized, as RGB bytes. */
  async align(face: Face, options: Handover = {}): Promise<Pixels> {
    const transfer: Transferable[] = [];
    const sent = await this.#face(face, options, transfer);
    return (await this.#call('align', [sent], { transfer })) as Pixels;
  }

  /** One embedding per face, in order. An iterable is read as the worker needs it. */
  async embed(
    faces: Face | Iterable<Face> | AsyncIterable<Face>,
    options: EmbedOptions & Handover = {},
  ): Promise<Embeddings> {
    const { watch, rest } = split(options);
    if (isMany(faces)) {
      const answerer = answers(faces, (face, transfer) => this.#face(face, options, transfer));
      return embeddings(await this.#call('embed', [many, rest], { watch, answerer }));
    }
    const transfer: Transferable[] = [];
    const sent = await this.#face(faces, options, transfer);
    return embeddings(await this.#call('embed', [sent, rest], { watch, transfer }));
  }

  /** The same as a stream of batches. */
  async *embedStream(
    faces: Iterable<Face> | AsyncIterable<Face>,
    options: EmbedOptions & Handover = {},
  ): AsyncGenerator<Embeddings> {
    const answerer = answers(faces, (face, transfer) => this.#face(face, options, transfer));
    for await (const part of this.#stream('embedStream', many, options, answerer)) yield embeddings(part);
  }

  /** Whether two faces are one person. */
  async verify(
    a: Face | Embeddings,
    b: Face | Embeddings,
    options: Decide & Watch & Handover = {},
  ): Promise<Verification> {
    const transfer: Transferable[] = [];
    const sent = [await this.#either(a, options, transfer), await this.#either(b, options, transfer)];
    const { watch, rest } = split(options);
    return (await this.#call('verify', [...sent, rest], { watch, transfer })) as Verification;
  }

  /** Who a face is, in an open set. The gallery is searched in the calling thread. */
  async identify(
    face: Face | Embeddings,
    gallery: FaceGallery,
    options: Decide & Watch & Handover & { limit?: number } = {},
  ): Promise<Identification> {
    const point = this.operatingPoint(options);
    const { watch } = split(options);
    const query = isEmbeddings(face) ? face : await this.embed(face, { ...watch, transfer: options.transfer ?? false });
    if (query.count !== 1)
      throw new FaceNetError('input', `identify: the face must be one embedding, got ${query.count}.`);
    const [found] = await gallery.identify(query, point, options.limit === undefined ? {} : { limit: options.limit });
    return found as Identification;
  }

  /** A gallery for this model's embeddings, in the calling thread. */
  async gallery(options: Omit<GalleryOptions, 'fingerprint' | 'former' | 'dimensions'> = {}): Promise<FaceGallery> {
    this.#check('gallery');
    const [{ FaceGallery }, { readGallery, writeGallery }] = await Promise.all([
      import('../faces/gallery.ts'),
      import('../io/gallery-file.ts'),
    ]);
    const { fingerprint, former, dimensions } = this;
    return FaceGallery.open({
      codec: { write: writeGallery, read: readGallery },
      ...options,
      fingerprint,
      former,
      dimensions,
    });
  }

  /** Groups faces: -1 for a face in no group. */
  async cluster(
    faces: Embeddings | Iterable<Face>,
    options: ClusterOptions & Watch & Handover = {},
  ): Promise<Clustering> {
    const { watch, rest } = split(options);
    if (isEmbeddings(faces))
      return (await this.#call('cluster', [withoutErrors(faces), rest], { watch })) as Clustering;
    const answerer = answers(faces, (face, transfer) => this.#face(face, options, transfer));
    return (await this.#call('cluster', [many, rest], { watch, answerer })) as Clustering;
  }

  /** LFW's protocol on pairs. */
  async evaluate(
    pairs: Iterable<Pair> | AsyncIterable<Pair>,
    options: EmbedOptions & { folds?: number; fars?: readonly number[] } = {},
  ): Promise<PairEvaluation> {
    const { watch, rest } = split(options);
    return (await this.#call('evaluate', [many, rest], { watch, answerer: this.#pairs(pairs) })) as PairEvaluation;
  }

  /** Fits a threshold for your own cameras and people. */
  async calibrate(
    pairs: Iterable<Pair> | AsyncIterable<Pair>,
    options: EmbedOptions & { far: number; source?: string },
  ): Promise<OperatingPoint> {
    const { watch, rest } = split(options);
    return (await this.#call('calibrate', [many, rest], { watch, answerer: this.#pairs(pairs) })) as OperatingPoint;
  }

  /** The line that decisions with these options are made at. */
  operatingPoint(options: Decide = {}): OperatingPoint {
    return pointFor(options, this.model.points);
  }

  /** Time per kernel of one batch. */
  async profile(options: { batch?: number; runs?: number } & Watch = {}): Promise<Profile> {
    const { watch, rest } = split(options);
    return (await this.#call('profile', [rest], { watch })) as Profile;
  }

  /** Trains in the worker; pictures are read here, when a step needs them. Each yield is one finished step; stop by `break`. */
  async *train(data: Dataset, options: TrainOptions): AsyncGenerator<TrainStep, TrainResult> {
    const { validation, ...rest } = options;
    const heldOut = validation && 'labels' in validation ? validation : undefined;
    const answerer: Answerer = async (what, [index]) => {
      const set = what === 'held-out' ? (heldOut as Dataset) : data;
      return { image: await set.read(index as number), source: set.source?.(index as number) };
    };
    const sent = heldOut
      ? { labels: heldOut.labels }
      : validation && (await Promise.all((validation as readonly Pair[]).map((pair) => this.#pair(pair, []))));
    const all = { ...rest, ...(sent && { validation: sent }) };
    return (yield* this.#stream('train', data.labels, all, answerer)) as TrainResult;
  }

  /** Everything the run in progress, or the last one, needs to go on. */
  async checkpoint(): Promise<Uint8Array> {
    return (await this.#call('checkpoint', [])) as Uint8Array;
  }

  /** The weights with their card, as safetensors. */
  async save(options: SaveOptions = {}): Promise<Uint8Array> {
    return (await this.#call('save', [options])) as Uint8Array;
  }

  /** What the worker's backend holds; equal before and after means nothing leaked. */
  async counters(): Promise<ReturnType<FaceNet['counters']>> {
    return (await this.#call('counters', [])) as ReturnType<FaceNet['counters']>;
  }

  /** Frees every buffer and ends the worker. Twice is allowed; other calls then reject with 'disposed'. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#line
      .call('dispose', [])
      .catch(() => {})
      .then(() => this.#line.terminate());
    return this.#disposed;
  }

  #check(method: string): void {
    if (this.#disposed) throw new FaceNetError('disposed', `${method}: this FaceNetGPU was disposed.`);
  }

  async #call(...[method, args, about]: Parameters<Line['call']>): Promise<unknown> {
    this.#check(method);
    return this.#line.call(method, args, about);
  }

  async *#stream<T>(
    method: string,
    first: unknown,
    options: Watch & Handover,
    answerer: Answerer,
  ): AsyncGenerator<T, unknown> {
    this.#check(method);
    const { watch, rest } = split(options);
    const id = this.#line.next();
    try {
      await this.#line.call(method, [first, rest], { id, watch, answerer, open: true });
      while (true) {
        const { done, value } = (await this.#call('values', [id])) as { done: boolean; value: unknown };
        if (done) return value;
        yield value as T;
      }
    } finally {
      // Gone with the worker where that was disposed.
      if (!this.#disposed) await this.#line.call('end', [id]);
      this.#line.close(id);
    }
  }

  #pairs(pairs: Iterable<Pair> | AsyncIterable<Pair>): Answerer {
    return answers(pairs, (pair, transfer) => this.#pair(pair, transfer));
  }

  async #pair({ a, b, ...about }: Pair, transfer: Transferable[]): Promise<unknown> {
    return { ...about, a: await this.#either(a, {}, transfer), b: await this.#either(b, {}, transfer) };
  }

  async #either(face: Face | Embeddings, options: Handover, transfer: Transferable[]): Promise<unknown> {
    return isEmbeddings(face) ? withoutErrors(face) : this.#face(face, options, transfer);
  }

  /** A face as it can be sent. */
  async #face(face: Face, options: Handover, transfer: Transferable[]): Promise<unknown> {
    if (typeof face !== 'object' || face === null || !('landmarks' in face))
      return this.#image(face as ImageSource, options, transfer);
    return { ...face, image: await this.#image(face.image, options, transfer) };
  }

  async #image(image: ImageSource, { transfer: handOver }: Handover, transfer: Transferable[]): Promise<unknown> {
    if (typeof image === 'string' || image instanceof URL) return this.#place.address(image);
    const bitmap = await this.#place.bitmap(image);
    if (bitmap) transfer.push(bitmap);
    else if (handOver) collect(image, transfer);
    return bitmap ?? image;
  }
}

/** Stands for an iterable, whose items are asked for. */
const many = { iterator: true } as const;

/** What can be handed over of an image or a model. */
function collect(source: unknown, transfer: Transferable[]): void {
  const data = typeof source === 'object' && source !== null && 'data' in source ? source.data : source;
  if (data instanceof ArrayBuffer) transfer.push(data);
  else if (ArrayBuffer.isView(data)) {
    if (data.buffer instanceof ArrayBuffer) transfer.push(data.buffer);
  } else if (typeof ImageBitmap === 'function' && data instanceof ImageBitmap) transfer.push(data);
}

/** Answers 'next' and 'return' from an iterable, each item by `send`. */
function answers<T>(
  items: Iterable<T> | AsyncIterable<T>,
  send: (item: T, transfer: Transferable[]) => Promise<unknown>,
): Answerer {
  let source: AsyncIterator<T> | Iterator<T> | undefined;
  return async (what, _, transfer) => {
    source ??= Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
    if (what === 'return') {
      await source.return?.(undefined);
      return undefined;
    }
    const next = await source.next();
    return next.done ? { done: true } : { done: false, value: await send(next.value, transfer) };
  };
}

/** What stays here of the options, and what goes with the call. */
function split<T extends Watch & Handover>(options: T): { watch: Watch; rest: object } {
  const { signal, onProgress, transfer: _, ...rest } = options;
  const watch = { ...(signal && { signal }), ...(onProgress && { onProgress }) };
  return { watch, rest: { ...rest, ...(signal && { signal: true }), ...(onProgress && { onProgress: true }) } };
}

/** Embeddings from the worker, with errors that are errors again. */
function embeddings(value: unknown): Embeddings {
  const { skipped, ...rest } = value as Omit<Embeddings, 'skipped'> & {
    skipped: { index: number; error: ErrorData }[];
  };
  return { ...rest, skipped: skipped.map(({ index, error }) => ({ index, error: errorFrom(error) as FaceNetError })) };
}

const withoutErrors = (value: Embeddings): Embeddings => ({ ...value, skipped: [] });

const isEmbeddings = (face: Face | Iterable<Face> | Embeddings): face is Embeddings =>
  typeof face === 'object' && face !== null && 'fingerprint' in face;

/** A string and bytes are faces, not iterables. What is no face at all is left to the worker to refuse. */
const isMany = (faces: Face | Iterable<Face> | AsyncIterable<Face>): faces is Iterable<Face> | AsyncIterable<Face> =>
  typeof faces === 'object' &&
  faces !== null &&
  !ArrayBuffer.isView(faces) &&
  (Symbol.iterator in faces || Symbol.asyncIterator in faces);
