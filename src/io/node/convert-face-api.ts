/** The build's step that makes the files of dist/models from the development package @vladmandic/face-api. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { convertDlibResNet } from '../face-api.ts';
import type { StoredOperatingPoint } from '../model-file.ts';
import { convertTinyFace, TINY_FACE_SOURCES } from '../tiny-face.ts';
import { replaceFile } from './atomic-file.ts';
import { readWholeFile } from './image-files.ts';

/** Largest files of the package that are read, in bytes. */
const DLIB_LIMIT = 64 << 20;
const TINY_FACE_LIMIT = 16 << 20;

/**
 * Converts dlib's face recognition network and writes it, whole or not at all.
 * @param folder the package's `model` folder. @param output the file to write; its folder is made. @param library and operatingPoints: see
 * `convertDlibResNet`.
 * @returns the number of bytes written. @throws FaceNetError 'input' or 'model'.
 */
export async function convertDlibFiles(
  folder: string,
  output: string,
  library: string,
  operatingPoints: readonly StoredOperatingPoint[] = [],
): Promise<number> {
  const [manifest, weights] = await readFiles(
    folder,
    ['face_recognition_model-weights_manifest.json', 'face_recognition_model.bin'],
    DLIB_LIMIT,
  );
  return write(output, await convertDlibResNet({ manifest, weights } as Files, library, operatingPoints));
}

type Files = Parameters<typeof convertDlibResNet>[0];

/**
 * Converts the tiny face detector and the 68-point network and writes them, whole or not at all.
 * @param folder, output, library: as for `convertDlibFiles`; see `convertTinyFace`.
 * @returns the number of bytes written. @throws FaceNetError 'input' or 'model'.
 */
export async function convertTinyFaceFiles(folder: string, output: string, library: string): Promise<number> {
  const names = TINY_FACE_SOURCES.flatMap(({ name }) => [`${name}-weights_manifest.json`, `${name}.bin`]);
  const files = await readFiles(folder, names, TINY_FACE_LIMIT);
  return write(
    output,
    await convertTinyFace(new Map(names.map((name, index) => [name, files[index] as Uint8Array])), library),
  );
}

const readFiles = (folder: string, names: readonly string[], limit: number): Promise<Uint8Array[]> =>
  Promise.all(names.map((name) => readWholeFile(join(folder, name), name, limit)));

async function write(output: string, bytes: Uint8Array): Promise<number> {
  await mkdir(join(output, '..'), { recursive: true });
  await replaceFile(output, bytes);
  return bytes.length;
}
