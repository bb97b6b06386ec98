/**
 * What finds faces, as one interface for models of different kinds; the tiny face detector with the 68-point network is one. A model gets
 * weights, a backend and one photo at a time, and answers in that photo's pixels; files, backends and queues are its caller's.
 */
import { FaceNetError } from '../../errors.ts';
import { equal, type Shape, text } from '../../graph/shape.ts';
import type { Backend } from '../../plan/runner.ts';
import type { Store } from '../../plan/store.ts';
import type { Pixels } from '../preprocessing.ts';

/** A face found in a photo: box and five points (eyes, nose, mouth corners) in pixels of the photo as displayed (EXIF turn applied). */
export interface DetectedFace {
  /** May reach beyond the photo. x, y: its upper left corner. */
  readonly box: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  /** The detector's belief, 0..1. Scores of different models do not compare. */
  readonly score: number;
  /** First the eye at the left of the picture, then the other, the tip of the nose, the left and the right corner of the mouth. */
  readonly landmarks: readonly (readonly [x: number, y: number])[];
  /** The 68 points of iBUG 300-W that `landmarks` was made from, where the model finds them (tiny-face): alignment takes either. */
  readonly points68?: readonly (readonly [x: number, y: number])[];
}

/** What a call may ask for; the caller has checked the ranges. */
export interface DetectionOptions {
  /** Shorter side of the smallest face looked for, pixels of the photo; undefined: the model's own default for this photo. */
  readonly minFace?: number | undefined;
  /** Faces with a lower score are left out, 0..1; undefined: the model's own threshold. */
  readonly minScore?: number | undefined;
  /** Most faces returned, those of the highest score. Infinity: all. */
  readonly limit: number;
}

/** A detector on one backend. Calls must not overlap. */
export interface DetectionModel {
  /** 'tiny-face', 'mtcnn'. */
  readonly name: string;
  /**
   * Faces by falling score, equal scores in the order they were found in. No faces is an answer, not an error. The photo has passed
   * checkPixels (RGB or RGBA, 1 to 65,535 a side) and is not kept. Looks at `signal` between runs of the device.
   * @throws 'aborted', 'memory', 'device-lost'.
   */
  detect(photo: Pixels, options: DetectionOptions, signal?: AbortSignal): Promise<DetectedFace[]>;
  /** Frees everything the model holds on the backend, which stays open. */
  dispose(): Promise<void>;
}

/** Weights of a detector as its file holds them, decoded to finite float32: by name, with their shapes. */
export type DetectionWeights = ReadonlyMap<string, { readonly data: Float32Array; readonly shape: Shape }>;

/** Makes a model; each kind of detector exports one. @throws 'model' where weights are missing or misshapen. */
export type DetectionModelFactory = (
  weights: DetectionWeights,
  backend: Backend,
  options: { readonly source: string },
) => Promise<DetectionModel>;

/** Puts a detector's weights into a store. @throws 'model' where one is missing or has another shape than its network wants. */
export function setWeights(
  store: Store,
  parameters: readonly { readonly name: string; readonly shape: Shape }[],
  weights: DetectionWeights,
  { network, source }: { readonly network: string; readonly source: string },
): void {
  for (const { name, shape } of parameters) store.set(name, weightOf(weights, name, shape, { network, source }), shape);
}

/** A weight by name. @throws 'model' where it is missing or has another shape than its network wants. */
export function weightOf(
  weights: DetectionWeights,
  name: string,
  shape: Shape,
  { network, source }: { readonly network: string; readonly source: string },
): Float32Array {
  const weight = weights.get(name);
  if (weight === undefined || !equal(weight.shape, shape)) {
    throw new FaceNetError(
      'model',
      `${source}: weights of ${network} with ${name} ${text(shape)}, got ${weight ? text(weight.shape) : 'none of that name'}. Convert the weights anew.`,
    );
  }
  return weight.data;
}

/** @throws 'aborted' when the call was aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new FaceNetError('aborted', 'detect: the call was aborted.', { cause: signal.reason });
}
