import { Detector, type DetectorOptions, loadDetector } from './face-detector.ts';
import { type Capabilities, type CreateOptions, FaceNet, load, probe } from './facenet-gpu.ts';
import { createNodeHost } from './io/node/host.ts';

export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export type { DetectedFace, DetectOptions, DetectorOptions, DetectorSource } from './face-detector.ts';
export type {
  Augmentation,
  Capabilities,
  CreateOptions,
  CurriculumStage,
  Dataset,
  Decide,
  Embeddings,
  EmbedOptions,
  Face,
  HeldOutFigures,
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
export { type FolderDataset, folderDataset } from './io/node/folder-dataset.ts';
export { tarDataset } from './io/node/tar-dataset.ts';
export { type BatchOptions, memoryDataset, type TrainingBatch, trainingBatches } from './train/dataset.ts';

/** FaceNet in Node. Strings are file paths; WebGPU comes from the optional package `webgpu`. */
export class FaceNetGPU extends FaceNet {
  /** Loads, checks, compiles and warms a model. The returned object runs at full speed from its first call. */
  static async create(options: CreateOptions): Promise<FaceNetGPU> {
    const host = createNodeHost();
    return new FaceNetGPU(host, await load(host, options));
  }

  /** What this machine can do, without loading a model: adapters, SIMD, threads, and what is missing. Never throws. */
  static probe(): Promise<Capabilities> {
    return probe(createNodeHost());
  }
}

/** Finds faces in photos. Strings are file paths. */
export class FaceDetector extends Detector {
  /** Opens a detector's file; see `DetectorOptions.model`. @throws 'model', 'input', 'device', 'aborted'. */
  static async create(options: DetectorOptions): Promise<FaceDetector> {
    const host = createNodeHost();
    return new FaceDetector(host, await loadDetector(host, options));
  }
}
