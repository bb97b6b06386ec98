/** The build's step that makes dist/models/tiny-face.safetensors from the development package @vladmandic/face-api. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { convertTinyFace, TINY_FACE_SOURCES } from '../tiny-face.ts';
import { replaceFile } from './atomic-file.ts';
import { readWholeFile } from './image-files.ts';

/** Largest file of the package that is read, in bytes. */
const LIMIT = 16 << 20;

/**
 * Converts the networks and writes them, whole or not at all.
 * @param folder the package's `model` folder. @param output the file to write; its folder is made. @param library see `convertTinyFace`.
 * @returns the number of bytes written. @throws FaceNetError 'input' or 'model'.
 */
export async function convertTinyFaceFiles(folder: string, output: string, library: string): Promise<number> {
  const names = TINY_FACE_SOURCES.flatMap(({ name }) => [`${name}-weights_manifest.json`, `${name}.bin`]);
  const files = await Promise.all(
    names.map(async (name) => [name, await readWholeFile(join(folder, name), name, LIMIT)] as const),
  );
  const bytes = await convertTinyFace(new Map(files), library);
  await mkdir(join(output, '..'), { recursive: true });
  await replaceFile(output, bytes);
  return bytes.length;
}
