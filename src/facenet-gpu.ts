import type { BackendHost } from './backends/host.ts';
import { answersOf, findAdapter, hasRelaxedSimd, hasSimd, type Opened, openBackend } from './backends/open.ts';
import { FaceNetError } from './errors.ts';
import { CallQueue } from './facenet-gpu/call-queue.ts';
import { alignmentTemplate } from './faces/alignment-templates.ts';
import type { Clustering, ClusterOptions as VectorClusterOptions } from './faces/clustering.ts';
import { squaredDistance } from './faces/distance.ts';
import { concatenate, Embedder, pack } from './faces/embedder.ts';
import type { PairEvaluation, ScoredPair } from './faces/evaluation/pairs.ts';
import { difference, fingerprintOf } from './faces/fingerprint.ts';
import type { FaceGallery, GalleryOptions, Identification } from './faces/gallery.ts';
import { type Decide, decide, type OperatingPoint, pointFor, type Verification } from './faces/operating-point.ts';
import {
  checkPixels,
  type FacePlace,
  isPixels,
  type Pixels,
  type Placed,
  type Preprocessing,
  place,
} from './faces/preprocessing.ts';
import { cost, layers } from './graph/accounting.ts';
import type { Graph } from './graph/graph.ts';
import type { ModelCache } from './io/fetch-model.ts';
import {
  halfWeights,
  type ModelFile,
  type ModelMetadata,
  matchTensors,
  readModelFile,
  valuesOf,
  weightsOf,
  writeModelFile,
} from './io/model-file.ts';
import { decodeFloat16, encodeFloat16, type Tensor } from './io/safetensors.ts';
import { sha256 } from './io/sha256.ts';
import { inferenceGraph, initialise, type ParameterInfo, parametersIn, parametersOf } from './networks/initialise.ts';
import type { Network, NetworkName, Variant } from './networks/network.ts';
import { networks } from './networks/networks.ts';
import type { Backend } from './plan/runner.ts';
import { Store } from './plan/store.ts';
import type { Dataset, TrainingImage } from './train/dataset.ts';
import type {
  Trainer,
  TrainOptions as TrainerOptions,
  TrainingModel,
  TrainingState,
  TrainResult,
  TrainStep,
} from './train/trainer.ts';

export type { Clustering } from './faces/clustering.ts';
export type { PairEvaluation } from './faces/evaluation/pairs.ts';
export type { FaceGallery, GalleryOptions, Identification, Match } from './faces/gallery.ts';
export type { Decide, OperatingPoint, Verification } from './faces/operating-point.ts';
export type { Pixels } from './faces/preprocessing.ts';
export type { NetworkName } from './networks/network.ts';
export type { Augmentation } from './train/augmentation.ts';
export { type Dataset, memoryDataset, type TrainingImage } from './train/dataset.ts';
export type { CurriculumStage, LossName, MinerName, TrainPhase } from './train/phases.ts';
export type { TrainResult, TrainStep } from './train/trainer.ts';
export type { HeldOutFigures } from './train/validation.ts';

// Training, galleries, clustering and evaluation are imported when they are used: a page that embeds loads none of them.

/** Anything an image can come from. In Node a string is a file path, in browsers a URL. */
export type ImageSource = Pixels | ArrayBuffer | Uint8Array | Blob | Drawable | string | URL;

/** What a browser can draw; taken at its natural size. */
export type Drawable =
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | VideoFrame;

/**
 * A face: an image already cropped to the model's template, or a photo with landmarks (pixels: two eyes, or eyes, nose, mouth corners, or 68), and
 * the box where the model's template is one.
 */
export type Face = ImageSource | ({ readonly image: ImageSource } & FacePlace);

/** `count` unit vectors, row-major: data.length = count * dimensions. `fingerprint` names model and preprocessing; mixing two throws. */
export interface Embeddings {
  readonly data: Float32Array;
  readonly count: number;
  readonly dimensions: number;
  readonly fingerprint: string;
  /** Input index of each row. */
  readonly indices: Uint32Array;
  /** Inputs left out by `onError: 'skip'`. */
  readonly skipped: readonly { readonly index: number; readonly error: FaceNetError }[];
}

/** Work done so far: bytes while downloading, items otherwise. Phases come in this order; `total` may be unknown. */
export interface Progress {
  readonly phase: 'download' | 'verify' | 'compile' | 'tune' | 'decode' | 'run';
  readonly done: number;
  readonly total?: number;
  readonly item?: string;
}

/** Every long call takes these two. An abort rejects with code 'aborted' and leaves the object usable. */
export interface Watch {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

/** A network with seeded random weights, for training. */
export interface UntrainedModel {
  readonly network: NetworkName;
  readonly seed: number;
  readonly variant?: Variant;
  readonly dimensions?: number;
  /** Side of the square crop in pixels, 16 to 1024; default: the size the network was published for. */
  readonly size?: number;
}

/** What `save` writes besides the weights. */
export interface SaveOptions {
  /** How weights are stored; biases and statistics stay float32. Default 'float32'. */
  readonly weights?: 'float32' | 'float16';
  /** The moving average of the weights (`ema` of train) in place of the last ones. */
  readonly average?: boolean;
  /** For the card of a trained model: on which pictures, under which terms, from what. */
  readonly trainedOn?: string;
  readonly licence?: string;
  readonly source?: string;
}

export interface CreateOptions extends Watch {
  /** A model name from the packaged list, a path or URL, bytes, or an untrained network with a seed. Never a hidden download. */
  readonly model: string | URL | ArrayBuffer | Uint8Array | UntrainedModel;
  /** 'auto' (default) takes WebGPU if a hardware adapter works, else wasm; `.backend` and `.why` say which and why. */
  readonly backend?: 'auto' | 'webgpu' | 'wasm';
  /** A device of the caller: shared, never destroyed or replaced by us. */
  readonly device?: GPUDevice;
  /** Where adapters come from otherwise; default: the runtime's own. */
  readonly gpu?: GPU;
  /**
   * Called once for each device that was lost, when it has been replaced (`recovered`: the call that met the loss was repeated and gave the
   * same bits) or could not be: that call, and those after it until a device is found, then reject with 'device-lost'.
   */
  readonly onDeviceLost?: (info: { readonly reason: string; readonly recovered: boolean }) => void;
  /** Threads of the wasm backend; default: the processors, at most 8. */
  readonly threads?: number;
  /** False: only the wasm build whose bits are the same on every machine, without fused multiply-add. */
  readonly relaxed?: boolean;
  /**
   * How the weights of layers are kept on the device: 'f16' takes half the memory and rounds them to 11 bits. Computed with in float32; such a
   * model embeds, and cannot be trained. Default 'f32'.
   */
  readonly precision?: 'f32' | 'f16';
  /** Faces computed together; default 8 on processors, 32 on a GPU. Halved by itself where memory is short. */
  readonly batchSize?: number;
  /** Mean of the image's and its mirror's embedding, renormalised: about one point of accuracy for twice the time. */
  readonly mirror?: boolean;
  /**
   * WebGPU: measure which kernels are fastest on this device, the first time, and remember it in `cache`. Takes seconds; the bits of results
   * are the same with and without. Default false: by a table.
   */
  readonly tune?: boolean;
  /** SHA-256 that the downloaded model file must have, in hexadecimal. */
  readonly sha256?: string;
  /**
   * Where downloaded model files, and what `tune` measured, are kept; default: in Node the user's cache folder, in browsers the Cache API
   * (a model only where `sha256` is given). `false` keeps nothing.
   */
  readonly cache?: false | ModelCache;
}

/** Two faces and whether they are one person. A missing fold is dealt out by the evaluation. */
export interface Pair {
  readonly a: Face | Embeddings;
  readonly b: Face | Embeddings;
  readonly same: boolean;
  readonly fold?: number;
  readonly group?: string;
}

/** How faces are grouped. `threshold` defaults to the model's operating point. */
export type ClusterOptions = Partial<Pick<VectorClusterOptions, 'threshold'>> &
  Omit<VectorClusterOptions, 'threshold' | 'onProgress'>;

/** What a model is: for people who choose one, and for programs that must know what it wants. */
export interface ModelCard {
  readonly name: string;
  readonly network: NetworkName;
  readonly dimensions: number;
  readonly parameters: number;
  /** Of one image. */
  readonly multiplyAdds: number;
  readonly input: {
    readonly width: number;
    readonly height: number;
    readonly colour: 'rgb' | 'bgr';
    readonly template: { readonly name: string; readonly points: readonly (readonly [number, number])[] };
  };
  readonly points: readonly OperatingPoint[];
  readonly licence: string;
  readonly trainedOn: string;
  readonly sha256: string;
}

/** Milliseconds, multiply-adds and bytes per kernel of one batch. */
export interface Profile {
  readonly milliseconds: number;
  /** 2 x multiply-adds / time. */
  readonly gflops: number;
  readonly layers: readonly {
    readonly name: string;
    readonly operator: string;
    readonly milliseconds: number;
    readonly multiplyAdds: number;
    readonly bytes: number;
  }[];
  readonly timing: 'timestamp' | 'wall';
}

/** What this machine can do. */
export interface Capabilities {
  readonly webgpu: {
    readonly available: boolean;
    readonly why: string;
    readonly adapter?: string;
    readonly software?: boolean;
    readonly f16?: boolean;
    readonly timestamps?: boolean;
    /** Whether the adapter gives the right answers to small questions, in words. create() refuses one that does not. */
    readonly answers?: string;
  };
  readonly wasm: {
    readonly simd: boolean;
    readonly relaxedSimd: boolean;
    readonly threads: number;
    readonly why: string;
  };
}

export interface EmbedOptions extends Watch {
  /** 'throw' (default): the first unreadable input rejects, with its index. 'skip': it is left out and listed. */
  readonly onError?: 'throw' | 'skip';
}

/** How a model is trained; see TrainPhase for what a phase can say. */
export interface TrainOptions extends Omit<TrainerOptions, 'validation'> {
  /**
   * People who are not trained on: a data set, of which up to 400 pictures and all their pairs are taken, or pairs of faces. After every
   * `evaluateEvery` steps (default 20) the step's `validation` says how they fare, and the watchdog whether the network knows its own people by heart.
   */
  readonly validation?: Dataset | readonly Pair[];
  /** A checkpoint to go on from: the same data, phases and seed give the bits of the undisturbed run. */
  readonly resume?: Uint8Array;
  /**
   * Steps between two copies of the whole state that are kept outside the GPU: when the device is lost, a new one computes the steps since
   * the last copy again, to the same bits. Default 100, at least 1; a copy takes the memory of weights and optimiser.
   */
  readonly snapshotEvery?: number;
}

/** What this class needs from the place it runs in. */
export interface Host extends BackendHost {
  /** As sha256() of io/, where this place has a faster one. */
  sha256?(bytes: Uint8Array): Promise<string>;
  /** Where measurements of this machine are kept, as the option says; nowhere in places without storage. */
  kept(cache: CreateOptions['cache']): ModelCache | undefined;
  /** Pixels of an image, upright. @throws 'image' or 'input'. */
  readImage(source: Exclude<ImageSource, Pixels>): Promise<Pixels>;
  /** Bytes of a model by packaged name, path or URL, and what to call it. @throws 'model'. */
  readModel(
    source: string | URL,
    options: Pick<CreateOptions, 'signal' | 'onProgress' | 'sha256' | 'cache'> & {
      check?: (bytes: Uint8Array) => void;
    },
  ): Promise<{ bytes: Uint8Array; name: string }>;
}

/** Copies of the training state are this many steps apart unless said otherwise. */
const SNAPSHOT_STEPS = 100;

/** What is gone with a device. */
interface Device {
  readonly opened: Opened;
  readonly store: Store;
  readonly embedder: Embedder;
}

/** A run of train(), with what it takes to repeat it. */
interface Training {
  readonly trainer: Trainer;
  /** The trainer's model on another device. */
  readonly on: (device: Device) => TrainingModel;
  run: ReturnType<Trainer['run']>;
  snapshot?: TrainingState;
}

interface Parts {
  readonly device: Device;
  /** Makes all anew on another device, with the weights as they were loaded; absent on wasm, and for a device of the caller. */
  readonly replace?: (batchSize: number) => Promise<Device>;
  readonly onDeviceLost?: CreateOptions['onDeviceLost'];
  readonly mirrored: boolean;
  readonly card: ModelCard;
  readonly metadata: ModelMetadata;
  /** SHA-256 of the weights' values. */
  readonly weights: string;
  readonly precision: 'f32' | 'f16';
  /** What versions before called the same model: by its file. */
  readonly former: string;
  readonly parameters: readonly ParameterInfo[];
}

/**
 * FaceNet on one device: embeds, verifies, aligns. The entries for Node and for browsers add `create` and `probe`.
 *
 * Calls may overlap; they run in the order in which they were made.
 */
export class FaceNet {
  readonly backend: 'webgpu' | 'wasm';
  /** Which device computes, and why it was taken. */
  readonly why: string;
  get model(): ModelCard {
    return this.#points ? { ...this.#parts.card, points: this.#points } : this.#parts.card;
  }
  /** Length of an embedding. */
  readonly dimensions: number;

  readonly #host: Host;
  readonly #parts: Parts;
  readonly #queue = new CallQueue();
  /** Operating points, once calibrate() has changed them. */
  #points: readonly OperatingPoint[] | undefined;
  #device: Device;
  /** The loss that no device has been found for yet. */
  #loss: FaceNetError | undefined;
  /** The last device whose loss was told. */
  #told: Device | undefined;
  #training: Training | undefined;
  #lastState: TrainingState | undefined;
  /** Steps trained by this object. */
  #trained = 0;
  /** SHA-256 of the weights once training has changed them and is over; while it runs the step stands for it. */
  #weights: string | undefined;
  #disposed: Promise<void> | undefined;

  /** Use `create`. */
  constructor(host: Host, parts: unknown) {
    this.#host = host;
    this.#parts = parts as Parts;
    this.#device = this.#parts.device;
    this.backend = this.#device.opened.backend.name;
    this.why = this.#device.opened.why;
    this.#watch();
    this.dimensions = this.#parts.card.dimensions;
    // `await using` works where the runtime has the symbol; nothing is patched where it has not.
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.dispose() });
  }

  /** The crop the model will see: aligned to its template and resized, as RGB bytes. @throws 'image', 'input'. */
  async align(face: Face): Promise<Pixels> {
    const placed = await this.#place(face);
    return this.#enqueue('align', undefined, () => this.#device.embedder.crop(placed));
  }

  /**
   * One embedding per face, in order. A single Face (a string and a Uint8Array are faces, not iterables) gives count 1.
   * Splits into device batches itself. @throws what reading the image throws, with the input's index; 'aborted'.
   */
  async embed(faces: Face | Iterable<Face> | AsyncIterable<Face>, options: EmbedOptions = {}): Promise<Embeddings> {
    const parts: Embeddings[] = [];
    for await (const part of this.embedStream(isSingle(faces) ? [faces] : faces, options)) parts.push(part);
    return join(parts, this.dimensions, this.fingerprint);
  }

  /** The same as a stream of batches: the next batch is read and decoded while one is computed. */
  async *embedStream(
    faces: Iterable<Face> | AsyncIterable<Face>,
    options: EmbedOptions = {},
  ): AsyncGenerator<Embeddings> {
    const { signal, onProgress, onError = 'throw' } = options;
    const { mirrored } = this.#parts;
    const { embedder } = this.#device;
    const { fingerprint } = this;
    const source = Symbol.asyncIterator in faces ? faces[Symbol.asyncIterator]() : faces[Symbol.iterator]();
    const perBatch = Math.max(1, mirrored ? Math.floor(embedder.batchSize / 2) : embedder.batchSize);
    let index = 0;
    let done = 0;
    const gather = async () => {
      const placed: Placed[] = [];
      const indices: number[] = [];
      const skipped: { index: number; error: FaceNetError }[] = [];
      let ended = false;
      while (placed.length < perBatch) {
        this.#check('embed', signal);
        const next = await source.next();
        if (next.done) {
          ended = true;
          break;
        }
        const at = index++;
        try {
          placed.push(await this.#place(next.value, at));
          indices.push(at);
        } catch (cause) {
          const error = withIndex(cause, at);
          if (onError !== 'skip') throw error;
          skipped.push({ index: at, error });
        }
        onProgress?.({ phase: 'decode', done: index });
      }
      return { placed, indices, skipped, ended };
    };
    let coming = gather();
    try {
      while (true) {
        const { placed, indices, skipped, ended } = await coming;
        const computed =
          placed.length > 0
            ? this.#enqueue('embed', signal, () => this.#compute(placed))
            : Promise.resolve(new Float32Array());
        if (!ended) coming = gather();
        coming.catch(() => {});
        const data = await computed;
        done += placed.length;
        onProgress?.({ phase: 'run', done });
        if (placed.length + skipped.length > 0) {
          yield {
            data,
            count: placed.length,
            dimensions: this.dimensions,
            fingerprint,
            indices: Uint32Array.from(indices),
            skipped,
          };
        }
        if (ended) return;
      }
    } finally {
      await coming.catch(() => {});
      await source.return?.(undefined);
    }
  }

  /**
   * Whether two faces are one person: squared distance against a threshold.
   * @throws 'not-calibrated' without a threshold on a model without operating point, or with a FAR it has no point for; 'mismatch' for another model's embeddings.
   */
  async verify(a: Face | Embeddings, b: Face | Embeddings, options: Decide & Watch = {}): Promise<Verification> {
    const point = pointFor(options, this.model.points);
    const [first, second] = [await this.#one(a, 'verify: a', options), await this.#one(b, 'verify: b', options)];
    return decide(squaredDistance(first.data, second.data), point);
  }

  /**
   * Who a face is, in an open set: the nearest people of the gallery, and `label` null when nobody is near enough.
   * @throws as verify(); 'mismatch' for a gallery of another model.
   */
  async identify(
    face: Face | Embeddings,
    gallery: FaceGallery,
    options: Decide & Watch & { limit?: number } = {},
  ): Promise<Identification> {
    const point = pointFor(options, this.model.points);
    const query = await this.#one(face, 'identify: the face', options);
    const [found] = await gallery.identify(query, point, options.limit === undefined ? {} : { limit: options.limit });
    return found as Identification;
  }

  /** A gallery for this model's embeddings, in memory or in a store; searched on this object's device once it is large. @throws 'mismatch' for a store of another model. */
  async gallery(options: Omit<GalleryOptions, 'fingerprint' | 'former' | 'dimensions'> = {}): Promise<FaceGallery> {
    const [{ FaceGallery }, { deviceSearch }, { readGallery, writeGallery }] = await Promise.all([
      import('./faces/gallery.ts'),
      import('./faces/gallery/device-search.ts'),
      import('./io/gallery-file.ts'),
    ]);
    return FaceGallery.open({
      codec: { write: writeGallery, read: readGallery },
      search: deviceSearch((task) => this.#onDevice('identify', task)),
      ...options,
      fingerprint: this.fingerprint,
      former: this.former,
      dimensions: this.dimensions,
    });
  }

  /** Groups faces: -1 for a face in no group. Equal input and options give equal groups on every backend. @throws as verify() without a threshold. */
  async cluster(faces: Embeddings | Iterable<Face>, options: ClusterOptions & Watch = {}): Promise<Clustering> {
    const embeddings = isEmbeddings(faces) ? faces : await this.embed(faces, options);
    this.#checkFingerprint(embeddings, 'cluster: faces');
    const threshold = options.threshold ?? pointFor({}, this.model.points).threshold;
    const [{ clusterVectors }, { deviceRows }] = await Promise.all([
      import('./faces/clustering.ts'),
      import('./faces/clustering/device-rows.ts'),
    ]);
    const device = deviceRows((task) => this.#onDevice('cluster', task), embeddings, threshold);
    try {
      const { onProgress, ...rest } = options;
      const report = onProgress && ((done: number, total: number) => onProgress({ phase: 'run', done, total }));
      return await clusterVectors(embeddings, {
        rows: device.rows,
        ...rest,
        threshold,
        ...(report && { onProgress: report }),
      });
    } finally {
      await device.close();
    }
  }

  /**
   * LFW's protocol on pairs: accuracy over folds, VAL at FAR with intervals, ROC, DET, EER, AUC, groups. With `onError: 'skip'` a pair with
   * an unreadable image is left out of its fold and counted.
   */
  async evaluate(
    pairs: Iterable<Pair> | AsyncIterable<Pair>,
    options: EmbedOptions & { folds?: number; fars?: readonly number[] } = {},
  ): Promise<PairEvaluation> {
    const { folds, fars } = options;
    const { evaluatePairs } = await import('./faces/evaluation/pairs.ts');
    return evaluatePairs(await this.#scored(pairs, options), {
      ...(folds === undefined ? {} : { folds }),
      ...(fars === undefined ? {} : { fars }),
    });
  }

  /** Fits a threshold for your own cameras and people. The model's card and what save() writes carry it from then on. */
  async calibrate(
    pairs: Iterable<Pair> | AsyncIterable<Pair>,
    options: EmbedOptions & { far: number; source?: string },
  ): Promise<OperatingPoint> {
    const scored = (await this.#scored(pairs, options)).filter(
      (pair): pair is ScoredPair & { distance: number } => pair.distance !== null,
    );
    const distances = (same: boolean) =>
      Float64Array.from(
        scored.filter((pair) => pair.same === same),
        (pair) => pair.distance,
      ).sort();
    const { calibrate } = await import('./faces/evaluation/calibration.ts');
    const point = calibrate(
      { same: distances(true), different: distances(false) },
      { far: options.far, source: options.source ?? 'pairs given by the user' },
    );
    const points = [...this.model.points.filter((other) => (other.targetFar ?? other.far) !== options.far), point];
    this.#points = points;
    return point;
  }

  /** Distances of pairs; each picture is embedded once for each pair it is in. */
  async #scored(pairs: Iterable<Pair> | AsyncIterable<Pair>, options: EmbedOptions): Promise<ScoredPair[]> {
    const scored: ScoredPair[] = [];
    for await (const { a, b, same, fold, group } of pairs) {
      let distance: number | null = null;
      try {
        const [first, second] = [
          await this.#one(a, 'evaluate: a', options),
          await this.#one(b, 'evaluate: b', options),
        ];
        distance = squaredDistance(first.data, second.data);
      } catch (cause) {
        if (options.onError !== 'skip') throw withIndex(cause, scored.length);
      }
      scored.push({
        same,
        distance,
        ...(fold === undefined ? {} : { fold }),
        ...(group === undefined ? {} : { group }),
      });
    }
    return scored;
  }

  async #one(face: Face | Embeddings, subject: string, watch: Watch): Promise<Embeddings> {
    const embeddings = isEmbeddings(face) ? face : await this.embed(face, watch.signal ? { signal: watch.signal } : {});
    this.#checkFingerprint(embeddings, subject);
    if (embeddings.count !== 1 || embeddings.data.length !== this.dimensions) {
      throw new FaceNetError(
        'input',
        `${subject} must be one embedding of ${this.dimensions} numbers, got ${embeddings.count} of ${embeddings.dimensions}.`,
      );
    }
    return embeddings;
  }

  #checkFingerprint(embeddings: Embeddings, subject: string): void {
    if (!this.isOwn(embeddings.fingerprint)) {
      throw new FaceNetError(
        'mismatch',
        `${subject} must be embedded by this model: ${difference(this.fingerprint, embeddings.fingerprint)}. Embed it again.`,
      );
    }
  }

  /** The line that decisions with these options are made at. @throws 'not-calibrated', 'input'. */
  operatingPoint(options: Decide = {}): OperatingPoint {
    return pointFor(options, this.model.points);
  }

  /** Names weights and preprocessing: embeddings of equal fingerprints may be compared. See faces/fingerprint.ts. */
  get fingerprint(): string {
    const { metadata, weights, mirrored } = this.#parts;
    return fingerprintOf({
      ...metadata,
      mirrored,
      weights: this.#weights ?? weights,
      ...(this.#trained > 0 && this.#weights === undefined && { step: this.#trained }),
    });
  }

  /** Whether embeddings with this fingerprint are this model's: made with it as it is, by this version of the library or one before. */
  isOwn(fingerprint: string): boolean {
    return fingerprint === this.fingerprint || this.former.includes(fingerprint);
  }

  /** Other fingerprints of this very model, in files of versions before. */
  get former(): readonly string[] {
    return this.#trained > 0 ? [] : [this.#parts.former];
  }

  /** Time per kernel of one batch, from the device's clock where it has one; medians over `runs`. */
  async profile({ batch, runs = 5, signal }: { batch?: number; runs?: number } & Watch = {}): Promise<Profile> {
    return this.#enqueue('profile', signal, async () => {
      const { profilePlan } = await import('./facenet-gpu/profile.ts');
      return profilePlan(this.#device.embedder.plan, batch, runs);
    });
  }

  /**
   * Trains in place. Each yield is one finished step; stop by `break`, go on later with `resume: await net.checkpoint()`.
   * Embeddings made afterwards are those of the new weights, and carry a new fingerprint.
   * @throws 'input' before the first step when data and options do not fit; 'mismatch' or 'model' for a checkpoint that does not.
   */
  async *train(data: Dataset, options: TrainOptions): AsyncGenerator<TrainStep, TrainResult> {
    this.#check('train', options.signal);
    if (this.#parts.precision === 'f16')
      throw new FaceNetError(
        'input',
        "train: weights must be kept as f32, got precision 'f16'. Create the model without it.",
      );
    const [{ Trainer }, { heldOutFrom, heldOutPairs }, { readCheckpoint }] = await Promise.all([
      import('./train/trainer.ts'),
      import('./train/validation.ts'),
      import('./io/checkpoint.ts'),
    ]);
    if (this.#training)
      throw new FaceNetError('input', 'train: one run at a time, got a second. Finish or break the first.');
    const { resume, snapshotEvery = SNAPSHOT_STEPS, validation, ...rest } = options;
    if (!(Number.isInteger(snapshotEvery) && snapshotEvery >= 1))
      throw new FaceNetError('input', `train: snapshotEvery must be a whole number from 1, got ${snapshotEvery}.`);
    const { metadata } = this.#parts;
    const network = networkOf(metadata, this.model.name);
    const variant = { ...metadata.variant, dimensions: metadata.dimensions } as Variant;
    const on = ({ opened, store, embedder }: Device): TrainingModel => ({
      network,
      variant,
      preprocessing: embedder.preprocessing,
      backend: opened.backend,
      store,
    });
    const heldOut =
      validation &&
      ('labels' in validation
        ? heldOutFrom(validation, options.seed ?? 0)
        : heldOutPairs(validation, (face: Face | Embeddings) => this.#picture(face, 'train: a held-out face')));
    const trainer = new Trainer(on(this.#device), data, { ...rest, ...(heldOut && { validation: heldOut }) });
    const state = resume && readCheckpoint(resume);
    const training: Training = { trainer, on, run: trainer.run() };
    this.#training = training;
    // The memory of wasm is not lost while the program lives.
    const losable = this.backend === 'webgpu';
    try {
      await this.#enqueue('train', undefined, async () => {
        if (state) trainer.restore(state);
        if (losable) training.snapshot = await trainer.state();
      });
      let copied = trainer.step;
      while (true) {
        let next: IteratorResult<TrainStep, TrainResult> | undefined;
        next = await this.#enqueue('train', undefined, async () => {
          // Not again where only the copy failed: the step was computed again by then.
          next ??= await training.run.next();
          if (next.done) return next;
          if (losable && trainer.reached - copied >= snapshotEvery) {
            training.snapshot = await trainer.state();
            copied = trainer.reached;
          }
          return next;
        });
        if (next.done) return next.value;
        this.#trained = trainer.step;
        this.#weights = undefined;
        // Measured on the weights before.
        this.#points = [];
        yield next.value;
      }
    } finally {
      try {
        this.#lastState = await this.#enqueue('train', undefined, () => trainer.state());
      } catch {
        // No device: what is left of the run is its last copy. (Disposed: nothing is asked for any more.)
        if (training.snapshot && !this.#disposed) {
          this.#lastState = training.snapshot;
          this.#trained = Number(training.snapshot.metadata.get('step'));
        }
      }
      trainer.dispose();
      this.#training = undefined;
      const values = this.#lastState?.tensors;
      if (this.#trained > 0 && values)
        this.#weights = await weightsHash(
          this.#parts.parameters,
          this.#host.sha256 ?? sha256,
          (name) => values.get(name)?.data as Float32Array,
        );
    }
  }

  /** Everything the run in progress, or the last one, needs to go on, as safetensors. @throws 'input' before any training, 'disposed'. */
  async checkpoint(): Promise<Uint8Array> {
    this.#check('checkpoint', undefined);
    const trainer = this.#training?.trainer;
    const state = trainer ? await this.#enqueue('checkpoint', undefined, () => trainer.state()) : this.#lastState;
    if (!state) throw new FaceNetError('input', 'checkpoint: there is nothing to keep before train() has run.');
    const { writeCheckpoint } = await import('./io/checkpoint.ts');
    return writeCheckpoint(state);
  }

  /**
   * The weights with their card, as safetensors. Of a trained model: without the operating points of the weights before, and saying
   * what it was trained on. @throws 'input' when an average is asked for and none was kept.
   */
  async save({ weights = 'float32', average = false, ...about }: SaveOptions = {}): Promise<Uint8Array> {
    const { metadata, parameters, precision } = this.#parts;
    const halves = precision === 'f16' ? await import('./plan/halves.ts') : undefined;
    return this.#enqueue('save', undefined, async () => {
      const { store } = this.#device;
      const names = parameters.map(({ name }) => name);
      const averaged = names.map((name) => `average/${name}`).filter((name) => average && store.has(name));
      if (average && averaged.length === 0)
        throw new FaceNetError('input', 'save: an average is kept by train() with the option ema, got none.');
      const kept = await halves?.readHalves(store, names);
      const values = await store.read([...names.filter((name) => !kept?.has(name)), ...averaged]);
      for (const [name, bits] of kept ?? []) values.set(name, decodeFloat16(bits));
      const tensors = new Map<string, Tensor>(
        parameters.map(({ name, shape }) => {
          const data = values.get(`average/${name}`) ?? (values.get(name) as Float32Array);
          if (!data.every(Number.isFinite))
            throw new FaceNetError(
              'model',
              `save: weights must be finite, got others in ${name}. Training went wrong.`,
            );
          const tensor: Tensor = { dtype: 'F32', shape: [...shape], data };
          return [name, weights === 'float16' ? halfWeights(name, tensor) : tensor];
        }),
      );
      const operatingPoints = this.model.points;
      // Training reaches every tensor, also those that were missing once.
      const { initialised: _, ...trained } = metadata;
      const card: ModelMetadata =
        this.#trained === 0
          ? { ...metadata, operatingPoints }
          : {
              ...trained,
              operatingPoints,
              trainedOn: about.trainedOn ?? `${this.#trained} steps on pictures nobody named`,
              licence: about.licence ?? 'not stated',
              source: about.source ?? `${this.#trained} steps from ${metadata.source}`,
            };
      return writeModelFile({ metadata: card, tensors, quantization: new Map() });
    });
  }

  /** The device that `net` computes on at present, for a detector that shares it; replaced first where it was lost. @throws 'disposed'. */
  static lend(net: FaceNet): Promise<Opened> {
    return net.#enqueue('lend', undefined, async () => {
      if (net.#parts.replace) await net.#device.opened.backend.run([], []);
      return net.#device.opened;
    });
  }

  /** What the backend holds; equal before and after means nothing leaked. */
  counters(): ReturnType<Opened['backend']['counters']> {
    return this.#device.opened.backend.counters();
  }

  /** Frees every buffer; a device that was passed in stays alive. Twice is allowed; other calls then throw 'disposed'. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#queue.settled().then(() => {
      // As large as the model, and more with the optimiser's numbers.
      this.#lastState = undefined;
      return release(this.#device);
    });
    return this.#disposed;
  }

  async #compute(placed: readonly Placed[]): Promise<Float32Array> {
    const { mirrored } = this.#parts;
    const { embedder } = this.#device;
    if (!mirrored) return embedder.embed(pack(placed, embedder.preprocessing));
    const both = [...placed, ...placed.map(mirror)];
    // Room for one face only: two runs.
    const data =
      both.length <= embedder.batchSize
        ? await embedder.embed(pack(both, embedder.preprocessing))
        : concatenate([
            await embedder.embed(pack(both.slice(0, 1), embedder.preprocessing)),
            await embedder.embed(pack(both.slice(1), embedder.preprocessing)),
          ]);
    return meanOfHalves(data, this.dimensions);
  }

  /** A face as training takes it. @throws 'input' for one that is embedded already. */
  async #picture(face: Face | Embeddings, subject: string): Promise<TrainingImage> {
    if (isEmbeddings(face))
      throw new FaceNetError('input', `${subject} must be a picture, got embeddings. The weights will change.`);
    const [image, landmarks] = isPhoto(face) ? [face.image, face.landmarks] : [face, undefined];
    const pixels = isPixels(image) ? image : await this.#host.readImage(image);
    return { pixels, ...(landmarks && { landmarks }) };
  }

  async #place(face: Face, index?: number): Promise<Placed> {
    const image = isPhoto(face) ? face.image : face;
    const { pixels, landmarks } = await this.#picture(face, 'face');
    checkPixels(pixels, index === undefined ? 'image' : `faces[${index}]`, index);
    try {
      return place(pixels, landmarks, this.#device.embedder.preprocessing, isPhoto(face) ? face.box : undefined);
    } catch (error) {
      if (!(error instanceof FaceNetError)) throw error;
      const name =
        typeof image === 'string' || image instanceof URL
          ? String(image)
          : index === undefined
            ? 'image'
            : `faces[${index}]`;
      throw new FaceNetError(error.code, `${name}: ${error.message}`, {
        cause: error,
        ...(index !== undefined && { index }),
      });
    }
  }

  #check(method: string, signal: AbortSignal | undefined): void {
    if (this.#disposed) throw new FaceNetError('disposed', `${method}: this FaceNetGPU was disposed.`);
    if (signal?.aborted)
      throw new FaceNetError('aborted', `${method}: the call was aborted.`, { cause: signal.reason });
  }

  async #enqueue<T>(method: string, signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    this.#check(method, signal);
    return this.#queue.add(method, signal, () => this.#repeated(task));
  }

  /** Runs a task of a search or a clustering on the device there is, after the calls before it. */
  #onDevice<T>(method: string, task: (backend: Opened['backend']) => Promise<T>): Promise<T> {
    return this.#enqueue(method, undefined, () => task(this.#device.opened.backend));
  }

  /** Runs a task; once more on a new device when the device is lost. A second loss rejects. */
  async #repeated<T>(task: () => Promise<T>): Promise<T> {
    if (this.#loss) await this.#recover(this.#loss);
    try {
      return await task();
    } catch (error) {
      if (!isLoss(error)) throw error;
      await this.#recover(error);
      return task();
    }
  }

  /** Replaces the device: the same adapter, weights and batch; a run of train() is computed again up to its last result. */
  async #recover(loss: FaceNetError): Promise<void> {
    const { replace, onDeviceLost } = this.#parts;
    const lost = this.#device;
    const tell = (recovered: boolean) => {
      if (this.#told === lost) return;
      this.#told = lost;
      onDeviceLost?.({ reason: loss.message, recovered });
    };
    if (!replace) {
      tell(false);
      throw loss;
    }
    this.#loss = loss;
    let made: Device | undefined;
    try {
      await release(lost);
      made = await replace(lost.embedder.batchSize);
      if (made.opened.why !== lost.opened.why)
        throw new FaceNetError('device', `the adapter must be ${lost.opened.why}, got ${made.opened.why}.`);
      for (const [name, { data, shape }] of this.#lastState?.tensors ?? []) made.store.set(name, data, shape);
      const training = this.#training;
      if (training) {
        training.trainer.moveTo(training.on(made), training.snapshot);
        training.run = training.trainer.run();
        while (training.trainer.step < training.trainer.reached) await training.run.next();
      }
    } catch (cause) {
      if (made) await release(made);
      tell(false);
      throw new FaceNetError('device-lost', `${loss.message} No other could be had: ${(cause as Error).message}`, {
        cause,
      });
    }
    this.#device = made;
    this.#loss = undefined;
    this.#watch();
    tell(true);
  }

  /** Replaces a device that is lost while nothing runs, so that the next call is not late. */
  #watch(): void {
    void this.#device.opened.backend.lost
      ?.then(() => this.#enqueue('recover', undefined, () => this.#device.opened.backend.run([], [])))
      // Told by onDeviceLost, and by the next call.
      .catch(() => {});
  }
}

const isLoss = (error: unknown): error is FaceNetError => error instanceof FaceNetError && error.code === 'device-lost';

/** Frees what lies on a device, lost or not. Twice is allowed. */
async function release({ embedder, store, opened }: Partial<Device>): Promise<void> {
  await embedder?.dispose();
  store?.dispose();
  await opened?.backend.dispose();
}

/** Loads a model onto the backend asked for; what the entries' `create` calls. */
export async function load(host: Host, options: CreateOptions): Promise<Parts> {
  const { model, signal, precision = 'f32' } = options;
  if (precision !== 'f32' && precision !== 'f16')
    throw new FaceNetError('input', `create: precision must be f32 or f16, got ${String(precision)}.`);
  const check = () => {
    if (signal?.aborted) throw new FaceNetError('aborted', 'create: the call was aborted.', { cause: signal.reason });
  };
  if (model === undefined || model === null)
    throw new FaceNetError(
      'input',
      'create: model must be a name, path, URL, bytes or { network, seed }, got nothing.',
    );
  check();
  // Workers start, and drivers work, on threads of their own: beside the reading of the model.
  const opening = openBackend(host, options);
  opening.catch(() => {});
  try {
    return await loadOnto(opening, host, options, check);
  } catch (error) {
    await opening.then(({ backend }) => backend.dispose()).catch(() => {});
    throw error;
  }
}

async function loadOnto(
  opening: Promise<Opened>,
  host: Host,
  options: CreateOptions,
  check: () => void,
): Promise<Parts> {
  const { model, onProgress, mirror: mirrored = false, precision = 'f32', tune = false } = options;
  const { file, name, digest } = await openModel(host, model, options);
  onProgress?.({ phase: 'verify', done: 1, total: 1 });
  const network = networkOf(file.metadata, name);
  const build = { ...file.metadata.variant, dimensions: file.metadata.dimensions } as Variant;
  const preprocessing = preprocessingOf(file.metadata);
  const graph = inferenceGraph(network, build, preprocessing);
  const expected = parametersIn(graph);
  matchTensors(expected, file.tensors, { source: name });
  const halves = precision === 'f16' ? await import('./plan/halves.ts') : undefined;
  const tuner = tune
    ? new (await import('./facenet-gpu/tuning.ts')).EmbedderTuner(host.kept(options.cache), options)
    : undefined;
  check();
  let first: Promise<Opened> | undefined = opening;
  let hash: Promise<string> | undefined;
  const make = async (batchSize: number | undefined, check = () => {}): Promise<Device> => {
    const device = first ?? openBackend(host, options);
    first = undefined;
    const opened = await device;
    const store = new Store(opened.backend);
    let embedder: Embedder | undefined;
    try {
      for (const { name: parameter, shape } of expected) {
        const data = weightsOf(file, parameter);
        if (halves?.fitsHalves(shape)) {
          const half = halfWeights(parameter, { dtype: 'F32', shape: [...shape], data });
          halves.setHalves(store, parameter, half.data as Uint16Array, shape);
        } else store.set(parameter, data, shape);
      }
      // A GPU says later whether it had the memory: an empty run waits, so that no smaller batch is tried for want of room for weights.
      await opened.backend.run([], []);
      check();
      const hardware = opened.backend.name === 'webgpu' && !opened.why.includes('(software)');
      const fitting = (backend: Backend, weights: Store) =>
        fittingEmbedder(network, build, preprocessing, backend, weights, batchSize ?? (hardware ? 32 : 8));
      embedder = tuner
        ? await tuner.embedder(opened.backend, store, fitting, (made) => warmUp(made, preprocessing))
        : await fitting(opened.backend, store);
      const warm = warmUp(embedder, preprocessing);
      // While the device computes.
      hash ??= weightsHash(expected, host.sha256 ?? sha256, (parameter) => {
        const values = valuesOf(file, parameter);
        const { shape } = file.tensors.get(parameter) as Tensor;
        return halves?.fitsHalves(shape) ? decodeFloat16(encodeFloat16(values)) : values;
      });
      hash.catch(() => {});
      await warm;
      return { opened, store, embedder };
    } catch (error) {
      await release({ opened, store, ...(embedder && { embedder }) });
      throw error;
    }
  };
  const { device: given, onDeviceLost } = options;
  let device: Device;
  try {
    device = await make(options.batchSize, check);
  } catch (error) {
    if (!isLoss(error)) throw error;
    const again = given ? undefined : await make(options.batchSize, check).catch(() => undefined);
    onDeviceLost?.({ reason: error.message, recovered: again !== undefined });
    if (!again) throw error;
    device = again;
  }
  if (!tuner) onProgress?.({ phase: 'compile', done: 1, total: 1 });
  try {
    check();
  } catch (error) {
    await release(device);
    throw error;
  }
  return {
    device,
    // On wasm the file is not kept: its memory cannot be lost.
    ...(device.opened.backend.name === 'webgpu' && !given && { replace: (batchSize: number) => make(batchSize) }),
    ...(onDeviceLost && { onDeviceLost }),
    mirrored,
    metadata: file.metadata,
    parameters: expected,
    card: cardOf(file.metadata, name, network, graph, digest),
    precision,
    weights: (await hash) as string,
    former: `${name}/${digest.slice(0, 16)}${mirrored ? '/mirror' : ''}`,
  };
}

/** SHA-256 over names, shapes and float32 values, whatever they are stored as. */
async function weightsHash(
  parameters: readonly ParameterInfo[],
  digest: (bytes: Uint8Array) => Promise<string>,
  valuesOf: (name: string) => Float32Array,
): Promise<string> {
  const lines: string[] = [];
  for (const { name, shape } of parameters) {
    const { buffer, byteOffset, byteLength } = valuesOf(name);
    lines.push(`${name} ${shape.join('x')} ${await digest(new Uint8Array(buffer, byteOffset, byteLength))}`);
  }
  return digest(new TextEncoder().encode(lines.join('\n')));
}

/** What this machine can do, without loading a model. Never throws. */
export async function probe(host: Host): Promise<Capabilities> {
  const found = await findAdapter(host);
  const webgpu =
    typeof found === 'string'
      ? { available: false, why: found }
      : {
          available: true,
          why: found.software ? 'the only adapter computes in software; wasm is faster' : 'a hardware adapter is there',
          adapter: found.name,
          software: found.software,
          f16: found.adapter.features.has('shader-f16'),
          timestamps: found.adapter.features.has('timestamp-query'),
          // Lets go of the adapter.
          answers: await answersOf(found, host),
        };
  const single = host.singleThreadReason;
  host.relaxedSimd?.();
  return {
    webgpu,
    wasm: {
      simd: hasSimd(),
      relaxedSimd: hasRelaxedSimd(),
      threads: single === undefined ? host.cores : 1,
      why: single ?? 'shared memory and workers are there',
    },
  };
}

async function openModel(
  host: Host,
  model: CreateOptions['model'],
  options: CreateOptions,
): Promise<{ file: ModelFile; name: string; digest: string }> {
  if (typeof model === 'object' && 'network' in model) return untrained(model);
  const { bytes, name } =
    model instanceof ArrayBuffer || model instanceof Uint8Array
      ? { bytes: new Uint8Array(model), name: 'model' }
      : await host.readModel(model, options);
  const file = readModelFile(bytes, name);
  return { file, name: name === 'model' ? file.metadata.network : name, digest: await (host.sha256 ?? sha256)(bytes) };
}

/** A network with seeded random weights: no operating point, and a fingerprint of its seed. */
async function untrained({
  network: networkName,
  seed,
  variant = {},
  dimensions,
  size: side,
}: UntrainedModel): Promise<{ file: ModelFile; name: string; digest: string }> {
  const network = networkOf({ network: networkName }, 'create');
  const full: Variant = { ...variant, dimensions: dimensions ?? variant.dimensions ?? network.dimensions };
  if (side !== undefined && !(Number.isInteger(side) && side >= 16 && side <= 1024))
    throw new FaceNetError('input', `create: size must be a whole number from 16 to 1024, got ${side}.`);
  const { width, height } = side === undefined ? network.input : { width: side, height: side };
  const parameters = parametersOf(network, full, { width, height });
  const values = initialise(parameters, seed);
  const tensors = new Map<string, Tensor>(
    parameters.map(({ name, shape }) => [
      name,
      { dtype: 'F32', shape: [...shape], data: values.get(name) as Float32Array },
    ]),
  );
  const [red, green, blue] = network.pixels.shift.map((shift) => -shift / network.pixels.scale) as [
    number,
    number,
    number,
  ];
  const { dimensions: size, ...rest } = full;
  const metadata: ModelMetadata = {
    network: network.name,
    variant: rest as Record<string, string | number | boolean>,
    dimensions: size as number,
    input: { width, height, colour: 'rgb' },
    pixels: { scale: network.pixels.scale, mean: [red, green, blue] },
    template: arcfaceTemplate(width, height),
    operatingPoints: [],
    licence: 'MIT',
    trainedOn: 'nothing: random weights',
    source: `seed ${seed}`,
    sourceSha256: '0'.repeat(64),
    library: 'facenet-gpu',
  };
  const identity = new TextEncoder().encode(JSON.stringify([network.name, seed, full, width, height]));
  return {
    file: { metadata, tensors, quantization: new Map() },
    name: `${network.name} (untrained, seed ${seed})`,
    digest: await sha256(identity),
  };
}

/** InsightFace's five points, for a crop of any size. */
function arcfaceTemplate(width: number, height: number): ModelMetadata['template'] {
  const points = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
  ];
  return {
    name: 'arcface',
    points: points.map(([x, y]) => [((x as number) * width) / 112, ((y as number) * height) / 112] as const),
  };
}

function networkOf(metadata: Pick<ModelMetadata, 'network'>, source: string): Network {
  if (!Object.hasOwn(networks, metadata.network)) {
    throw new FaceNetError(
      'model',
      `${source}: network must be one of ${Object.keys(networks).join(', ')}, got ${metadata.network}.`,
    );
  }
  return networks[metadata.network as NetworkName];
}

function preprocessingOf({ input, pixels, template }: ModelMetadata): Preprocessing {
  // Standardised crops are bytes until then.
  const { scale, mean } = 'scale' in pixels ? pixels : { scale: 1, mean: [0, 0, 0] };
  return {
    ...input,
    scale: [scale, scale, scale],
    shift: mean.map((value) => (value === 0 ? 0 : -value * scale)) as unknown as Preprocessing['shift'],
    ...('standardisation' in pixels && { standardisation: pixels.standardisation }),
    template: {
      ...template,
      width: input.width,
      height: input.height,
      // Three points need 68 landmarks; for the five that detectors give, the template has five of its own.
      ...(template.name === 'openface' && { fivePoints: alignmentTemplate('openface', input.width).fivePoints ?? [] }),
    },
  };
}

/** Halves the batch until it fits into memory. */
async function fittingEmbedder(
  network: Network,
  build: Variant,
  preprocessing: Preprocessing,
  backend: Backend,
  store: Store,
  batchSize: number,
): Promise<Embedder> {
  for (let size = batchSize; ; size = Math.floor(size / 2)) {
    try {
      return await Embedder.create(network, build, preprocessing, backend, store, size);
    } catch (error) {
      if (!(error instanceof FaceNetError && error.code === 'memory' && size > 1)) throw error;
    }
  }
}

/** Drivers compile at first launch: one run on a grey picture makes the first call as fast as the others. */
async function warmUp(embedder: Embedder, preprocessing: Preprocessing): Promise<void> {
  const { width, height } = preprocessing;
  const grey = { data: new Uint8Array(width * height * 3).fill(128), width, height };
  await embedder.embed(pack([place(grey, undefined, preprocessing)], preprocessing));
}

function cardOf(metadata: ModelMetadata, name: string, network: Network, graph: Graph, digest: string): ModelCard {
  const { parameters, multiplyAdds } = cost(layers(graph));
  return {
    name,
    network: network.name,
    dimensions: metadata.dimensions,
    parameters,
    multiplyAdds,
    input: { ...metadata.input, template: metadata.template },
    points: metadata.operatingPoints,
    licence: metadata.licence,
    trainedOn: metadata.trainedOn,
    sha256: digest,
  };
}

const isPhoto = (face: Face): face is Exclude<Face, ImageSource> =>
  typeof face === 'object' && face !== null && 'landmarks' in face;

const isEmbeddings = (face: Face | Iterable<Face> | Embeddings): face is Embeddings =>
  typeof face === 'object' && face !== null && 'fingerprint' in face;

function isSingle(faces: Face | Iterable<Face> | AsyncIterable<Face>): faces is Face {
  if (typeof faces === 'string' || ArrayBuffer.isView(faces)) return true;
  if (typeof faces !== 'object' || faces === null) {
    throw new FaceNetError('input', `embed: faces must be a face or an iterable of faces, got ${String(faces)}.`);
  }
  return !(Symbol.iterator in faces || Symbol.asyncIterator in faces);
}

function withIndex(cause: unknown, index: number): FaceNetError {
  if (cause instanceof FaceNetError)
    return cause.index === index ? cause : new FaceNetError(cause.code, cause.message, { cause, index });
  return new FaceNetError('internal', `faces[${index}]: ${(cause as Error)?.message ?? cause}`, { cause, index });
}

function mirror({ pixels, alignment }: Placed): Placed {
  const {
    inverse: [a, b, tx, c, d, ty],
    width,
  } = alignment;
  return { pixels, alignment: { ...alignment, inverse: [-a, b, a * (width - 1) + tx, -c, d, c * (width - 1) + ty] } };
}

/** Row i becomes the unit vector along row i + row (i + half): the mean of a face and its mirror. */
function meanOfHalves(data: Float32Array, dimensions: number): Float32Array {
  const half = data.length / 2;
  const result = new Float32Array(half);
  for (let start = 0; start < half; start += dimensions) {
    let square = 0;
    for (let i = start; i < start + dimensions; i++) {
      const sum = (data[i] as number) + (data[i + half] as number);
      result[i] = sum;
      square += sum * sum;
    }
    const scale = 1 / Math.sqrt(Math.max(square, 1e-20));
    for (let i = start; i < start + dimensions; i++) result[i] = (result[i] as number) * scale;
  }
  return result;
}

function join(parts: readonly Embeddings[], dimensions: number, fingerprint: string): Embeddings {
  const only = parts[0];
  if (parts.length === 1 && only) return only;
  return {
    data: concatenate(parts.map((part) => part.data)),
    count: parts.reduce((sum, part) => sum + part.count, 0),
    dimensions,
    fingerprint,
    indices: Uint32Array.from(parts.flatMap((part) => [...part.indices])),
    skipped: parts.flatMap((part) => part.skipped),
  };
}
