import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FaceNetError } from '../../errors.ts';
import { ImageReader } from './image-files.ts';
import { byName, isPictureName, type PictureSet, pictureSet } from './picture-set.ts';

/** A folder of people: one sub-folder a person, named after them, with their pictures. */
export type FolderDataset = PictureSet;

/**
 * Opens ROOT/person/*.jpg. People and pictures are in the order of their names' code points, so that a seed draws the same on every
 * machine; files that are no pictures by name are left alone. Pictures are read when they are drawn and kept as RGB.
 *
 * @throws FaceNetError 'input' for a folder that cannot be read or holds no person with a picture.
 */
export async function folderDataset(root: string): Promise<FolderDataset> {
  const people: { name: string; paths: string[] }[] = [];
  for (const entry of await list(root)) {
    if (!entry.isDirectory()) continue;
    const pictures = (await list(join(root, entry.name))).filter((file) => file.isFile() && isPictureName(file.name));
    if (pictures.length > 0)
      people.push({ name: entry.name, paths: pictures.map(({ name }) => join(root, entry.name, name)) });
  }
  if (people.length === 0)
    throw new FaceNetError(
      'input',
      `${root}: must hold one folder a person with pictures in it (person/*.jpg), got none.`,
    );
  const reader = new ImageReader();
  const set = pictureSet(people, (index) => reader.read(set.paths[index] as string));
  return set;
}

/** A folder of people, or a tar archive of one. @throws as folderDataset() and tarDataset(). */
export async function peopleDataset(path: string): Promise<FolderDataset> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return folderDataset(path);
  return (await import('./tar-dataset.ts')).tarDataset(path);
}

async function list(folder: string) {
  try {
    return (await readdir(folder, { withFileTypes: true })).sort(byName);
  } catch (cause) {
    throw new FaceNetError(
      'input',
      `${folder}: must be a folder that can be read, got ${(cause as NodeJS.ErrnoException).code ?? cause}.`,
      { cause },
    );
  }
}
