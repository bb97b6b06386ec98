import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { text } from '../graph/shape.ts';
import { l2Normalize } from '../ops/l2Normalize.ts';

/** Names under which networks are known, in files, in the API and on the command line. */
export type NetworkName =
  | 'nn1'
  | 'nn2'
  | 'nn3'
  | 'nn4'
  | 'nns1'
  | 'nns2'
  | 'nn4.small1'
  | 'nn4.small2'
  | 'dlib-resnet'
  | 'inception-resnet-v1';

/**
 * Which form of a network: plain data, part of a model's card, since other weights do not fit.
 * A network leaves options aside that mean nothing to it (dlib-resnet has no LRN).
 */
export interface Variant {
  /** Size of the embedding, from 1; default: the published one. */
  readonly dimensions?: number;
  /** Factor on the number of channels of every layer, (0, 4]; results are rounded to multiples of 8. Default 1. */
  readonly width?: number;
  /** nn1 ... nns2, nn4.*: batch normalisation behind every convolution. Default true but for nn1, nns1 and nns2. */
  readonly batchNorm?: boolean;
  /** nn2 ... nn4.*: a bias in convolutions before batch norm, as OpenFace has it. Default true; without it training loses nothing. */
  readonly bias?: boolean;
  /** Local response normalisation where the paper says 'norm'. Default true; behind batch norm it changes next to nothing. */
  readonly lrn?: boolean;
  /**
   * nn4.*: pools inside inception blocks. 'definition' (default): 3x3 with padding 1, as the paper and the published operation
   * counts have it. 'unpadded': as OpenFace's .def files read to the letter, L2 pools without padding and a ring of zeros around
   * their result. 'released': as the trained OpenFace weights need them (max 3x3/2 and L2 3x3/3 without padding, result
   * centred in zeros).
   */
  readonly pools?: 'definition' | 'unpadded' | 'released';
  /** Added under the root of L2 pools. Default 0, Torch's; the gradient at an all-zero window is 0 in any case. */
  readonly poolEpsilon?: number;
}

/** Running statistics of one batch normalisation, and what this run saw of them. */
export interface BatchStatistics {
  /** Parameter [channels]: running mean. */
  readonly mean: Value;
  /** Parameter [channels]: running variance. */
  readonly variance: Value;
  /** [2 groups, channels]: mean and biased variance of each group of this batch, for `runningAverage`. */
  readonly batch: Value;
  /** Elements that one image contributes to each channel: height * width. Torch's running variance is unbiased: * n / (n - 1). */
  readonly perImage: number;
}

export interface BuildOptions extends Variant {
  /** 'inference' (default) normalises with running statistics, 'training' with those of the batch. */
  readonly mode?: 'inference' | 'training';
  /** Training with running statistics, left as they are: what fine-tuning wants, and what makes micro-batches exact. */
  readonly frozenBatchNorm?: boolean;
  /** Parts of the batch that batch norm treats on their own; 1 by default. */
  readonly groups?: number;
  /** Called once for each batch norm of a training graph, in order: the trainer assigns the running averages. */
  readonly onStatistics?: (statistics: BatchStatistics) => void;
}

/** A network: a function from a picture to a point on the unit sphere, and what its callers must know about it. */
export interface Network {
  readonly name: NetworkName;
  /** Where its layers come from, and how sure that is. */
  readonly source: string;
  /** Size of the picture it was published for; `anySize` says whether others are accepted. */
  readonly input: { readonly width: number; readonly height: number };
  /** 'any': parameters do not depend on the picture's size. 'shapes': every size works but changes the shape of parameters. */
  readonly sizes: 'any' | 'shapes';
  readonly dimensions: number;
  /** What the first layer expects, from bytes: byte * scale + shift, RGB. The model's card overrides it. */
  readonly pixels: { readonly scale: number; readonly shift: readonly [red: number, green: number, blue: number] };
  /** x [N, height, width, 3] -> [N, dimensions], before normalisation. Parameters appear in x's graph. @throws 'input' */
  features(x: Value, options?: BuildOptions): Value;
  /** x [N, height, width, 3] -> embeddings [N, dimensions] of length 1. @throws 'input' when x or an option does not fit. */
  build(x: Value, options?: BuildOptions): Value;
}

/** Completes a network: checks what it is given, and ends it in the unit sphere (epsilon 1e-10, as OpenFace). */
export function defineNetwork(network: Omit<Network, 'build'>): Network {
  const features = (x: Value, options: BuildOptions = {}): Value => {
    checkInput(network.name, x);
    checkOptions(network.name, options);
    return network.features(x, options);
  };
  const build = (x: Value, options: BuildOptions = {}): Value => {
    const y = features(x, options);
    return x.graph.scope('normalize', () => l2Normalize(y, { epsilon: 1e-10 }));
  };
  return { ...network, features, build };
}

function checkInput(name: string, x: Value): void {
  if (x.shape.length !== 4 || x.shape[3] !== 3 || x.dtype !== 'f32') {
    throw new FaceNetError('input', `${name}: x must be f32 [N, height, width, 3], got ${x.dtype} ${text(x.shape)}.`);
  }
}

function checkOptions(name: string, { dimensions = 1, width = 1, poolEpsilon = 0, groups = 1 }: BuildOptions): void {
  if (!(Number.isInteger(dimensions) && dimensions >= 1)) {
    throw new FaceNetError('input', `${name}: dimensions must be a whole number from 1, got ${dimensions}.`);
  }
  if (!(width > 0 && width <= 4)) throw new FaceNetError('input', `${name}: width must be in (0, 4], got ${width}.`);
  if (!(poolEpsilon >= 0 && poolEpsilon < 1)) {
    throw new FaceNetError('input', `${name}: poolEpsilon must be in [0, 1), got ${poolEpsilon}.`);
  }
  if (!(Number.isInteger(groups) && groups >= 1)) {
    throw new FaceNetError('input', `${name}: groups must be a whole number from 1, got ${groups}.`);
  }
}

/** `channels` at a network's width: a multiple of 8 (at least 8), or unchanged at width 1. */
export function widened(channels: number, { width = 1 }: Variant): number {
  return width === 1 || channels === 0 ? channels : Math.max(8, Math.round((channels * width) / 8) * 8);
}
