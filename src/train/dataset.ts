import { FaceNetError } from '../errors.ts';
import type { Pixels } from '../faces/preprocessing.ts';

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
