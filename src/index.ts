import type { Detector, DetectorOptions } from './face-detector.ts';
import { type Capabilities, type CreateOptions, FaceNet, load, probe } from './facenet-gpu.ts';
import { BrowserHost } from './io/browser-host.ts';

export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export type { DetectedFace, DetectOptions, DetectorOptions, DetectorSource } from './face-detector.ts';
export type {
  Augmentation,
  Capabilities,
  CreateOptions,
  Dataset,
  Decide,
  Embeddings,
  EmbedOptions,
  Face,
  ImageSource,
  LossName,
  MinerName,
  ModelCard,
  NetworkName,
  OperatingPoint,
  Pixels,
  Profile,
  Progress,
  SaveOptions,
  TrainingImage,
  TrainOptions,
  TrainPhase,
  TrainResult,
  TrainStep,
  UntrainedModel,
  Verification,
  Watch,
} from './facenet-gpu.ts';
export { type BatchOptions, memoryDataset, type TrainingBatch, trainingBatches } from './train/dataset.ts';

/** FaceNet in pages and workers. Strings are URLs. Threads need a cross-origin isolated page; `.why` says what was taken. */
export class FaceNetGPU extends FaceNet {
  /** Loads, checks, compiles and warms a model. The returned object runs at full speed from its first call. */
  static async create(options: CreateOptions): Promise<FaceNetGPU> {
    const host = new BrowserHost();
    return new FaceNetGPU(host, await load(host, options));
  }

  /** What this browser can do, without loading a model: adapters, SIMD, threads, and what is missing. Never throws. */
  static probe(): Promise<Capabilities> {
    return probe(new BrowserHost());
  }
}

/** Finds faces in photos. Strings are URLs. What it is made of is loaded by the first `create`: a page that only embeds loads none of it. */
// biome-ignore lint/complexity/noStaticOnlyClass: the methods come with the import.
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: as above; there are no properties.
export class FaceDetector {
  /** Opens a detector's file; see `DetectorOptions.model`. @throws 'model', 'input', 'device', 'aborted'. */
  static async create(options: DetectorOptions): Promise<FaceDetector> {
    const { Detector, loadDetector } = await import('./face-detector.ts');
    Object.setPrototypeOf(FaceDetector.prototype, Detector.prototype);
    const host = new BrowserHost();
    return Reflect.construct(Detector, [host, await loadDetector(host, options)], FaceDetector);
  }
}
export interface FaceDetector extends Detector {}
