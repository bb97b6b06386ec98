import { FaceNetError } from '../errors.ts';
import { ImageReader } from '../io/node/image-files.ts';
import type { Face, FaceNetGPU, Pixels } from '../node.ts';
import { canAlign, type Detection } from './detection.ts';
import type { FaceList } from './face-list.ts';
import type { Photo } from './photos.ts';
import type { Terminal } from './terminal.ts';

/** How photos become faces. */
export interface ReadingOptions {
  /** Where the faces lie. */
  readonly list?: FaceList;
  /** Finds them. */
  readonly detection?: Detection;
  /** The images are crops to the model's template. */
  readonly aligned: boolean;
  readonly decoder?: 'exact' | 'sharp';
  /** Leave out what cannot be used and go on. */
  readonly skipBad: boolean;
}

/** One face, or one photo that could not be used. */
export interface Item {
  /** Its place among all of them. */
  readonly index: number;
  readonly image: string;
  /** Which face of the photo, from 0; undefined for a photo that could not be read. */
  readonly face?: number;
  readonly name?: string;
}

/** An item in text: its photo, and which face of it where that is not plain. */
export const labelOf = ({ image, face = 0, name }: Pick<Item, 'image' | 'face' | 'name'>): string =>
  `${image}${face > 0 || name !== undefined ? `#${name ?? face}` : ''}`;

/** An item and what became of it: a unit vector, or the reason why there is none. */
export type Result = Item &
  (
    | { readonly vector: Float32Array; readonly error?: never }
    | { readonly error: FaceNetError; readonly vector?: never }
  );

/** Reads photos one after another and hands out their faces; keeps account of which is which. */
export class FaceReader {
  readonly #photos: readonly Photo[];
  readonly #options: ReadingOptions;
  readonly #net: FaceNetGPU;
  readonly #warn: (text: string) => void;
  readonly #images = new ImageReader();
  readonly #items: Item[] = [];
  /** Items of the faces handed out, in order. */
  readonly #handedOut: Item[] = [];
  readonly #failed = new Map<Item, FaceNetError>();
  #warned = false;
  #thrown: FaceNetError | undefined;

  constructor(photos: readonly Photo[], net: FaceNetGPU, options: ReadingOptions, warn: (text: string) => void) {
    this.#photos = photos;
    this.#net = net;
    this.#options = options;
    this.#warn = warn;
  }

  /** Items seen so far. */
  get items(): readonly Item[] {
    return this.#items;
  }

  /** Why an item could not be read, if it could not. */
  failureOf(item: Item): FaceNetError | undefined {
    return this.#failed.get(item);
  }

  /** What `faces` threw, which names its photo already. */
  get thrown(): FaceNetError | undefined {
    return this.#thrown;
  }

  /** The item of the n-th face that was handed out. */
  handedOut(n: number): Item {
    return this.#handedOut[n] as Item;
  }

  /** Faces in order. A photo that cannot be read throws, with its item's index, or is noted and left out. */
  async *faces(): AsyncGenerator<Face> {
    for (const photo of this.#photos) {
      try {
        const { list, detection } = this.#options;
        const listed = list?.facesOf(photo.name);
        const image = await this.#read(photo);
        const found = await detection?.facesOf(photo.name, image, this.#net);
        const { template } = this.#net.model.input;
        if (found !== undefined && !found.some((face) => canAlign(face, image, template)))
          throw new FaceNetError(
            'no-face',
            `${photo.name}: a face, got ${found.length > 0 ? 'only such as lie outside the picture' : 'none found'}. Try --min-face for a smaller one, or leave the photo out.`,
          );
        if (found !== undefined) {
          for (const [face, one] of found.entries()) {
            if (!canAlign(one, image, template)) continue;
            this.#add({ image: photo.name, face });
            yield { image, landmarks: one.landmarks, box: one.box };
          }
        } else if (listed === undefined) {
          this.#checkCrop(photo, image);
          this.#add({ image: photo.name, face: 0 });
          yield image;
        } else {
          for (const [face, { landmarks, name }] of listed.entries()) {
            this.#add({ image: photo.name, face, ...(name !== undefined && { name }) });
            yield { image, landmarks };
          }
        }
      } catch (error) {
        if (!(error instanceof FaceNetError)) throw error;
        const item = { index: this.#items.length, image: photo.name };
        const failure = named(error, item);
        if (!this.#options.skipBad) throw (this.#thrown = failure);
        this.#items.push(item);
        this.#failed.set(item, failure);
      }
    }
  }

  #add(about: Omit<Item, 'index'>): void {
    const item = { index: this.#items.length, ...about };
    this.#items.push(item);
    this.#handedOut.push(item);
  }

  async #read({ name, bytes }: Photo): Promise<Pixels> {
    const { decoder } = this.#options;
    return this.#images.read(bytes ?? name, { source: name, ...(decoder && { decoder }) });
  }

  #checkCrop({ name }: Photo, { width, height }: Pixels): void {
    const { input } = this.#net.model;
    if (this.#options.aligned) {
      // A pixel more or less is how programs round.
      if (Math.abs(width * input.height - height * input.width) > Math.max(input.width, input.height)) {
        throw new FaceNetError(
          'input',
          `${name}: --aligned needs crops of the proportions ${input.width} x ${input.height}, got ${width} x ${height}. Give the photo with --detect or --landmarks.`,
        );
      }
      return;
    }
    if (this.#warned) return;
    this.#warned = true;
    const whole = width * input.height === height * input.width ? 'whole' : 'cut to the middle square';
    this.#warn(
      `${name} and all others are taken for face crops (this one ${whole}), since nothing says where the faces are: give --detect or --landmarks FILE, or --aligned if they are crops`,
    );
  }
}

/** The error with the photo's name in its text and the item's index. */
export function named(error: FaceNetError, { image, index }: Item): FaceNetError {
  // The API calls a face that came without a path by its number.
  const text = error.message.replace(/^(faces\[\d+\]|image): /, '');
  const message = text.startsWith(`${image}:`) ? text : `${image}: ${text}`;
  return new FaceNetError(error.code, message, { cause: error, index });
}

/**
 * Embeds the faces of photos; gives every item in order as soon as it and all before it are ready.
 * @throws the first failure, unless `skipBad`; 'aborted'.
 */
export async function* embedPhotos(
  net: FaceNetGPU,
  photos: readonly Photo[],
  options: ReadingOptions,
  { terminal, signal }: { readonly terminal: Terminal; readonly signal: AbortSignal },
): AsyncGenerator<Result> {
  const reader = new FaceReader(photos, net, options, (text) => terminal.warn(text));
  const counter = terminal.counter('faces', photos.length);
  const results = new Map<Item, Result>();
  let next = 0;
  let photosDone = 0;
  const start = performance.now();
  let embedded = 0;
  try {
    for await (const part of net.embedStream(reader.faces(), { signal, onError: options.skipBad ? 'skip' : 'throw' })) {
      for (const { index, error } of part.skipped) {
        const item = reader.handedOut(index);
        results.set(item, { ...item, error: named(error, item) });
      }
      part.indices.forEach((index, row) => {
        const item = reader.handedOut(index);
        results.set(item, { ...item, vector: part.data.slice(row * part.dimensions, (row + 1) * part.dimensions) });
      });
      embedded += part.count;
      for (; next < reader.items.length; next++) {
        const result = resultOf(reader, results, next);
        if (!result) break;
        results.delete(reader.items[next] as Item);
        if (result.image !== reader.items[next - 1]?.image) photosDone++;
        yield result;
      }
      counter.update(photosDone);
    }
    // Photos that failed behind the last face.
    for (; next < reader.items.length; next++) yield resultOf(reader, results, next) as Result;
  } catch (error) {
    // The stream counts the faces it was given.
    const index = error instanceof FaceNetError && error !== reader.thrown ? error.index : undefined;
    throw index === undefined ? error : named(error as FaceNetError, reader.handedOut(index));
  } finally {
    counter.stop();
  }
  const milliseconds = performance.now() - start;
  if (embedded > 0) {
    terminal.note(
      `${embedded} ${embedded === 1 ? 'face' : 'faces'} in ${(milliseconds / 1000).toFixed(2)} s, ${(milliseconds / embedded).toFixed(1)} ms each, on ${net.why}`,
    );
  }
}

function resultOf(reader: FaceReader, results: ReadonlyMap<Item, Result>, index: number): Result | undefined {
  const item = reader.items[index] as Item;
  const failure = reader.failureOf(item);
  return failure ? { ...item, error: failure } : results.get(item);
}
