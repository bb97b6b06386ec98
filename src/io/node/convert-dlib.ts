/** The build's step that makes dist/models/dlib-resnet.safetensors from the development package @vladmandic/face-api. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { convertDlibResNet } from '../face-api.ts';
import type { StoredOperatingPoint } from '../model-file.ts';
import { replaceFile } from './atomic-file.ts';
import { readWholeFile } from './image-files.ts';

/** Largest file of the package that is read, in bytes. */
const LIMIT = 64 << 20;

/**
 * Converts the network and writes it, whole or not at all.
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
  const read = (name: string): Promise<Uint8Array> => readWholeFile(join(folder, name), name, LIMIT);
  const [manifest, weights] = await Promise.all([
    read('face_recognition_model-weights_manifest.json'),
    read('face_recognition_model.bin'),
  ]);
  const bytes = await convertDlibResNet({ manifest, weights }, library, operatingPoints);
  await mkdir(join(output, '..'), { recursive: true });
  await replaceFile(output, bytes);
  return bytes.length;
}
