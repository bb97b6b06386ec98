import { type FileHandle, open } from 'node:fs/promises';
import { FaceNetError } from '../../errors.ts';
import { type TarEntry, tarEntries } from '../tar.ts';
import { ImageReader } from './image-files.ts';
import { byName, isPictureName, type PictureSet, pictureSet } from './picture-set.ts';

/**
 * A tar archive of people, person/picture.jpg inside folders or not: pictures of one folder are one person, who has the folder's name.
 * People and pictures in the order of their names' code points. The archive is not unpacked; pictures are read when they are drawn.
 *
 * @throws FaceNetError 'input' for what is no tar archive, a damaged one, or one without a person with a picture.
 */
export async function tarDataset(path: string): Promise<PictureSet> {
  const folders = new Map<string, TarEntry[]>();
  await withFile(path, async (file) => {
    const { size } = await file.stat();
    for await (const entry of tarEntries((offset, bytes) => bytesOf(file, offset, bytes), size, path)) {
      const parts = entry.path.split('/').filter((part) => part !== '' && part !== '.');
      const name = parts.pop();
      if (name === undefined || parts.length === 0 || !isPictureName(name)) continue;
      const folder = parts.join('/');
      folders.set(folder, [...(folders.get(folder) ?? []), entry]);
    }
  });
  const people = [...folders]
    .map(([name, entries]) => ({ name, entries: entries.map((entry) => ({ name: entry.path, entry })).sort(byName) }))
    .sort(byName);
  if (people.length === 0)
    throw new FaceNetError(
      'input',
      `${path}: must hold one folder a person with pictures in it (person/*.jpg), got none.`,
    );
  const reader = new ImageReader();
  const entries = people.flatMap((person) => person.entries.map(({ entry }) => entry));
  return pictureSet(
    people.map(({ name, entries: own }) => ({
      name: name.slice(name.lastIndexOf('/') + 1),
      paths: own.map((entry) => `${path}: ${entry.name}`),
    })),
    (index) =>
      withFile(path, async (file) => {
        const { offset, bytes, path: name } = entries[index] as TarEntry;
        return reader.read(await bytesOf(file, offset, bytes), { source: name });
      }),
  );
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    throw new FaceNetError(
      'input',
      `${path}: must be a file that can be read, got ${(cause as NodeJS.ErrnoException).code ?? cause}.`,
      { cause },
    );
  }
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

async function bytesOf(file: FileHandle, offset: number, bytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
