import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { type FileFunctions, type OpenFile, removeUnfinished, replaceFile } from '../src/io/node/atomic-file.ts';
import { bundleSource } from './bundle.mjs';
import { killedWriter } from './killed-writer.ts';
import { generator } from './oracles/plain-random.ts';

const KILLS = Number(process.env.FACENET_KILLS ?? 50);
const folder = mkdtempSync(join(tmpdir(), 'facenet-atomic-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A file system in memory that keeps what was synced apart from what was only written, and fails at one chosen call. */
class FaultFiles implements FileFunctions {
  /** Content as a process sees it, and as it is after a loss of power. */
  readonly seen = new Map<string, Uint8Array>();
  readonly durable = new Map<string, Uint8Array>();
  readonly #pending: (() => void)[] = [];
  calls = 0;
  openFiles = 0;
  #failAt: number;
  #how: 'ENOSPC' | 'EIO' | 'EACCES' | 'short';

  constructor(failAt = Number.POSITIVE_INFINITY, how: 'ENOSPC' | 'EIO' | 'EACCES' | 'short' = 'EIO') {
    this.#failAt = failAt;
    this.#how = how;
  }

  #call(): boolean {
    this.calls++;
    if (this.calls !== this.#failAt) return false;
    if (this.#how === 'short') return true;
    throw Object.assign(new Error(this.#how), { code: this.#how });
  }

  readonly open = async (path: string, flags: string): Promise<OpenFile> => {
    this.#call();
    this.openFiles++;
    if (flags === 'wx') {
      if (this.seen.has(path)) throw Object.assign(new Error('EEXIST'), { code: 'EEXIST' });
      this.seen.set(path, new Uint8Array(0));
    }
    return {
      write: async (bytes, offset, length) => {
        const wanted = this.#call() ? Math.ceil(length / 2) : length;
        const old = this.seen.get(path) as Uint8Array;
        this.seen.set(path, Uint8Array.from([...old, ...bytes.subarray(offset, offset + wanted)]));
        return { bytesWritten: wanted };
      },
      sync: async () => {
        this.#call();
        if (flags === 'r') for (const rename of this.#pending.splice(0)) rename();
        else this.durable.set(path, this.seen.get(path) as Uint8Array);
      },
      close: async () => {
        this.openFiles--;
        this.#call();
      },
    };
  };

  readonly rename = async (from: string, to: string): Promise<void> => {
    this.#call();
    this.seen.set(to, this.seen.get(from) as Uint8Array);
    this.seen.delete(from);
    this.#pending.push(() => {
      // Content that was never synced is lost with the power, even if its name is not.
      this.durable.set(to, this.durable.get(from) ?? new Uint8Array(0));
      this.durable.delete(from);
    });
  };

  readonly rm = async (path: string): Promise<void> => {
    this.seen.delete(path);
  };
}

describe('replaceFile', () => {
  const oldBytes = Uint8Array.of(1, 2, 3);
  const newBytes = Uint8Array.of(4, 5, 6, 7, 8);
  const path = join('d', 'file');

  it('is durable when it returns: survives a loss of power at once', async () => {
    const files = new FaultFiles();
    await replaceFile(path, newBytes, files);
    expect(files.durable.get(path)).toEqual(newBytes);
    expect([...files.seen.keys()]).toEqual([path]);
    expect(files.openFiles).toBe(0);
    expect(files.calls).toBe(8);
  });

  for (const how of ['ENOSPC', 'EIO', 'EACCES', 'short'] as const) {
    it(`${how} at every call: old or new, whole, and nothing left over`, async () => {
      for (let k = 1; k <= 9; k++) {
        const files = new FaultFiles(k, how);
        files.seen.set(path, oldBytes);
        files.durable.set(path, oldBytes);
        const outcome = await replaceFile(path, newBytes, files).then(
          () => 'done',
          (error: unknown) => error,
        );
        const context = `call ${k}`;
        if (outcome === 'done') expect(files.durable.get(path), context).toEqual(newBytes);
        else {
          expect(outcome, context).toBeInstanceOf(FaceNetError);
          expect((outcome as FaceNetError).message, context).toContain(how);
        }
        for (const state of [files.seen.get(path), files.durable.get(path)]) {
          expect([String(oldBytes), String(newBytes)], context).toContain(String(state));
        }
        expect([...files.seen.keys()], context).toEqual([path]);
        expect(files.openFiles, context).toBe(0);
      }
    });
  }

  it('writes real files, replaces them, and names what is wrong', async () => {
    const file = join(folder, 'real');
    await replaceFile(file, oldBytes);
    await replaceFile(file, newBytes);
    expect(new Uint8Array(readFileSync(file))).toEqual(newBytes);
    await replaceFile(file, new Uint8Array(0));
    expect(statSync(file).size).toBe(0);
    expect(readdirSync(folder)).toEqual(['real']);
    const missing = join(folder, 'none', 'x');
    await expect(replaceFile(missing, newBytes)).rejects.toThrow(`${missing}: a file that can be written, got ENOENT`);
    mkdirSync(join(folder, 'taken', 'inside'), { recursive: true });
    await expect(replaceFile(join(folder, 'taken'), newBytes)).rejects.toMatchObject({ code: 'input' });
    expect(readdirSync(folder).sort()).toEqual(['real', 'taken']);
    await Promise.all(Array.from({ length: 20 }, (_, i) => replaceFile(file, Uint8Array.of(i))));
    expect(statSync(file).size).toBe(1);
    expect(readdirSync(folder).sort()).toEqual(['real', 'taken']);
  });

  it('removes what the dead left, and nothing else', async () => {
    const place = join(folder, 'leftovers');
    mkdirSync(place);
    const random = 'a'.repeat(12);
    // Linux counts processes to 2^22 at most, so this one cannot live.
    const dead = [`model.4194999-${random}.partial`, `x.y.4194999-${random}.partial`];
    const kept = [
      `model.${process.ppid}-${random}.partial`,
      'model.partial',
      `model.12-${random}`,
      'model',
      `.4194999-${random}.partial`,
    ];
    for (const name of [...dead, ...kept]) writeFileSync(join(place, name), 'x');
    expect(await removeUnfinished(place, 'model')).toEqual([dead[0]]);
    expect(await removeUnfinished(place)).toEqual([dead[1]]);
    expect(readdirSync(place).sort()).toEqual([...kept].sort());
  });
});

describe('R3: kill -9', () => {
  it(`loses nothing acknowledged in ${KILLS} kills`, { timeout: 60_000 + KILLS * 5000 }, async () => {
    const program = join(folder, 'writer.mjs');
    await bundleSource({
      entry: fileURLToPath(new URL('./oracles/kill-writer.ts', import.meta.url)),
      output: program,
      platform: 'node',
    });
    const next = generator(20_261_126);
    const file = join(folder, 'killed', 'state');
    mkdirSync(join(folder, 'killed'));
    let acknowledged = 0;
    let written = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      // 1 to 100 ms after the first acknowledgement, log-uniform.
      const lines = await killedWriter(program, [file, String(acknowledged)], 10 ** (next(2001) / 1000));
      expect(lines.length, `kill ${kill}: the writer wrote nothing`).toBeGreaterThan(0);
      written += lines.length;
      const last = lines.at(-1) as number;
      const bytes = readFileSync(file);
      const found = bytes.readUInt32LE(0);
      expect(
        createHash('sha256').update(bytes.subarray(32)).digest().subarray(4).equals(bytes.subarray(4, 32)),
        `kill ${kill}: half a file`,
      ).toBe(true);
      expect(found, `kill ${kill}: an acknowledged write is gone`).toBeGreaterThanOrEqual(last);
      expect(found).toBeLessThanOrEqual(last + 1);
      acknowledged = found;
      await removeUnfinished(join(folder, 'killed'));
      expect(readdirSync(join(folder, 'killed')), `kill ${kill}: a stray file`).toEqual(['state']);
    }
    expect(existsSync(file)).toBe(true);
    console.log(`${KILLS} kills, ${written} acknowledged writes, none lost`);
  });
});
