import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { FaceNetError } from '../errors.ts';
import { imageFormat } from '../io/images.ts';

/** An image to read: a path, or bytes that came through standard input. */
export interface Photo {
  /** What it is called in messages and answers. */
  readonly name: string;
  readonly bytes?: Uint8Array;
}

/** File names that are taken for images in a folder. Files that are named are read whatever their name. */
const imageName = /\.(jpe?g|png|p[gpn]m|webp|avif|gif|tiff?|heic|bmp)$/i;

/** Most bytes taken from standard input: 1 GiB. */
const MAX_INPUT_BYTES = 1 << 30;

/**
 * The photos that arguments stand for: files as they are, folders as all images directly in them, sorted by name, `-` as what comes
 * through standard input, an image or a list of paths. @throws 'input' for an empty folder and input that is neither.
 */
export async function findPhotos(names: readonly string[], stdin: Readable, signal: AbortSignal): Promise<Photo[]> {
  const photos: Photo[] = [];
  let read = false;
  for (const name of names) {
    if (name === '-') {
      if (read) throw new FaceNetError('input', '-: standard input can be read once, got it named twice.');
      read = true;
      photos.push(...(await photosFromInput(stdin, signal)));
    } else if (await isFolder(name)) photos.push(...(await photosIn(name)));
    else photos.push({ name });
  }
  return photos;
}

async function isFolder(path: string): Promise<boolean> {
  // What is not there is reported by who reads it, with the others.
  return stat(path).then(
    (status) => status.isDirectory(),
    () => false,
  );
}

async function photosIn(folder: string): Promise<Photo[]> {
  let entries: string[];
  try {
    entries = (await readdir(folder, { withFileTypes: true }))
      .filter((entry) => !entry.isDirectory() && imageName.test(entry.name))
      .map((entry) => entry.name);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    throw new FaceNetError('input', `${folder}: a folder that can be read, got ${code}. Check its permissions.`, {
      cause,
    });
  }
  if (entries.length === 0) {
    throw new FaceNetError(
      'input',
      `${folder}: a folder with images (.jpg, .png, ...), got none in it. Folders in it are not searched.`,
    );
  }
  // By code units: the same order everywhere.
  return entries.sort().map((entry) => ({ name: join(folder, entry) }));
}

async function photosFromInput(stdin: Readable, signal: AbortSignal): Promise<Photo[]> {
  const bytes = await readInput(stdin, signal);
  if (imageFormat(bytes) !== undefined) return [{ name: '-', bytes }];
  const list = pathsOf(bytes);
  if (list === undefined || list.length === 0) {
    const got = bytes.length === 0 ? 'nothing' : list === undefined ? 'other bytes' : 'blank lines';
    throw new FaceNetError(
      'input',
      `-: an image or a list of paths on standard input, got ${got}. Pipe one of them in.`,
    );
  }
  return list.map((name) => ({ name }));
}

/** All of standard input. @throws 'input' above 1 GiB, 'aborted'. */
export async function readInput(stdin: Readable, signal: AbortSignal): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of addAbortSignal(signal, stdin) as AsyncIterable<Buffer>) {
      parts.push(part);
      size += part.length;
      if (size > MAX_INPUT_BYTES)
        throw new FaceNetError('input', `-: at most ${MAX_INPUT_BYTES} bytes on standard input, got more.`);
    }
  } catch (cause) {
    if (signal.aborted) throw new FaceNetError('aborted', 'facenet: stopped while reading standard input.', { cause });
    throw cause;
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** Lines that are not blank, or undefined where the bytes are no text. */
function pathsOf(bytes: Uint8Array): string[] | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return text.includes('\0') ? undefined : text.split(/\r?\n/).filter((line) => line.trim() !== '');
  } catch {
    return undefined;
  }
}
