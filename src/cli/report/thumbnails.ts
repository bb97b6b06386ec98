import { FaceNetError } from '../../errors.ts';
import { ImageReader } from '../../io/node/image-files.ts';
import type { FaceNetGPU } from '../../node.ts';
import { png } from '../align.ts';
import type { ReadingOptions } from '../face-reader.ts';
import type { Photo } from '../photos.ts';

/** Pictures of faces for a page: what the model saw, as data URIs. */
export class Thumbnails {
  readonly #net: FaceNetGPU;
  readonly #reading: ReadingOptions;
  readonly #bytes: ReadonlyMap<string, Uint8Array>;
  readonly #reader = new ImageReader();

  constructor(net: FaceNetGPU, reading: ReadingOptions, photos: readonly Photo[]) {
    this.#net = net;
    this.#reading = reading;
    this.#bytes = new Map(photos.flatMap(({ name, bytes }) => (bytes ? [[name, bytes] as const] : [])));
  }

  /** The crop of a face as a data URI, or undefined where its photo cannot be read any more. */
  async of(image: string, face = 0): Promise<string | undefined> {
    const { list, detection, decoder } = this.#reading;
    try {
      const pixels = await this.#reader.read(this.#bytes.get(image) ?? image, {
        source: image,
        ...(decoder && { decoder }),
      });
      const found = list?.facesOf(image)[face] ?? detection?.found.get(image)?.[face];
      const crop = await this.#net.align(found ? { ...found, image: pixels } : pixels);
      return `data:image/png;base64,${Buffer.from(png(crop)).toString('base64')}`;
    } catch (error) {
      if (error instanceof FaceNetError && ['image', 'input', 'no-face'].includes(error.code)) return undefined;
      throw error;
    }
  }
}
