import { type Capabilities, type CreateOptions, FaceNet, load, probe } from './facenet-gpu.ts';
import { nodeHost } from './io/node/host.ts';

export { FaceNetError, type FaceNetErrorCode } from './errors.ts';
export { memoryDataset } from './train/dataset.ts';
export { type FolderDataset, folderDataset } from './io/node/folder-dataset.ts';
export type {
  Augmentation, Dataset, LossName, MinerName, SaveOptions, TrainingImage, TrainOptions, TrainPhase, TrainResult, TrainStep, UntrainedModel,
} from './facenet-gpu.ts';
export type {
  Capabilities, CreateOptions, Decide, EmbedOptions, Embeddings, Face, ImageSource, ModelCard, NetworkName, OperatingPoint, Pixels, Profile, Progress,
  Verification, Watch,
} from './facenet-gpu.ts';

/** FaceNet in Node. Strings are file paths; WebGPU comes from the optional package `webgpu`. */
export class FaceNetGPU extends FaceNet {
  /** Loads, checks, compiles and warms a model. The returned object runs at full speed from its first call. */
  static async create(options: CreateOptions): Promise<FaceNetGPU> {
    return new FaceNetGPU(nodeHost, await load(nodeHost, options));
  }

  /** What this machine can do, without loading a model: adapters, SIMD, threads, and what is missing. Never throws. */
  static probe(): Promise<Capabilities> {
    return probe(nodeHost);
  }
}
