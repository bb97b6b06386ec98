/** Weights of others from the file system: one file, a manifest with the files it names, or a folder. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FaceNetError } from '../../errors.ts';
import type { ForeignWeights } from '../convert.ts';
import { MAX_MANIFEST_CHARACTERS, manifestPaths } from '../face-api.ts';
import { readWholeFile } from './image-files.ts';

/** Most bytes that are read in all: 2 GiB. NN1 in PyTorch's form has 560 MB. */
const LIMIT = 2 ** 31;
/** Most files of a folder. nn4.small2 has 224. */
const MAX_FILES = 10_000;
/** What is taken from a folder. */
const KINDS = /\.(csv|npy|pt|pth)$/i;

/**
 * Reads a file, or the weights in a folder (.csv, .npy, .pt, .pth; not its folders). A manifest (.json) is read with the files it names beside it.
 * @throws FaceNetError 'input' where something cannot be read or is too large; 'model' for a manifest that names files elsewhere.
 */
export async function readForeignFiles(path: string): Promise<ForeignWeights> {
  const status = await stat(path).catch(() => undefined);
  if (status?.isDirectory()) {
    const names = (await readdir(path)).filter((name) => KINDS.test(name)).sort();
    if (names.length === 0 || names.length > MAX_FILES) {
      throw new FaceNetError(
        'input',
        `${path}: a folder of 1 to ${MAX_FILES} files ending in .csv, .npy, .pt or .pth, got ${names.length}. Name the file of the weights; of face-api.js its manifest.`,
      );
    }
    return readAll(path, names);
  }
  const isManifest = path.endsWith('.json');
  const bytes = await readWholeFile(path, path, isManifest ? 4 * MAX_MANIFEST_CHARACTERS : LIMIT);
  if (!isManifest) return bytes;
  const names = manifestPaths(new TextDecoder().decode(bytes), path);
  const elsewhere = names.find(
    (name) => basename(name) !== name || name === '..' || name === '.' || name.includes('\\'),
  );
  if (elsewhere !== undefined) {
    throw new FaceNetError(
      'model',
      `${path}: names files in its own folder, got ${JSON.stringify(elsewhere).slice(0, 80)}. Get the manifest again.`,
    );
  }
  const files = await readAll(dirname(path), [...new Set(names)]);
  return new Map([[basename(path), bytes], ...files]);
}

/** Files one after another, so that the sum is known before the next is read. */
async function readAll(folder: string, names: readonly string[]): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  let left = LIMIT;
  for (const name of names) {
    const bytes = await readWholeFile(join(folder, name), join(folder, name), left);
    left -= bytes.length;
    files.set(name, bytes);
  }
  return files;
}
