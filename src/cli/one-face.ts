import { FaceNetError } from '../errors.ts';
import type { Embeddings, FaceNetGPU } from '../node.ts';
import type { Context } from './context.ts';
import { embedPhotos, type ReadingOptions, type Result } from './face-reader.ts';
import type { Photo } from './photos.ts';

/** One result per photo. A photo with several listed faces fails: which one is meant is not known. */
export async function* oneFaceEach(
  net: FaceNetGPU,
  photos: readonly Photo[],
  reading: ReadingOptions,
  context: Context,
): AsyncGenerator<Result> {
  let last: Result | undefined;
  for await (const result of embedPhotos(net, photos, reading, context)) {
    if (last?.image === result.image) {
      const { index, image } = last;
      const error = new FaceNetError(
        'input',
        reading.detection
          ? `${image}: one face, got ${reading.detection.found.get(image)?.length}. Take the largest with --largest, or cut them out with facenet detect --crops.`
          : `${image}: one face, got several in ${reading.list?.source}. Keep one of them there, or cut them out with facenet align.`,
        { index },
      );
      if (!reading.skipBad) throw error;
      last = { index, image, error };
    } else {
      if (last) yield last;
      last = result;
    }
  }
  if (last) yield last;
}

/** One vector in the form that the API takes. */
export function embeddingsOf(vector: Float32Array, net: FaceNetGPU): Embeddings {
  return {
    data: vector,
    count: 1,
    dimensions: net.dimensions,
    fingerprint: net.fingerprint,
    indices: Uint32Array.of(0),
    skipped: [],
  };
}
