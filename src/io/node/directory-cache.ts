/** Model files kept in a folder. */
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ModelCache } from '../fetch-model.ts';
import { sha256 } from '../sha256.ts';
import { removeUnfinished, replaceFile } from './atomic-file.ts';
import { readWholeFile } from './image-files.ts';

/** Largest entry that is read back, in bytes. */
const MAX_ENTRY_BYTES = 2 ** 31 + 32;

/** The folder used when none is named: below XDG_CACHE_HOME, LOCALAPPDATA, ~/Library/Caches or ~/.cache. */
export function defaultCacheFolder(
  environment: NodeJS.ProcessEnv = process.env,
  platform: string = process.platform,
): string {
  const fallback = platform === 'darwin' ? join(homedir(), 'Library', 'Caches') : join(homedir(), '.cache');
  const base = platform === 'win32' ? environment.LOCALAPPDATA : environment.XDG_CACHE_HOME;
  return join(base || fallback, 'facenet-gpu');
}

/**
 * A cache of one file per key in `folder`, which is made when needed. Entries are written under a temporary name, synced and renamed, so
 * that a reader never sees part of one; what killed processes left is removed at the next write.
 */
export function directoryCache(folder: string = defaultCacheFolder()): ModelCache {
  const path = async (key: string): Promise<string> =>
    join(folder, `${await sha256(new TextEncoder().encode(key))}.entry`);
  return {
    async match(key) {
      const file = await path(key);
      try {
        return await readWholeFile(file, file, MAX_ENTRY_BYTES);
      } catch (error) {
        if ((error as { cause?: NodeJS.ErrnoException }).cause?.code === 'ENOENT') return undefined;
        throw error;
      }
    },
    async put(key, bytes) {
      await mkdir(folder, { recursive: true });
      await removeUnfinished(folder);
      await replaceFile(await path(key), bytes);
    },
  };
}
