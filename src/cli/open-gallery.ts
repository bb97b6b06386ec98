import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { FaceNetError } from '../errors.ts';
import type { GalleryPolicy } from '../faces/gallery/policy.ts';
import type { TemplateKind } from '../faces/gallery/template-table.ts';
import type { FaceGallery, GalleryContent, Lock } from '../faces/gallery.ts';
import { readGallery, writeGallery } from '../io/gallery-file.ts';
import { removeUnfinished, replaceFile } from '../io/node/atomic-file.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { FaceNetGPU } from '../node.ts';

/** Largest gallery file that is read: 2 GiB less one byte, what one buffer of Node holds safely. */
const MAX_GALLERY_BYTES = 2 ** 31 - 1;
const MAX_PASSPHRASE_BYTES = 2 ** 16;

export interface GalleryPlace {
  /** FILE.safetensors. */
  readonly gallery: string;
  /** A file whose text, less one line end, is the passphrase. */
  readonly passphraseFile?: string;
}

export interface OpenedGallery {
  readonly gallery: FaceGallery;
  /** Replaces the file by what the gallery holds now: the old file or the new one, whole, whatever happens. */
  save(): Promise<void>;
}

/** What a gallery file held when it was read. */
export interface GalleryOnDisk {
  readonly place: GalleryPlace;
  readonly lock: Lock;
  /** Undefined where there is no file yet. */
  readonly bytes: Uint8Array | undefined;
  readonly content: GalleryContent | undefined;
}

/**
 * Reads a gallery file, before anything costly is done. @throws 'input' for a place that is none of a file, or a file that must be there and
 * is not; 'store' for a damaged file or a wrong passphrase.
 */
export async function readGalleryPlace(place: GalleryPlace, mustExist: boolean): Promise<GalleryOnDisk> {
  const { gallery: path, passphraseFile } = place;
  if (/^(level|postgres(ql)?):/.test(path) || !path.endsWith('.safetensors')) {
    throw new FaceNetError(
      'input',
      `--gallery: a file ending in .safetensors, got ${JSON.stringify(path)}. Data bases are not in this version.`,
    );
  }
  const lock = passphraseFile === undefined ? {} : { passphrase: await readPassphrase(passphraseFile) };
  const there = await stat(path).then(
    () => true,
    () => false,
  );
  if (!there && !mustExist) {
    const folder = await stat(dirname(path)).catch(() => undefined);
    if (!folder?.isDirectory())
      throw new FaceNetError('input', `--gallery: a file in a folder that exists, got ${path}. Make the folder first.`);
    return { place, lock, bytes: undefined, content: undefined };
  }
  const bytes = await readWholeFile(path, path, MAX_GALLERY_BYTES);
  try {
    return { place, lock, bytes, content: await readGallery(bytes, lock) };
  } catch (error) {
    if (!(error instanceof FaceNetError && error.code === 'store')) throw error;
    const message = error.message
      .replace(/^gallery file:/, `${path}:`)
      .replace(/Give one\.$/, 'Give --passphrase-file.');
    throw new FaceNetError('store', message, { cause: error });
  }
}

/** The gallery of a file, or an empty one for a file to come. @throws 'mismatch' for a gallery of another model. */
export async function openGallery(
  net: FaceNetGPU,
  { place, lock, bytes, content }: GalleryOnDisk,
  options: { templates?: TemplateKind; policy?: GalleryPolicy; k?: number } = {},
): Promise<OpenedGallery> {
  const templates = content ? (content.vectors instanceof Int8Array ? 'int8' : 'float32') : options.templates;
  const gallery = await net.gallery({
    ...options,
    ...(templates && { templates }),
    // The file is read and, if locked, opened already.
    codec: { write: writeGallery, read: async () => content as GalleryContent },
  });
  if (bytes) await gallery.load(bytes);
  const { gallery: path } = place;
  return {
    gallery,
    async save() {
      const now = await readWholeFile(path, path, MAX_GALLERY_BYTES).catch(() => undefined);
      if (now === undefined ? bytes !== undefined : bytes === undefined || !Buffer.from(now).equals(bytes)) {
        throw new FaceNetError(
          'store',
          `${path}: must be as it was read, got a file that somebody changed meanwhile. Run the command again.`,
        );
      }
      await removeUnfinished(dirname(path), basename(path));
      await replaceFile(path, await gallery.save(lock));
    },
  };
}

async function readPassphrase(path: string): Promise<string> {
  const bytes = await readWholeFile(path, path, MAX_PASSPHRASE_BYTES);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FaceNetError('input', `${path}: a passphrase in UTF-8, got other bytes. Write the file again.`, {
      cause,
    });
  }
  const passphrase = text.replace(/\r?\n$/, '');
  if (passphrase === '')
    throw new FaceNetError('input', `${path}: a passphrase that is not empty, got nothing. Write it into the file.`);
  return passphrase;
}
