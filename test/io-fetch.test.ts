import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { type DownloadProgress, type FetchModelOptions, fetchModel, type ModelCache } from '../src/io/fetch-model.ts';
import { defaultCacheFolder, directoryCache } from '../src/io/node/directory-cache.ts';
import { sha256, sha256Plain, toHex } from '../src/io/sha256.ts';

const content = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 5));
const hash = createHash('sha256').update(content).digest('hex');
const folder = mkdtempSync(join(tmpdir(), 'facenet-fetch-'));
let server: Server;
let url: string;
let requests = 0;
/** What the server does next; the good answer when there is nothing. */
let faults: RequestListener[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    requests++;
    const fault = faults.shift();
    if (fault) return void fault(request, response);
    response.writeHead(200, { 'content-length': content.length, 'content-type': 'application/octet-stream' });
    response.end(content);
  });
  // Longer than any pause of a loaded machine: a connection that is closed while it is used again is not what is tested here.
  server.keepAliveTimeout = 120_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true });
});
afterEach(() => {
  faults = [];
});

/** A cache in memory that counts. */
function memoryCache(): ModelCache & { entries: Map<string, Uint8Array> } {
  const entries = new Map<string, Uint8Array>();
  return { entries, match: async (key) => entries.get(key), put: async (key, bytes) => void entries.set(key, bytes) };
}

async function caught(options: FetchModelOptions = {}): Promise<FaceNetError> {
  return fetchModel(url, options).then(
    () => expect.fail('was loaded'),
    (error: unknown) => {
      if (error instanceof FaceNetError) return error;
      throw error;
    },
  );
}

/** Sends a share of the content with the whole length announced, then closes the socket. */
const stopAt =
  (share: number): RequestListener =>
  (_request, response) => {
    response.writeHead(200, { 'content-length': content.length });
    response.write(content.subarray(0, Math.floor(content.length * share)), () => response.destroy());
  };

describe('R26: downloads that go wrong', () => {
  const cases: [string, RequestListener, RegExp, FetchModelOptions?][] = [
    ['stops at 0 %', stopAt(0), /truncated download|an answer/],
    ['stops at 50 %', stopAt(0.5), /truncated download/],
    ['stops at 99.9 %', stopAt(0.999), /truncated download/],
    ['closes before it answers', (request) => request.socket.destroy(), /an answer/],
    ['sends zeros', (_, response) => response.end(Buffer.alloc(content.length)), /SHA-256 [0-9a-f]{64}, got/],
    [
      'sends other bytes of the right length',
      (_, response) => response.end(Buffer.from(content).fill(1, 299_999)),
      /SHA-256/,
    ],
    [
      'sends a web page with status 200',
      (_, response) =>
        response.writeHead(200, { 'content-type': 'text/html' }).end('\ufeff \n<!DOCTYPE html><title>Sign in</title>'),
      /got a web page/,
    ],
    [
      'sends a pointer',
      (_, response) => response.end('version https://git-lfs.github.com/spec/v1\noid sha256:00\n'),
      /Git LFS pointer/,
    ],
    [
      '404 with a body',
      (_, response) => response.writeHead(404).end('{"error":"no such model"}'),
      /status 404 Not Found/,
    ],
    ['500', (_, response) => response.writeHead(500).end(), /status 500/],
    ['204', (_, response) => response.writeHead(204).end(), /no bytes/],
    ['sends nothing', (_, response) => response.end(), /no bytes/],
    [
      'sends broken gzip',
      (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(content).subarray(0, 1000)),
      /truncated download|SHA-256/,
    ],
    [
      'says gzip and sends none',
      (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(content),
      /an answer|truncated/,
    ],
    [
      'never ends',
      (_, response) => {
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 1)));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
      },
      /at most 5000000 bytes, got more/,
      { maxBytes: 5_000_000 },
    ],
    [
      'announces too much',
      (_, response) => {
        response.writeHead(200, { 'content-length': 10 ** 13 });
        response.write('x');
      },
      /at most \d+ bytes, got 10000000000000/,
    ],
    [
      'goes silent',
      (_, response) => {
        response.writeHead(200, { 'content-length': content.length });
        response.write(content.subarray(0, 1000));
      },
      /silence after 1000 bytes/,
      { idleTimeout: 150 },
    ],
    ['never answers', () => undefined, /a byte every 150 ms, got silence after 0 bytes/, { idleTimeout: 150 }],
    [
      'redirects for ever',
      (request, response) => {
        faults.push(faults[0] ?? ((_, r) => r.writeHead(302, { location: request.url ?? '/' }).end()));
        for (let i = 0; i < 30; i++) faults.push((_, r) => r.writeHead(302, { location: '/again' }).end());
        response.writeHead(302, { location: '/again' }).end();
      },
      /an answer/,
    ],
  ];
  it.each(cases)('%s: typed, nothing cached, the next try works', async (_what, fault, rule, options = {}) => {
    const cache = memoryCache();
    faults = [fault];
    const error = await caught({ sha256: hash, cache, ...options });
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
    expect(error.message.startsWith(`${url}: `)).toBe(true);
    expect(cache.entries.size).toBe(0);
    faults = [];
    expect(Buffer.compare(await fetchModel(url, { sha256: hash, cache }), content)).toBe(0);
    expect(cache.entries.size).toBe(1);
  });

  it('no server', async () => {
    const error = await fetchModel('http://127.0.0.1:1/x').catch((e: unknown) => e as FaceNetError);
    expect(error).toMatchObject({ code: 'model' });
    expect((await fetchModel('no address').catch((e: unknown) => e as FaceNetError)) as FaceNetError).toMatchObject({
      code: 'model',
    });
  });

  it('refuses options out of range', async () => {
    for (const options of [{ sha256: 'abc' }, { maxBytes: 0 }, { maxBytes: Number.NaN }, { idleTimeout: -1 }])
      expect((await caught(options)).code).toBe('input');
  });
});

describe('downloads that go right', () => {
  it('reports bytes in order, up to the total, then verification', async () => {
    const seen: DownloadProgress[] = [];
    await fetchModel(new URL(url), { sha256: hash.toUpperCase(), onProgress: (progress) => seen.push(progress) });
    expect(seen[0]).toEqual({ phase: 'download', done: 0, total: content.length, item: url });
    expect(seen.at(-1)).toEqual({ phase: 'verify', done: content.length, total: content.length, item: url });
    const downloads = seen.filter(({ phase }) => phase === 'download').map(({ done }) => done);
    expect(downloads).toEqual([...downloads].sort((a, b) => a - b));
    expect(downloads.at(-1)).toBe(content.length);
  });

  it('does not trust the length of an encoded body', async () => {
    faults = [
      (_, response) => {
        const packed = gzipSync(content);
        response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': packed.length }).end(packed);
      },
    ];
    const totals = new Set<number | undefined>();
    const bytes = await fetchModel(url, {
      sha256: hash,
      onProgress: ({ phase, total }) => phase === 'download' && totals.add(total),
    });
    expect(bytes.length).toBe(content.length);
    expect([...totals]).toEqual([undefined]);
  });

  it('downloads once, then reads the cache; another expected hash downloads again', async () => {
    const cache = memoryCache();
    const before = requests;
    for (let i = 0; i < 3; i++) expect((await fetchModel(url, { sha256: hash, cache })).length).toBe(content.length);
    expect(requests).toBe(before + 1);
    await caught({ sha256: '0'.repeat(64), cache });
    expect(requests).toBe(before + 2);
    expect((await fetchModel(url, { cache })).length).toBe(content.length);
    expect(requests).toBe(before + 2);
  });

  it('sees every kind of damage in a cache entry and heals it', async () => {
    const cache = memoryCache();
    await fetchModel(url, { cache });
    const good = cache.entries.get(url) as Uint8Array;
    const flipped = (at: number): Uint8Array => good.map((byte, i) => (i === at ? byte ^ 1 : byte));
    for (const damaged of [
      flipped(0),
      flipped(31),
      flipped(32),
      flipped(good.length - 1),
      good.subarray(0, good.length - 1),
      good.subarray(0, 32),
      good.subarray(0, 31),
      new Uint8Array(0),
    ]) {
      cache.entries.set(url, damaged);
      const before = requests;
      expect(Buffer.compare(await fetchModel(url, { cache }), content)).toBe(0);
      expect(requests).toBe(before + 1);
      expect(Buffer.compare(cache.entries.get(url) as Uint8Array, good)).toBe(0);
    }
  });

  it('keeps nothing that the caller refuses: a truncated body without length or hash', async () => {
    const cache = memoryCache();
    const check = (bytes: Uint8Array): void => {
      if (bytes.length !== content.length) throw new FaceNetError('model', 'x: whole, got less. Try again.');
    };
    faults = [
      (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(content).subarray(0, 1000)),
    ];
    expect((await caught({ cache, check })).code).toBe('model');
    expect(cache.entries.size).toBe(0);
    expect((await fetchModel(url, { cache, check })).length).toBe(content.length);
    expect(cache.entries.size).toBe(1);
  });

  it('works with a cache that fails, and says so', async () => {
    const onCacheError = vi.fn();
    const cache: ModelCache = {
      match: () => Promise.reject(new Error('read')),
      put: () => Promise.reject(new Error('full')),
    };
    expect((await fetchModel(url, { sha256: hash, cache, onCacheError })).length).toBe(content.length);
    expect(onCacheError.mock.calls.map(([error]) => (error as Error).message)).toEqual(['read', 'full']);
  });
});

describe('abort', () => {
  it('before, while waiting, while reading: typed, soon, nothing cached; the next try works', async () => {
    const cache = memoryCache();
    expect(await caught({ cache, signal: AbortSignal.abort('no') })).toMatchObject({ code: 'aborted', cause: 'no' });
    faults = [() => undefined];
    const waiting = new AbortController();
    setTimeout(() => waiting.abort(), 50);
    expect((await caught({ cache, signal: waiting.signal })).code).toBe('aborted');
    faults = [
      (_, response) => {
        response.writeHead(200, { 'content-length': content.length });
        response.write(content.subarray(0, 1000));
      },
    ];
    const reading = new AbortController();
    expect(
      (await caught({ cache, signal: reading.signal, onProgress: ({ done }) => done > 0 && reading.abort() })).code,
    ).toBe('aborted');
    expect(cache.entries.size).toBe(0);
    faults = [];
    expect((await fetchModel(url, { cache, signal: new AbortController().signal })).length).toBe(content.length);
  });

  it('leaves no listener on a signal that lives long', async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, 'addEventListener');
    const removed = vi.spyOn(signal, 'removeEventListener');
    await fetchModel(url, { signal });
    expect(removed.mock.calls.length).toBe(added.mock.calls.length);
  });
});

describe('directory cache', () => {
  it('keeps a model between runs, whole files only', async () => {
    const cache = directoryCache(join(folder, 'a', 'b'));
    const before = requests;
    await fetchModel(url, { sha256: hash, cache });
    expect(
      Buffer.compare(await fetchModel(url, { sha256: hash, cache: directoryCache(join(folder, 'a', 'b')) }), content),
    ).toBe(0);
    expect(requests).toBe(before + 1);
    const [name, ...more] = readdirSync(join(folder, 'a', 'b'));
    expect(more).toEqual([]);
    // Damage on disk is seen and healed.
    const path = join(folder, 'a', 'b', name as string);
    writeFileSync(path, readFileSync(path).subarray(0, 1000));
    expect(Buffer.compare(await fetchModel(url, { sha256: hash, cache }), content)).toBe(0);
    expect(requests).toBe(before + 2);
    expect(readFileSync(path).length).toBe(content.length + 32);
  });

  it('takes keys of any kind apart', async () => {
    const cache = directoryCache(join(folder, 'keys'));
    const keys = ['../../x', 'http://a/b?c=d#e', 'é\u0301', '\ud83d\ude00', 'a'.repeat(5000), '__proto__'];
    for (const [i, key] of keys.entries()) await cache.put(key, Uint8Array.of(i));
    for (const [i, key] of keys.entries()) expect([...((await cache.match(key)) as Uint8Array)]).toEqual([i]);
    expect(await cache.match('never put')).toBeUndefined();
  });

  it('lies where the system wants it', () => {
    expect(defaultCacheFolder({ XDG_CACHE_HOME: '/x' }, 'linux')).toBe(join('/x', 'facenet-gpu'));
    expect(defaultCacheFolder({}, 'linux')).toMatch(/\.cache.facenet-gpu$/);
    expect(defaultCacheFolder({}, 'darwin')).toMatch(/Library.Caches.facenet-gpu$/);
    expect(defaultCacheFolder({ LOCALAPPDATA: 'L' }, 'win32')).toMatch(/^L.facenet-gpu$/);
  });
});

describe('SHA-256', () => {
  it('equals node:crypto at every length around a block, with and without WebCrypto', async () => {
    for (const length of [...Array(130).keys(), 1000, 100_000]) {
      const bytes = Uint8Array.from({ length }, (_, i) => i * 31);
      const expected = createHash('sha256').update(bytes).digest('hex');
      expect(toHex(sha256Plain(bytes))).toBe(expected);
      if (length % 50 === 0) expect(await sha256(bytes)).toBe(expected);
    }
    const shared = new Uint8Array(new SharedArrayBuffer(3));
    expect(await sha256(shared)).toBe(createHash('sha256').update(Buffer.alloc(3)).digest('hex'));
    vi.stubGlobal('crypto', undefined);
    expect(await sha256(content)).toBe(hash);
    vi.unstubAllGlobals();
  });
});
