/**
 * Model files from the network: whole, checked, and only then kept. A download that stops, a web page in place of the weights, a wrong hash or a
 * stream without end is a typed error; nothing of it is cached, and the next call starts afresh.
 */
import { FaceNetError } from '../errors.ts';
import { requireSha256, sha256Bytes, toHex } from './sha256.ts';

/** Where whole files are kept between runs. */
export interface ModelCache {
  /** The bytes put under this key, or undefined. */
  match(key: string): Promise<Uint8Array | undefined>;
  /** Keeps the bytes under this key, whole or not at all. */
  put(key: string, bytes: Uint8Array): Promise<void>;
}

/** Work done so far, in bytes; `total` is missing where the server does not say. */
export interface DownloadProgress {
  readonly phase: 'download' | 'verify';
  readonly done: number;
  readonly total?: number;
  /** The URL. */
  readonly item?: string;
}

/** Options of `fetchModel`. */
export interface FetchModelOptions {
  /** SHA-256 of the file in hexadecimal; without it a download is only checked for completeness. */
  readonly sha256?: string;
  /**
   * Called with a whole download before it is kept; what it throws is thrown on and nothing is kept. Give one where there is no `sha256`: a
   * compressed body that is cut off looks whole to some runtimes.
   */
  readonly check?: (bytes: Uint8Array) => void;
  /** `false` (default) keeps nothing. */
  readonly cache?: ModelCache | false;
  /** Largest file, in bytes. Default 2 GiB. */
  readonly maxBytes?: number;
  /** Milliseconds without a byte after which the server is given up. Default 60,000. */
  readonly idleTimeout?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Told when the cache could not be read or written; the model is loaded all the same. */
  readonly onCacheError?: (error: unknown) => void;
  /** Replaces the runtime's fetch. */
  readonly fetch?: (url: string, init: { signal: AbortSignal }) => Promise<Response>;
}

const DEFAULT_MAX_BYTES = 2 ** 31;
const DEFAULT_IDLE_TIMEOUT = 60_000;
/** SHA-256 in front of the file in a cache entry, so that every read can be checked without any other record. */
const HASH_BYTES = 32;

/**
 * The file behind a URL, out of the cache if it is there and intact.
 * @throws FaceNetError 'model' for a failed or wrong download, 'aborted' by the signal, 'input' for options out of range.
 */
export async function fetchModel(url: string | URL, options: FetchModelOptions = {}): Promise<Uint8Array> {
  const {
    cache = false,
    onProgress,
    onCacheError = () => undefined,
    signal,
    maxBytes = DEFAULT_MAX_BYTES,
    idleTimeout = DEFAULT_IDLE_TIMEOUT,
  } = options;
  const address = String(url);
  const wanted = options.sha256 === undefined ? undefined : requireSha256(options.sha256);
  if (!(maxBytes > 0))
    throw new FaceNetError(
      'input',
      `maxBytes: a positive number, got ${maxBytes}. Leave it out for ${DEFAULT_MAX_BYTES}.`,
    );
  if (!(idleTimeout > 0))
    throw new FaceNetError(
      'input',
      `idleTimeout: milliseconds above 0, got ${idleTimeout}. Leave it out for ${DEFAULT_IDLE_TIMEOUT}.`,
    );
  throwIfAborted(signal, address);

  if (cache !== false) {
    const kept = await cache.match(address).catch(onCacheError);
    throwIfAborted(signal, address);
    const file = kept instanceof Uint8Array ? await openEntry(kept, wanted) : undefined;
    if (file !== undefined) {
      onProgress?.({ phase: 'verify', done: file.length, total: file.length, item: address });
      return file;
    }
  }

  const bytes = await download(address, {
    maxBytes,
    idleTimeout,
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
    fetch: options.fetch ?? ((to, init) => fetch(to, init)),
  });
  const hash = await sha256Bytes(bytes);
  throwIfAborted(signal, address);
  if (wanted !== undefined && toHex(hash) !== wanted) {
    throw new FaceNetError(
      'model',
      `${address}: SHA-256 ${wanted}, got ${toHex(hash)} of ${bytes.length} bytes. The file was changed or damaged: try again, or check the expected hash.`,
    );
  }
  options.check?.(bytes);
  onProgress?.({ phase: 'verify', done: bytes.length, total: bytes.length, item: address });
  if (cache !== false) {
    const entry = new Uint8Array(HASH_BYTES + bytes.length);
    entry.set(hash);
    entry.set(bytes, HASH_BYTES);
    await cache.put(address, entry).catch(onCacheError);
  }
  return bytes;
}

/** The file in a cache entry, or undefined where it is damaged or another than wanted. */
async function openEntry(entry: Uint8Array, wanted: string | undefined): Promise<Uint8Array | undefined> {
  if (entry.length < HASH_BYTES) return undefined;
  const file = entry.subarray(HASH_BYTES);
  const hash = toHex(await sha256Bytes(file));
  return hash === toHex(entry.subarray(0, HASH_BYTES)) && (wanted === undefined || hash === wanted) ? file : undefined;
}

function throwIfAborted(signal: AbortSignal | undefined, address: string): void {
  if (signal?.aborted)
    throw new FaceNetError('aborted', `${address}: download, got aborted. Start it again when wanted.`, {
      cause: signal.reason,
    });
}

interface DownloadOptions {
  readonly maxBytes: number;
  readonly idleTimeout: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly fetch: (url: string, init: { signal: AbortSignal }) => Promise<Response>;
}

async function download(
  address: string,
  { maxBytes, idleTimeout, signal, onProgress, fetch }: DownloadOptions,
): Promise<Uint8Array> {
  const refuse = (rule: string, got: string, remedy = 'Try again', cause?: unknown): FaceNetError =>
    new FaceNetError('model', `${address}: ${rule}, got ${got}. ${remedy}.`, { cause });
  // Ends the connection on the caller's abort, on silence, and on every error below.
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  let silent = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const listen = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      silent = true;
      stop.abort();
    }, idleTimeout);
  };
  let done = 0;
  try {
    listen();
    const response = await fetch(address, { signal: stop.signal });
    if (!response.ok)
      throw refuse(
        'a file',
        `status ${response.status}${response.statusText && ` ${response.statusText}`}`,
        'Check the address',
      );
    const length = response.headers.get('content-length');
    const encoded = (response.headers.get('content-encoding') ?? 'identity') !== 'identity';
    // Of an encoded body the length says nothing about the file.
    const total = length === null || encoded || !/^[0-9]{1,15}$/.test(length) ? undefined : Number(length);
    if (total !== undefined && total > maxBytes)
      throw refuse(`at most ${maxBytes} bytes`, `${total}`, 'Check the address or raise maxBytes');
    const report = (): void =>
      onProgress?.({ phase: 'download', done, ...(total !== undefined && { total }), item: address });
    report();
    const chunks: Uint8Array[] = [];
    const reader = response.body?.getReader();
    while (reader !== undefined) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      listen();
      if (done === 0 && value.length > 0) refuseOtherContent(value, refuse);
      done += value.length;
      if (done > maxBytes) throw refuse(`at most ${maxBytes} bytes`, 'more', 'Check the address or raise maxBytes');
      chunks.push(value);
      report();
    }
    if (total !== undefined && done !== total) throw refuse(`truncated download: ${total} bytes`, `${done}`);
    if (done === 0) throw refuse('a file', 'no bytes', 'Check the address');
    const bytes = new Uint8Array(done);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  } catch (cause) {
    throwIfAborted(signal, address);
    if (cause instanceof FaceNetError) throw cause;
    if (silent)
      throw refuse(
        `truncated download: a byte every ${idleTimeout} ms`,
        `silence after ${done} bytes`,
        'Check the connection and try again',
        cause,
      );
    const reason =
      cause instanceof Error ? (cause.cause instanceof Error ? cause.cause.message : cause.message) : String(cause);
    throw refuse(
      done === 0 ? 'an answer' : 'truncated download: the whole file',
      done === 0 ? `'${reason}'` : `'${reason}' after ${done} bytes`,
      'Check the connection and try again',
      cause,
    );
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    stop.abort();
  }
}

/** Servers answer with a page where there is no file, and repositories with a pointer; neither is a model. */
function refuseOtherContent(
  first: Uint8Array,
  refuse: (rule: string, got: string, remedy?: string) => FaceNetError,
): void {
  const head = String.fromCharCode(...first.subarray(0, 64))
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart();
  if (head.startsWith('<'))
    throw refuse(
      'a model file',
      'a web page',
      'Check the address: the server answers with a page where the file is not',
    );
  if (head.startsWith('version https://git-lfs'))
    throw refuse('a model file', 'a Git LFS pointer', 'Use the address of the file itself');
}

/**
 * A cache in the browser's Cache API, which keeps files per origin until the user or the browser clears them.
 * @returns undefined where there is no Cache API: in Node, and in pages that are neither https nor localhost.
 */
export function cacheStorage(name = 'facenet-gpu'): ModelCache | undefined {
  const storage = globalThis.caches;
  if (storage === undefined) return undefined;
  // Keys of the Cache API are requests without fragment; ours may be any text.
  const request = (key: string): string => `https://facenet-gpu.invalid/?${encodeURIComponent(key)}`;
  return {
    async match(key) {
      const response = await (await storage.open(name)).match(request(key));
      return response === undefined ? undefined : new Uint8Array(await response.arrayBuffer());
    },
    async put(key, bytes) {
      const own = bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
      await (await storage.open(name)).put(
        request(key),
        new Response(own, { headers: { 'content-type': 'application/octet-stream' } }),
      );
    },
  };
}
