/**
 * Zip archives (APPNOTE 6.3) as numpy and PyTorch write them: stored and deflated entries, 64-bit sizes. Entries that are stored are views
 * of the archive; deflated ones grow only as real data arrive, and no further than the limits.
 */
import { Inflate, inflateSync } from 'fflate';
import { FaceNetError } from '../errors.ts';
import { crc32 } from './crc32.ts';
import { quoteName } from './safetensors.ts';

/** Entries that are listed at most. */
const MAX_ENTRIES = 65_536;
/** All entries of an archive together may inflate to this many times its size, plus 2 MB: numbers do not compress better. */
const MAX_RATIO = 64;
const SPARE_BYTES = 2 << 20;
const INFLATE_STEP = 1 << 14;
/** Entries up to this size are inflated in one go: the stepwise decoder needs some 400 kB by itself. */
const SMALL = 1 << 20;

/** An opened archive. */
export interface ZipArchive {
  /** Names in the order of the directory, unique. */
  readonly names: readonly string[];
  /** Content of an entry, or undefined where there is none. @throws FaceNetError 'model' where it is damaged. */
  read(name: string): Uint8Array | undefined;
}

interface Entry {
  readonly method: number;
  /** CRC-32 of the content; 0 where the writer left it out, as PyTorch may be told to. */
  readonly checksum: number;
  readonly packed: number;
  readonly size: number;
  readonly offset: number;
}

/** True where the bytes begin as a zip archive does. */
export function isZip(bytes: Uint8Array): boolean {
  return (
    bytes[0] === 0x50 && bytes[1] === 0x4b && ((bytes[2] === 3 && bytes[3] === 4) || (bytes[2] === 5 && bytes[3] === 6))
  );
}

/**
 * Reads the directory of an archive.
 * @throws FaceNetError 'model' for a truncated, damaged, encrypted or split archive, doubled names, and methods other than stored and deflated.
 */
export function openZip(bytes: Uint8Array, source: string): ZipArchive {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Get the file again.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u64 = (at: number): number => view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;

  // The end record is 22 bytes and a comment of at most 65,535; the last one counts.
  let end = bytes.length - 22;
  const lowest = Math.max(0, end - 65_535);
  while (
    end >= lowest &&
    !(view.getUint32(end, true) === 0x06054b50 && end + 22 + view.getUint16(end + 20, true) === bytes.length)
  )
    end--;
  if (end < lowest || end < 0) throw refuse('truncated zip: it ends in a directory', 'none');
  let count = view.getUint16(end + 10, true);
  let directory = view.getUint32(end + 16, true);
  let directoryBytes = view.getUint32(end + 12, true);
  if (end >= 20 && view.getUint32(end - 20, true) === 0x07064b50) {
    const wide = u64(end - 12);
    if (!(wide + 56 <= end) || view.getUint32(wide, true) !== 0x06064b50)
      throw refuse('a zip has its 64-bit directory', 'none');
    count = u64(wide + 32);
    directoryBytes = u64(wide + 40);
    directory = u64(wide + 48);
  }
  if (count > MAX_ENTRIES) throw refuse(`at most ${MAX_ENTRIES} entries`, `${count}`);
  if (!(directory + directoryBytes <= end)) throw refuse('the directory of a zip lies inside', `${directory}`);

  const entries = new Map<string, Entry>();
  const limit = directory + directoryBytes;
  let at = directory;
  for (let i = 0; i < count; i++) {
    if (at + 46 > limit || view.getUint32(at, true) !== 0x02014b50)
      throw refuse('a directory lists every entry', `${i} of ${count}`);
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    let packed = view.getUint32(at + 20, true);
    let size = view.getUint32(at + 24, true);
    let offset = view.getUint32(at + 42, true);
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const next = at + 46 + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (next > limit) throw refuse('a directory lists every entry', `${i} of ${count}`);
    const name = new TextDecoder().decode(new Uint8Array(bytes.subarray(at + 46, at + 46 + nameBytes)));
    // Sizes of 32 ones stand in the 64-bit field, in this order, each only if it is needed.
    for (let field = at + 46 + nameBytes; field + 4 <= at + 46 + nameBytes + extraBytes; ) {
      const length = view.getUint16(field + 2, true);
      const stop = Math.min(field + 4 + length, at + 46 + nameBytes + extraBytes);
      if (view.getUint16(field, true) === 1) {
        let from = field + 4;
        const wide = (value: number): number => {
          if (value !== 0xffffffff || from + 8 > stop) return value;
          from += 8;
          return u64(from - 8);
        };
        size = wide(size);
        packed = wide(packed);
        offset = wide(offset);
      }
      field += 4 + length;
    }
    if (flags & 1) throw refuse('entries are not encrypted', quoteName(name));
    if (method !== 0 && method !== 8)
      throw refuse('entries are stored or deflated', `method ${method} of ${quoteName(name)}`);
    if (entries.has(name)) throw refuse('names are unique', quoteName(name));
    entries.set(name, { method, checksum: view.getUint32(at + 16, true), packed, size, offset });
    at = next;
  }

  let budget = bytes.length * MAX_RATIO + SPARE_BYTES;
  return {
    names: [...entries.keys()],
    read(name) {
      const entry = entries.get(name);
      if (entry === undefined) return undefined;
      const { method, checksum, packed, size, offset } = entry;
      const damaged = (): FaceNetError => refuse('entries have their checksum', `another for ${quoteName(name)}`);
      if (!(offset + 30 <= directory) || view.getUint32(offset, true) !== 0x04034b50)
        throw refuse('an entry has a header', `none for ${quoteName(name)}`);
      const start = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
      if (!(start + packed <= directory))
        throw refuse('the data of an entry lie before the directory', quoteName(name));
      const data = bytes.subarray(start, start + packed);
      if (method === 0) {
        if (size !== packed)
          throw refuse('a stored entry has one size', `${packed} and ${size} for ${quoteName(name)}`);
        if (checksum !== 0 && crc32(data) !== checksum) throw damaged();
        return data;
      }
      if (size > budget)
        throw refuse(
          `entries inflate to at most ${MAX_RATIO} times the archive`,
          `${size} bytes for ${quoteName(name)}`,
        );
      const inflated = inflate(data, size, () =>
        refuse('deflated data are valid and as long as declared', `others for ${quoteName(name)}`),
      );
      if (checksum !== 0 && crc32(inflated) !== checksum) throw damaged();
      budget -= size;
      return inflated;
    },
  };
}

/** Exactly `size` bytes out of deflated data; above `SMALL` memory grows with what has really come out. */
function inflate(data: Uint8Array, size: number, refusal: () => FaceNetError): Uint8Array {
  if (size <= SMALL) {
    let whole: Uint8Array;
    try {
      // One byte more than declared: a longer stream is seen by filling it.
      whole = inflateSync(data, { out: new Uint8Array(size + 1) });
    } catch {
      throw refusal();
    }
    if (whole.length !== size) throw refusal();
    return whole;
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  let ended = false;
  const inflater = new Inflate((chunk, final) => {
    length += chunk.length;
    ended = final;
    if (length <= size) chunks.push(chunk);
  });
  try {
    // Also an empty stream has bytes; without a last push the decoder would wait for more.
    for (let at = 0; at < Math.max(data.length, 1) && length <= size && !ended; at += INFLATE_STEP) {
      inflater.push(data.subarray(at, at + INFLATE_STEP), at + INFLATE_STEP >= data.length);
    }
  } catch {
    throw refusal();
  }
  if (length !== size) throw refusal();
  const [only] = chunks;
  if (chunks.length === 1 && only !== undefined) return only;
  const result = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    result.set(chunk, at);
    at += chunk.length;
  }
  return result;
}
