import { FaceNetError } from '../errors.ts';
import type { Pixels } from '../faces/preprocessing.ts';
import { checkSampler, drawBatch, identitiesOf, type SamplerOptions } from './sampling.ts';

/** One training picture: a crop of the model's template, or a photo with landmarks. */
export interface TrainingImage {
  readonly pixels: Pixels;
  readonly landmarks?: readonly (readonly [x: number, y: number])[];
}

/** Pictures of people. `labels[i]` is the person of picture i: any whole numbers of 32 bits, equal for equal people. */
export interface Dataset {
  readonly labels: Int32Array;
  /** Reads picture i; called while earlier steps compute. Throws 'image' for one that cannot be read. */
  read(index: number): Promise<TrainingImage> | TrainingImage;
  /** For messages: where picture i comes from. */
  source?(index: number): string;
}

/** Reads picture `index` of a set and uses it. @throws 'image' naming the picture, for whatever goes wrong. */
export async function withPicture<T>(
  set: Pick<Dataset, 'read' | 'source'>,
  index: number,
  use: (picture: TrainingImage) => T,
  kind = 'image',
): Promise<T> {
  try {
    return use(await set.read(index));
  } catch (cause) {
    throw new FaceNetError(
      'image',
      `train: every image must be readable, got ${set.source?.(index) ?? `${kind} ${index}`}: ${(cause as Error).message}`,
      { cause, index },
    );
  }
}

/** A data set in memory. `label` may be a name or a whole number; people are told apart exactly. */
export function memoryDataset(items: readonly (TrainingImage & { readonly label: string | number })[]): Dataset {
  const numbers = new Map<string | number, number>();
  const labels = Int32Array.from(items, ({ label }, index) => {
    if (!(typeof label === 'string' || Number.isSafeInteger(label))) {
      throw new FaceNetError('input', `dataset: label must be a name or a whole number, got ${String(label)}.`, {
        index,
      });
    }
    if (!numbers.has(label)) numbers.set(label, numbers.size);
    return numbers.get(label) as number;
  });
  return { labels, read: (index) => items[index] as TrainingImage };
}

/** What `trainingBatches` draws, and where it begins. */
export interface BatchOptions extends SamplerOptions {
  /** Default 0. */
  readonly seed?: number;
  /** Step of the first batch, from 0. A stream that starts at `from` goes on where one from 0 would be. Default 0. */
  readonly from?: number;
}

/** One batch as `train` draws it, before augmentation. Row i is picture `indices[i]` of the set. */
export interface TrainingBatch {
  readonly step: number;
  readonly indices: readonly number[];
  readonly images: readonly TrainingImage[];
  readonly labels: Int32Array;
}

/**
 * The batches that a single-phase `train` of the same options and seed draws, one a step, without end: to look at what is learnt from, or
 * for a training loop of one's own. @throws 'input' for options that the set cannot meet, 'image' for a picture that cannot be read.
 */
export async function* trainingBatches(
  data: Dataset,
  { seed = 0, from = 0, ...options }: BatchOptions,
): AsyncGenerator<TrainingBatch, never> {
  const identities = identitiesOf(data.labels);
  checkSampler(identities, options);
  for (const [name, value] of [
    ['seed', seed],
    ['from', from],
  ] as const) {
    if (!(Number.isSafeInteger(value) && value >= 0))
      throw new FaceNetError('input', `batches: ${name} must be a whole number from 0, got ${value}.`);
  }
  for (let step = from; ; step++) {
    const indices = drawBatch(identities, options, seed, step);
    const images = await Promise.all(indices.map((index) => withPicture(data, index, (picture) => picture)));
    yield { step, indices, images, labels: Int32Array.from(indices, (index) => data.labels[index] as number) };
  }
}
