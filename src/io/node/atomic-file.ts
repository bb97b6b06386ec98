/** Files that are either the old or the new ones, whole, whatever happens in between. */
import { randomBytes } from 'node:crypto';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FaceNetError } from '../../errors.ts';

/** What is needed of a file system; Node's by default, replaced by tests that fail at a chosen call. */
export interface FileFunctions {
  readonly open: (path: string, flags: string) => Promise<OpenFile>;
  readonly rename: (from: string, to: string) => Promise<void>;
  readonly rm: (path: string, options: { force: true }) => Promise<void>;
}

/** An open file or folder. `write` may write less than asked. */
export interface OpenFile {
  write(bytes: Uint8Array, offset: number, length: number): Promise<{ bytesWritten: number }>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

const nodeFiles: FileFunctions = { open, rename, rm };

/** Names of unfinished files: the final name, the writer's process, a random part. */
const UNFINISHED = /^(.+)\.([0-9]+)-[0-9a-f]{12}\.partial$/;

function unfinishedName(name: string): string {
  return `${name}.${process.pid}-${randomBytes(6).toString('hex')}.partial`;
}

/**
 * Writes a file: to a temporary name beside it, synced, renamed, then the folder synced. When this returns, the bytes survive a crash of
 * the machine; when it throws or the process is killed, the old file is as it was. Readers see the one or the other.
 * @throws FaceNetError 'input' where the file cannot be written (no such folder, no permission, no room), with the cause.
 */
export async function replaceFile(path: string, bytes: Uint8Array, files: FileFunctions = nodeFiles): Promise<void> {
  const temporary = join(dirname(path), unfinishedName(basename(path)));
  let created = false;
  try {
    // 'wx': a new file or none, never one that somebody else is writing.
    const file = await files.open(temporary, 'wx');
    created = true;
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, at, bytes.length - at);
        if (bytesWritten <= 0) throw new Error('nothing was written');
        at += bytesWritten;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(temporary, path);
    created = false;
    await syncFolder(dirname(path), files);
  } catch (cause) {
    if (created) await files.rm(temporary, { force: true }).catch(() => undefined);
    const code = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    throw new FaceNetError(
      'input',
      `${path}: a file that can be written, got ${code}. Check folder, permission and free space.`,
      { cause },
    );
  }
}

/** Makes a rename last. Windows cannot open folders; its renames are journalled. */
async function syncFolder(path: string, files: FileFunctions): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await files.open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Removes what killed writers left in a folder: unfinished files whose process is gone, of `name` or of every name. Files that a living
 * process of this machine writes stay.
 * @returns the names removed.
 */
export async function removeUnfinished(folder: string, name?: string): Promise<string[]> {
  const removed: string[] = [];
  for (const entry of await readdir(folder)) {
    const match = UNFINISHED.exec(entry);
    if (match === null || (name !== undefined && match[1] !== name)) continue;
    const path = join(folder, entry);
    if (await hasWriter(path, Number(match[2]))) continue;
    await rm(path, { force: true });
    removed.push(entry);
  }
  return removed;
}

/** Whether the process that began this file still lives. Our own number may be that of an earlier life (in a container it always is). */
async function hasWriter(path: string, pid: number): Promise<boolean> {
  if (pid === process.pid) {
    const status = await stat(path).catch(() => undefined);
    return status !== undefined && status.birthtimeMs >= performance.timeOrigin;
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
