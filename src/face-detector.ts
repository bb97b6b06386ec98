/**
 * Faces in photos, as an object that is opened, asked and disposed of. What detects (`faces/detection`), and what reads detector files, is imported
 * when a detector is opened: a page that only embeds loads none of it. The entries for Node and for browsers add `create`.
 */
import { type Opened, openBackend } from './backends/open.ts';
import { FaceNetError } from './errors.ts';
import { CallQueue } from './facenet-gpu/call-queue.ts';
import { type CreateOptions, FaceNet, type Host, type ImageSource, type Watch } from './facenet-gpu.ts';
import type { DetectedFace, DetectionModel } from './faces/detection/detection.ts';
import { checkPixels, isPixels } from './faces/preprocessing.ts';

export type { DetectedFace } from './faces/detection/detection.ts';

/** A detector's file: its path or URL ('tiny-face' in a clone of the repository), or its bytes; MTCNN's weights also as others keep them. */
export type DetectorSource = string | URL | ArrayBuffer | Uint8Array;

export interface DetectorOptions
  extends Pick<
    CreateOptions,
    'backend' | 'device' | 'gpu' | 'threads' | 'relaxed' | 'sha256' | 'cache' | 'onDeviceLost' | 'signal' | 'onProgress'
  > {
  /**
   * What detects: a detector file of ours, facenet-pytorch's three networks in one file (.pt or .safetensors), or a list of three files,
   * facenet's det1.npy, det2.npy, det3.npy or facenet-pytorch's pnet.pt, rnet.pt, onet.pt. Never a hidden download.
   */
  readonly model: DetectorSource | readonly DetectorSource[];
  /** Detect on the device of this object, which has to outlive the detector. */
  readonly share?: FaceNet;
}

export interface DetectOptions extends Watch {
  /** Shorter side of the smallest face looked for, pixels of the photo, from 1; default: the detector's for the photo's size. */
  readonly minFace?: number;
  /** Faces with a lower score are left out, 0 to 1; default: the detector's. */
  readonly minScore?: number;
  /** Most faces returned, the best; default: all. */
  readonly limit?: number;
}

/** What `loadDetector` hands to the constructor. */
interface Parts {
  readonly network: string;
  readonly on: (opened: Opened) => Promise<DetectionModel>;
  /** The device to detect on now. Of a shared object it may change. */
  readonly device: (lost?: Opened) => Promise<Opened>;
  readonly owned: boolean;
  readonly onDeviceLost?: DetectorOptions['onDeviceLost'];
  first: { readonly opened: Opened; readonly model: DetectionModel };
}

/**
 * Finds faces in photos. Calls may overlap; they run in the order in which they were made.
 * `net.embed({ image, ...face })` takes what `detect` returns.
 */
export class Detector {
  /** Kind of the detector: 'tiny-face', 'mtcnn'. */
  readonly network: string;
  readonly backend: 'webgpu' | 'wasm';
  /** Which device computes, and why it was taken. */
  readonly why: string;
  readonly #host: Host;
  readonly #parts: Parts;
  #now: Parts['first'];
  /** Whether what `#now` names was let go of. */
  #freed = false;
  /** The loss after which no other device could be had. */
  #loss: FaceNetError | undefined;
  readonly #queue = new CallQueue();
  #disposed: Promise<void> | undefined;

  /** Use `create`. */
  constructor(host: Host, parts: unknown) {
    this.#host = host;
    this.#parts = parts as Parts;
    this.#now = this.#parts.first;
    this.network = this.#parts.network;
    this.backend = this.#now.opened.backend.name;
    this.why = this.#now.opened.why;
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.dispose() });
  }

  /**
   * Faces by falling score, in pixels of the photo as displayed. No face is an answer, not an error.
   * @throws 'image' and 'input' for what is no photo, 'input' for options out of range, 'aborted', 'disposed', 'queue-full', 'device-lost'.
   */
  async detect(image: ImageSource, options: DetectOptions = {}): Promise<DetectedFace[]> {
    const { minFace, minScore, limit = Number.POSITIVE_INFINITY, signal, onProgress } = options;
    this.#check(signal);
    const refuse = (name: string, rule: string, got: unknown) => {
      throw new FaceNetError('input', `detect: ${name} must be ${rule}, got ${String(got)}.`);
    };
    if (minFace !== undefined && !(minFace >= 1 && minFace <= 65_535))
      refuse('minFace', 'pixels from 1 to 65,535', minFace);
    if (minScore !== undefined && !(minScore >= 0 && minScore <= 1)) refuse('minScore', 'from 0 to 1', minScore);
    if (!(limit >= 1)) refuse('limit', 'from 1', limit);
    this.#queue.requireRoom('detect');
    const photo = isPixels(image) ? Promise.resolve(image) : this.#host.readImage(image);
    photo.catch(() => {});
    return this.#queue.add('detect', signal, async () => {
      const pixels = await photo;
      checkPixels(pixels, 'image');
      onProgress?.({ phase: 'decode', done: 1, total: 1 });
      this.#check(signal);
      const found = await this.#repeated((model) => model.detect(pixels, { minFace, minScore, limit }, signal));
      onProgress?.({ phase: 'run', done: 1, total: 1 });
      return found;
    });
  }

  /** What the backend holds; equal before and after means nothing leaked. */
  counters(): ReturnType<Opened['backend']['counters']> {
    return this.#now.opened.backend.counters();
  }

  /** Frees every buffer; a device that was passed in or is shared stays alive. Twice is allowed; `detect` then throws 'disposed'. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#queue.settled().then(() => this.#free());
    return this.#disposed;
  }

  #check(signal: AbortSignal | undefined): void {
    if (this.#disposed) throw new FaceNetError('disposed', 'detect: this FaceDetector was disposed.');
    if (signal?.aborted) throw new FaceNetError('aborted', 'detect: the call was aborted.', { cause: signal.reason });
  }

  /** Detects; on another device, once, where this one is lost. A shared object's device is the one it has now. */
  async #repeated<T>(task: (model: DetectionModel) => Promise<T>): Promise<T> {
    if (this.#loss) await this.#recover(this.#loss);
    else await this.#moveTo(await this.#parts.device(this.#now.opened));
    try {
      return await task(this.#now.model);
    } catch (error) {
      if (!(error instanceof FaceNetError && error.code === 'device-lost')) throw error;
      await this.#recover(error);
      return task(this.#now.model);
    }
  }

  /** Another device and the model on it. Where there is none the next call tries again; a loss is told once. */
  async #recover(loss: FaceNetError): Promise<void> {
    const { device, onDeviceLost } = this.#parts;
    const tell = (recovered: boolean) => {
      if (loss !== this.#loss) onDeviceLost?.({ reason: loss.message, recovered });
    };
    try {
      await this.#free();
      await this.#moveTo(await device());
    } catch (cause) {
      tell(false);
      this.#loss = loss;
      throw new FaceNetError('device-lost', `${loss.message} No other could be had: ${(cause as Error).message}`, {
        cause,
      });
    }
    tell(true);
    this.#loss = undefined;
  }

  async #moveTo(opened: Opened): Promise<void> {
    if (opened === this.#now.opened && !this.#freed) return;
    const model = await this.#parts.on(opened);
    await this.#free();
    this.#now = { opened, model };
    this.#freed = false;
  }

  /** Lets go of what lies on the device there is, lost or not. */
  async #free(): Promise<void> {
    if (this.#freed) return;
    this.#freed = true;
    const { model, opened } = this.#now;
    await model.dispose();
    if (this.#parts.owned) await opened.backend.dispose();
  }
}

/** Opens a detector's file on the backend asked for; what the entries' `create` calls. @throws 'model', 'input', 'device', 'aborted'. */
export async function loadDetector(host: Host, options: DetectorOptions): Promise<Parts> {
  const { model, share, signal, onProgress, onDeviceLost } = options;
  if (model === undefined || model === null)
    throw new FaceNetError('input', 'create: model must be a detector file, its URL or its bytes, got nothing.');
  const check = () => {
    if (signal?.aborted) throw new FaceNetError('aborted', 'create: the call was aborted.', { cause: signal.reason });
  };
  check();
  const [{ checkDetectorBytes, openDetectorFile }, { detectorWeights }, { detectors }] = await Promise.all([
    import('./io/mtcnn.ts'),
    import('./io/detector-file.ts'),
    import('./faces/detection/detectors.ts'),
  ]);
  if (share && (options.device || options.backend))
    throw new FaceNetError('input', 'create: share takes the device of that object. Leave out backend and device.');
  const list = Array.isArray(model) ? (model as readonly DetectorSource[]) : [model as DetectorSource];
  const read = await Promise.all(
    list.map(async (source) =>
      source instanceof ArrayBuffer || source instanceof Uint8Array
        ? { bytes: new Uint8Array(source), name: 'detector' }
        : host.readModel(source, { ...options, check: (bytes) => checkDetectorBytes(bytes, String(source)) }),
    ),
  );
  check();
  const name = [...new Set(read.map(({ name: one }) => one))].join(', ');
  const file = await openDetectorFile(
    read.map(({ bytes }) => bytes),
    name,
  );
  const { network } = file.metadata;
  if (!Object.hasOwn(detectors, network))
    throw new FaceNetError(
      'model',
      `${name}: the detector must be one of ${Object.keys(detectors).join(', ')}, got ${network}. Use a newer version of this package.`,
    );
  const make = detectors[network as keyof typeof detectors];
  const weights = detectorWeights(file);
  const on = async (opened: Opened) => make(weights, opened.backend, { source: name });
  const device = share ? () => FaceNet.lend(share) : async (now?: Opened) => now ?? (await openBackend(host, options));
  const opened = await device();
  try {
    const made = await on(opened);
    check();
    onProgress?.({ phase: 'compile', done: 1, total: 1 });
    return {
      network,
      on,
      device,
      owned: !share,
      first: { opened, model: made },
      ...(onDeviceLost && { onDeviceLost }),
    };
  } catch (error) {
    if (!share) await opened.backend.dispose();
    throw error;
  }
}
