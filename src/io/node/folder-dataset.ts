import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FaceNetError } from '../../errors.ts';
import type { Pixels } from '../images.ts';
import { readImageFile } from './image-files.ts';

/** Decoded pictures kept in memory, in bytes: 1 GiB. */
const CACHE_BYTES = 2 ** 30;
const IMAGE = /\.(jpe?g|png|pnm|ppm|pgm|webp|avif|tiff?)$/i;

/** A folder of people: one sub-folder a person, named after them, with their pictures. */
export interface FolderDataset {
  /** Number of the person of each picture. */
  readonly labels: Int32Array;
  /** Names by number, code point for code point as the folders are called. */
  readonly names: readonly string[];
  readonly paths: readonly string[];
  read(index: number): Promise<{ pixels: Pixels }>;
  source(index: number): string;
}

/**
 * Opens ROOT/person/*.jpg. People and pictures are in the order of their names' code points, so that a seed draws the same on every
 * machine; files that are no pictures by name are left alone. Pictures are read when they are drawn and kept as RGB.
 *
 * @throws FaceNetError 'input' for a folder that cannot be read or holds no person with a picture.
 */
export async function folderDataset(root: string): Promise<FolderDataset> {
  const names: string[] = [];
  const paths: string[] = [];
  const labels: number[] = [];
  for (const entry of await list(root)) {
    if (!entry.isDirectory()) continue;
    const pictures = (await list(join(root, entry.name))).filter((file) => file.isFile() && IMAGE.test(file.name));
    if (pictures.length === 0) continue;
    for (const { name } of pictures) {
      paths.push(join(root, entry.name, name));
      labels.push(names.length);
    }
    names.push(entry.name);
  }
  if (paths.length === 0)
    throw new FaceNetError(
      'input',
      `${root}: must hold one folder a person with pictures in it (person/*.jpg), got none.`,
    );
  const cache = new Map<number, Pixels>();
  let kept = 0;
  return {
    labels: Int32Array.from(labels),
    names,
    paths,
    source: (index) => paths[index] as string,
    async read(index) {
      let pixels = cache.get(index);
      if (!pixels) {
        pixels = withoutAlpha(await readImageFile(paths[index] as string));
        if (kept + pixels.data.length <= CACHE_BYTES) {
          kept += pixels.data.length;
          cache.set(index, pixels);
        }
      }
      return { pixels };
    },
  };
}

async function list(folder: string) {
  try {
    return (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
      a.name < b.name ? -1 : a.name > b.name ? 1 : 0,
    );
  } catch (cause) {
    throw new FaceNetError(
      'input',
      `${folder}: must be a folder that can be read, got ${(cause as NodeJS.ErrnoException).code ?? cause}.`,
      { cause },
    );
  }
}

function withoutAlpha({ data, width, height }: Pixels): Pixels {
  if (data.length === width * height * 3) return { data, width, height };
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from] as number;
    rgb[to + 1] = data[from + 1] as number;
    rgb[to + 2] = data[from + 2] as number;
  }
  return { data: rgb, width, height };
}
