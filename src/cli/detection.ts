import { FaceNetError } from '../errors.ts';
import { alignFace } from '../faces/alignment.ts';
import { alignmentTemplate } from '../faces/alignment-templates.ts';
import { type DetectedFace, type DetectorOptions, FaceDetector, type FaceNetGPU, type Pixels } from '../node.ts';

/** Options of commands that find faces by themselves. */
export interface DetectionFlags {
  readonly detect?: boolean;
  /** A file, URL or name; three files of MTCNN's networks parted by commas. */
  readonly detector?: string;
  readonly minFace?: number;
  readonly minScore?: number;
  /** Of each photo the largest face only. */
  readonly largest?: boolean;
}

/** The detector of a clone; the package holds none. */
const DEFAULT_DETECTOR = 'tiny-face';

/**
 * Whether a face can be cut out by a template: not where the middle of the points that it uses, its eyes or all five, lies outside the photo, as a
 * detector places faces that an edge cuts off.
 */
export function canAlign(
  { landmarks }: Pick<DetectedFace, 'landmarks'>,
  photo: Pixels,
  { points }: { readonly points: readonly unknown[] },
): boolean {
  // Cut out by its box.
  if (points.length === 0) return true;
  try {
    alignFace(landmarks, alignmentTemplate(points.length === 2 ? 'dlib' : 'arcface'), { image: photo });
    return true;
  } catch (error) {
    if (error instanceof FaceNetError && error.code === 'input') return false;
    throw error;
  }
}

/** What `--detect` does: opens the detector when the first photo asks for it, and remembers what it found. */
export class Detection {
  /** The faces of each photo, by its name. */
  readonly found = new Map<string, readonly DetectedFace[]>();
  readonly #flags: DetectionFlags;
  readonly #options: Omit<DetectorOptions, 'model' | 'share'>;
  #detector: Promise<FaceDetector> | undefined;

  constructor(flags: DetectionFlags, options: Omit<DetectorOptions, 'model' | 'share'>) {
    this.#flags = flags;
    this.#options = options;
  }

  /** The open detector, on the device of `net` where one is given. @throws 'model' where there is none. */
  detector(net?: FaceNetGPU): Promise<FaceDetector> {
    this.#detector ??= this.#open(net);
    return this.#detector;
  }

  /** The faces of a photo, the best first. */
  async facesOf(name: string, photo: Pixels, net?: FaceNetGPU): Promise<readonly DetectedFace[]> {
    const { minFace, minScore, largest } = this.#flags;
    const detector = await this.detector(net);
    const found = await detector.detect(photo, {
      ...(minFace !== undefined && { minFace }),
      ...(minScore !== undefined && { minScore }),
      ...(this.#options.signal && { signal: this.#options.signal }),
    });
    const area = ({ box }: DetectedFace) => box.width * box.height;
    const faces = largest ? [...found].sort((a, b) => area(b) - area(a)).slice(0, 1) : found;
    this.found.set(name, faces);
    return faces;
  }

  /** Has to come before the model that the detector shares a device with is disposed of. */
  async close(): Promise<void> {
    const detector = await this.#detector?.catch(() => undefined);
    this.#detector = undefined;
    await detector?.dispose();
  }

  async #open(net: FaceNetGPU | undefined): Promise<FaceDetector> {
    const { detector = DEFAULT_DETECTOR } = this.#flags;
    const { backend, device, ...others } = this.#options;
    const files = detector.split(',');
    const model = files.length === 1 ? detector : files;
    try {
      return await FaceDetector.create(net ? { ...others, model, share: net } : { ...this.#options, model });
    } catch (cause) {
      if (this.#flags.detector !== undefined || !(cause instanceof FaceNetError && cause.code === 'model')) throw cause;
      throw new FaceNetError(
        'model',
        `--detect: a detector, got none, since the package holds none. Name one by --detector FILE: MTCNN's weights, such as pnet.pt,rnet.pt,onet.pt of facenet-pytorch.`,
        { cause },
      );
    }
  }
}
