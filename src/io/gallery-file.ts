/**
 * The file form of a gallery: one safetensors file, read and written as a whole, plain or locked.
 *
 * Plain: `vectors` F32 [n, d], or I8 [n, d] with `scale` F32 [n] (row = bytes x scale); `entries` U8, a UTF-8 JSON list of
 * { id, label, meta } in the order of the rows; metadata format, version, fingerprint, dimensions, and sha256 over all of these.
 *
 * Locked: 44 bytes in clear, then AES-256-GCM of the plain file with its 16-byte tag; the 44 bytes are authenticated
 * too. They are: "FNGALLOC", version (1 byte), key derivation (1 byte: 0 a key, 1 PBKDF2-SHA-256), two zero bytes, rounds (u32 LE, 0 for
 * a key), salt (16 bytes, zeros for a key), nonce (12 bytes, fresh at every write). Nothing of people or model is in clear.
 */
import { FaceNetError } from '../errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from './safetensors.ts';
import { sha256 } from './sha256.ts';

/** What a gallery file holds. */
export interface GalleryFile {
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly entries: readonly { readonly id: string; readonly label: string; readonly meta?: Record<string, string> }[];
  /** count x dimensions, in the order of the entries: unit vectors, or int8 templates. */
  readonly vectors: Float32Array | Int8Array;
}

/** A passphrase (taken as its UTF-8 bytes) or a key of 32 bytes; neither: a plain file. */
export interface FileLock {
  readonly passphrase?: string;
  readonly key?: Uint8Array;
}

export const GALLERY_FORMAT = 'facenet-gpu/gallery@1';
/** Rounds of PBKDF2-SHA-256 for a passphrase. */
export const PBKDF2_ROUNDS = 600_000;
/** The most rounds that are read: a file must not make its reader work for minutes. */
const mostRounds = 10_000_000;

const magic = new TextEncoder().encode('FNGALLOC');
const lockVersion = 1;
const clearBytes = 44;
const tagBytes = 16;

/** Writes a gallery. With a lock every write takes a fresh salt and nonce, so two files of one gallery differ. */
export async function writeGallery(gallery: GalleryFile, lock: FileLock = {}): Promise<Uint8Array> {
  const method = checkedLock(lock);
  const plain = await writePlain(gallery);
  return method === 'none' ? plain : seal(plain, lock, method);
}

/**
 * Reads a gallery. Throws 'store' for a damaged file, a wrong passphrase or key, a lock that is missing, or a newer version; the
 * text names the rule and nothing of the content.
 */
export async function readGallery(bytes: Uint8Array, lock: FileLock = {}): Promise<GalleryFile> {
  const method = checkedLock(lock);
  if (!isLocked(bytes)) return readPlain(bytes);
  if (method === 'none') throw refuse('must be unlocked with its passphrase or key', 'neither', 'Give one');
  return readPlain(await unseal(bytes, lock, method));
}

/** Is this a locked gallery file? */
export function isLocked(bytes: Uint8Array): boolean {
  return bytes.length >= magic.length && magic.every((byte, i) => bytes[i] === byte);
}

async function writePlain({ fingerprint, dimensions, entries, vectors }: GalleryFile): Promise<Uint8Array> {
  if (vectors.length !== entries.length * dimensions) {
    throw new FaceNetError(
      'input',
      `gallery file: must be given ${entries.length} x ${dimensions} numbers, got ${vectors.length}. Pass one vector for each entry.`,
    );
  }
  const list = entries.map(({ id, label, meta }) => ({ id, label, ...(meta && { meta }) }));
  const json = new TextEncoder().encode(JSON.stringify(list));
  const shape = [entries.length, dimensions];
  const tensors = new Map<string, Tensor>();
  let scale = new Float32Array(0);
  if (vectors instanceof Int8Array) {
    scale = scalesOf(vectors, entries.length, dimensions);
    tensors.set('vectors', { dtype: 'I8', shape, data: vectors });
    tensors.set('scale', { dtype: 'F32', shape: [entries.length], data: scale });
  } else {
    tensors.set('vectors', { dtype: 'F32', shape, data: vectors });
  }
  tensors.set('entries', { dtype: 'U8', shape: [json.length], data: json });
  const metadata = new Map([
    ['format', GALLERY_FORMAT],
    ['fingerprint', fingerprint],
    ['dimensions', String(dimensions)],
    ['sha256', await contentHash(fingerprint, dimensions, json, vectors, scale)],
  ]);
  return writeSafetensors(tensors, metadata);
}

async function readPlain(bytes: Uint8Array): Promise<GalleryFile> {
  let file: ReturnType<typeof readSafetensors>;
  try {
    file = readSafetensors(bytes, { source: 'gallery file' });
  } catch (cause) {
    throw new FaceNetError(
      'store',
      'gallery file: must be a whole safetensors file, got a damaged one. Restore it from a copy.',
      { cause },
    );
  }
  const { tensors, metadata } = file;
  const format = metadata.get('format') ?? '';
  if (format !== GALLERY_FORMAT) {
    const newer = /^facenet-gpu\/gallery@([0-9]{1,6})$/.exec(format);
    throw newer
      ? refuse(`version must be at most ${GALLERY_FORMAT}`, format, 'Update this library; the file is as it was')
      : refuse(`format must be ${GALLERY_FORMAT}`, format === '' ? 'none' : 'another', 'This is no gallery');
  }
  const fingerprint = metadata.get('fingerprint') ?? '';
  const dimensions = Number(metadata.get('dimensions'));
  if (!Number.isInteger(dimensions) || dimensions < 1 || fingerprint === '')
    throw refuse('must state fingerprint and dimensions', 'none', 'Restore it from a copy');
  const [vectors, list, scale] = [tensors.get('vectors'), tensors.get('entries'), tensors.get('scale')];
  const count = vectors?.shape[0] ?? 0;
  if (
    !vectors ||
    !list ||
    (vectors.dtype !== 'F32' && vectors.dtype !== 'I8') ||
    list.dtype !== 'U8' ||
    vectors.shape.length !== 2 ||
    vectors.shape[1] !== dimensions
  ) {
    throw refuse(
      `must hold entries U8 and vectors F32 or I8 of n x ${dimensions}`,
      vectors ? `${vectors.dtype} [${vectors.shape.join(', ')}]` : 'none',
      'Restore it from a copy',
    );
  }
  if (
    (vectors.dtype === 'I8') !== (scale?.dtype === 'F32') ||
    (scale && scale.data.length !== count) ||
    tensors.size !== (scale ? 3 : 2)
  ) {
    throw refuse(
      'must hold scale F32 [n] beside int8 vectors and nothing else',
      `${tensors.size} tensors`,
      'Restore it from a copy',
    );
  }
  const hash = await contentHash(
    fingerprint,
    dimensions,
    list.data,
    vectors.data,
    scale?.dtype === 'F32' ? scale.data : new Float32Array(0),
  );
  if (hash !== metadata.get('sha256'))
    throw refuse(
      'content must have the SHA-256 that it states',
      'another',
      'The file is damaged; restore it from a copy',
    );
  return { fingerprint, dimensions, entries: readEntries(list.data, count), vectors: vectors.data };
}

/** Ids, labels and meta data out of the JSON list; an unknown field is refused. */
function readEntries(json: Uint8Array, count: number): GalleryFile['entries'] {
  let list: unknown;
  try {
    list = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch (cause) {
    // The parser's message may quote the text, names included.
    throw refuse(
      'entries must be UTF-8 JSON',
      cause instanceof SyntaxError ? 'a syntax error' : 'other bytes',
      'Restore it from a copy',
    );
  }
  if (!Array.isArray(list) || list.length !== count)
    throw refuse(
      `must hold ${count} entries`,
      Array.isArray(list) ? String(list.length) : typeof list,
      'Restore it from a copy',
    );
  const ids = new Set<string>();
  return list.map((entry: unknown, index) => {
    const damaged = (rule: string): FaceNetError =>
      new FaceNetError(
        'store',
        `gallery file: entries must have ${rule}, got another at place ${index}. Restore it from a copy.`,
        { index },
      );
    if (typeof entry !== 'object' || entry === null) throw damaged('the fields id, label and perhaps meta');
    const { id, label, meta } = entry as Record<string, unknown>;
    const fields = meta === undefined ? 2 : 3;
    if (typeof id !== 'string' || id === '' || typeof label !== 'string' || Object.keys(entry).length !== fields)
      throw damaged('the fields id, label and perhaps meta');
    if (ids.has(id)) throw damaged('ids of their own');
    ids.add(id);
    if (meta === undefined) return { id, label };
    if (
      typeof meta !== 'object' ||
      meta === null ||
      Array.isArray(meta) ||
      !Object.values(meta).every((value) => typeof value === 'string')
    )
      throw damaged('texts for meta data');
    return { id, label, meta: meta as Record<string, string> };
  });
}

/** SHA-256 over the SHA-256 of each part that means something. */
async function contentHash(
  fingerprint: string,
  dimensions: number,
  json: Uint8Array,
  vectors: Float32Array | Int8Array,
  scale: Float32Array,
): Promise<string> {
  const parts = [
    new TextEncoder().encode(`${GALLERY_FORMAT} ${dimensions} ${fingerprint}`),
    json,
    new Uint8Array(vectors.buffer, vectors.byteOffset, vectors.byteLength),
    new Uint8Array(scale.buffer, scale.byteOffset, scale.byteLength),
  ];
  const hashes: string[] = [];
  for (const part of parts) hashes.push(await sha256(part));
  return sha256(new TextEncoder().encode(hashes.join(' ')));
}

function scalesOf(rows: Int8Array, count: number, dimensions: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, (_, row) => {
    let square = 0;
    for (let i = row * dimensions; i < (row + 1) * dimensions; i++) square += rows[i]! * rows[i]!;
    return square > 0 ? 1 / Math.sqrt(square) : 0;
  });
}

async function seal(plain: Uint8Array, lock: FileLock, method: 'passphrase' | 'key'): Promise<Uint8Array> {
  const bytes = new Uint8Array(clearBytes + plain.length + tagBytes);
  const clear = bytes.subarray(0, clearBytes);
  clear.set(magic);
  clear[8] = lockVersion;
  clear[9] = method === 'passphrase' ? 1 : 0;
  if (method === 'passphrase') {
    new DataView(bytes.buffer).setUint32(12, PBKDF2_ROUNDS, true);
    crypto.getRandomValues(clear.subarray(16, 32));
  }
  crypto.getRandomValues(clear.subarray(32, 44));
  const key = await keyOf(lock, method, clear.slice(16, 32), PBKDF2_ROUNDS);
  const sealed = await subtle().encrypt(
    { name: 'AES-GCM', iv: clear.slice(32, 44), additionalData: clear.slice() },
    key,
    own(plain),
  );
  bytes.set(new Uint8Array(sealed), clearBytes);
  return bytes;
}

async function unseal(bytes: Uint8Array, lock: FileLock, method: 'passphrase' | 'key'): Promise<Uint8Array> {
  if (bytes.length < clearBytes + tagBytes)
    throw refuse('must be whole', `${bytes.length} bytes`, 'Restore it from a copy');
  const clear = bytes.slice(0, clearBytes);
  const rounds = new DataView(clear.buffer).getUint32(12, true);
  if (clear[8]! > lockVersion)
    throw refuse(
      `lock version must be at most ${lockVersion}`,
      String(clear[8]),
      'Update this library; the file is as it was',
    );
  if (clear[8] !== lockVersion || clear[9]! > 1 || clear[10] !== 0 || clear[11] !== 0)
    throw refuse('must have a whole header', 'a damaged one', 'Restore it from a copy');
  const needed = clear[9] === 1 ? 'passphrase' : 'key';
  if (needed !== method)
    throw refuse(`must be unlocked with a ${needed}`, `a ${method}`, `Give the ${needed} it was locked with`);
  if (needed === 'passphrase' && (rounds < PBKDF2_ROUNDS || rounds > mostRounds)) {
    throw refuse(
      `rounds must be ${PBKDF2_ROUNDS} to ${mostRounds}`,
      String(rounds),
      'The header is damaged; restore it from a copy',
    );
  }
  const key = await keyOf(lock, method, clear.slice(16, 32), rounds);
  try {
    return new Uint8Array(
      await subtle().decrypt(
        { name: 'AES-GCM', iv: clear.slice(32, 44), additionalData: clear },
        key,
        own(bytes.subarray(clearBytes)),
      ),
    );
  } catch (cause) {
    throw new FaceNetError(
      'store',
      `gallery file: must open with its ${method}, got a wrong ${method} or a damaged file. Check the ${method}, then restore the file from a copy.`,
      { cause },
    );
  }
}

async function keyOf(
  lock: FileLock,
  method: 'passphrase' | 'key',
  salt: Uint8Array<ArrayBuffer>,
  iterations: number,
): Promise<CryptoKey> {
  if (method === 'key') return subtle().importKey('raw', own(lock.key!), 'AES-GCM', false, ['encrypt', 'decrypt']);
  const secret = await subtle().importKey('raw', new TextEncoder().encode(lock.passphrase), 'PBKDF2', false, [
    'deriveKey',
  ]);
  return subtle().deriveKey(
    { name: 'PBKDF2', hash: 'SHA-256', salt, iterations },
    secret,
    { name: 'AES-GCM', length: 256 },
    false,
    ['encrypt', 'decrypt'],
  );
}

function checkedLock({ passphrase, key }: FileLock): 'none' | 'passphrase' | 'key' {
  const bad = (rule: string, got: string) =>
    new FaceNetError('input', `gallery lock: ${rule}, got ${got}. Give one or the other.`);
  if (passphrase !== undefined && key !== undefined) throw bad('must be a passphrase or a key', 'both');
  if (passphrase !== undefined) {
    if (typeof passphrase !== 'string' || passphrase === '')
      throw bad(
        'passphrase must be a text that is not empty',
        typeof passphrase === 'string' ? 'an empty one' : typeof passphrase,
      );
    // Half a surrogate pair becomes U+FFFD in UTF-8: other passphrases would open the file.
    if (/\p{Surrogate}/u.test(passphrase)) throw bad('passphrase must be well-formed Unicode', 'half a surrogate pair');
    return 'passphrase';
  }
  if (key === undefined) return 'none';
  if (!(key instanceof Uint8Array) || key.length !== 32)
    throw bad('key must be 32 bytes', key instanceof Uint8Array ? `${key.length}` : typeof key);
  return 'key';
}

function subtle(): SubtleCrypto {
  const found = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (!found)
    throw new FaceNetError(
      'input',
      'gallery lock: needs WebCrypto, got a page that is not served securely. Serve it by https or from localhost.',
    );
  return found;
}

/** WebCrypto takes no view of shared memory. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}

function refuse(rule: string, got: string, remedy: string): FaceNetError {
  return new FaceNetError('store', `gallery file: ${rule}, got ${got}. ${remedy}.`);
}
