import { describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { MemoryStore } from '../src/faces/gallery/store.ts';
import { FaceGallery, type FingerprintedVectors, type GalleryCodec } from '../src/faces/gallery.ts';
import { Philox } from '../src/graph/philox.ts';
import { type GalleryFile, isLocked, PBKDF2_ROUNDS, readGallery, writeGallery } from '../src/io/gallery-file.ts';
import { readSafetensors, writeSafetensors } from '../src/io/safetensors.ts';

const fingerprint = 'dlib-resnet/0123456789abcdef';
const key = Uint8Array.from({ length: 32 }, (_, i) => i * 5);
const codec = { write: writeGallery, read: readGallery };

function vectors(count: number, dimensions: number, seed: number): FingerprintedVectors {
  const random = new Philox(seed);
  const data = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    const own = Array.from({ length: dimensions }, () => random.uniform() - 0.5);
    own.forEach((value, i) => {
      data[row * dimensions + i] = value / Math.hypot(...own);
    });
  }
  return { data, count, dimensions, fingerprint };
}

const content: GalleryFile = {
  fingerprint,
  dimensions: 3,
  entries: [
    { id: '1', label: 'Ada "quoted" \\ \n\ud83d\ude00', meta: { ['__proto__']: 'x', photo: 'a.jpg' } },
    { id: '2', label: '__proto__' },
  ],
  vectors: vectors(2, 3, 1).data,
};
const small: GalleryFile = {
  fingerprint: 'm',
  dimensions: 2,
  entries: [{ id: '1', label: 'Ada' }],
  vectors: new Float32Array([0.6, 0.8]),
};

async function refusal(run: () => Promise<unknown>): Promise<FaceNetError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(FaceNetError);
    return error as FaceNetError;
  }
  throw new Error('nothing was thrown');
}

function holds(bytes: Uint8Array, part: Uint8Array | string): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(
    typeof part === 'string' ? Buffer.from(part) : Buffer.from(part.buffer, part.byteOffset, part.byteLength),
  );
}

describe('plain files', () => {
  test('come back as they were, float32 and int8', async () => {
    expect(await readGallery(await writeGallery(content))).toEqual(content);
    const bytes: GalleryFile = { ...content, vectors: new Int8Array([127, -3, 4, 0, 0, -127]) };
    expect(await readGallery(await writeGallery(bytes))).toEqual(bytes);
    const empty: GalleryFile = { ...content, entries: [], vectors: new Float32Array(0) };
    expect(await readGallery(await writeGallery(empty))).toEqual(empty);
    expect((await refusal(() => writeGallery({ ...content, vectors: new Float32Array(5) }))).code).toBe('input');
  });

  test('int8 rows carry the scale that makes them unit vectors, for other readers', async () => {
    const { tensors } = readSafetensors(await writeGallery({ ...small, vectors: new Int8Array([127, -95]) }));
    const scale = tensors.get('scale')!.data as Float32Array;
    expect(Math.hypot(127 * scale[0]!, 95 * scale[0]!)).toBeCloseTo(1, 6);
    expect(tensors.get('vectors')!.data.byteLength).toBe(2);
  });

  test('every flipped bit of every byte is refused, or changes nothing', async () => {
    const bytes = await writeGallery(small);
    let refused = 0;
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const damaged = bytes.slice();
        damaged[at]! ^= 1 << bit;
        try {
          expect(await readGallery(damaged)).toEqual(small);
        } catch (error) {
          expect(error).toMatchObject({ name: 'FaceNetError', code: 'store' });
          refused++;
        }
      }
    }
    expect(refused).toBe(bytes.length * 8);
  });

  test('cut at every byte', async () => {
    const bytes = await writeGallery(small);
    for (let length = 0; length < bytes.length; length++)
      expect((await refusal(() => readGallery(bytes.slice(0, length)))).code).toBe('store');
    expect((await refusal(() => readGallery(Uint8Array.from([...bytes, 0])))).code).toBe('store');
  });

  test('files whose parts do not fit together are refused with the place', async () => {
    const good = readSafetensors(await writeGallery(small));
    const rewritten = async (entries: unknown, changes: (file: typeof good) => void = () => {}) => {
      const json = new TextEncoder().encode(typeof entries === 'string' ? entries : JSON.stringify(entries));
      const file = { tensors: new Map(good.tensors), metadata: new Map(good.metadata) };
      file.tensors.set('entries', { dtype: 'U8', shape: [json.length], data: json });
      changes(file);
      // With its own hash right, so that the rules behind it are reached.
      const hashes = [];
      const data = file.tensors.get('vectors')!.data as Float32Array;
      for (const part of [
        new TextEncoder().encode(
          `facenet-gpu/gallery@1 ${file.metadata.get('dimensions')} ${file.metadata.get('fingerprint')}`,
        ),
        json,
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        new Uint8Array(0),
      ]) {
        hashes.push(Buffer.from(await crypto.subtle.digest('SHA-256', Uint8Array.from(part))).toString('hex'));
      }
      if (!file.metadata.has('keep'))
        file.metadata.set(
          'sha256',
          Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(hashes.join(' ')))).toString(
            'hex',
          ),
        );
      return writeSafetensors(file.tensors, file.metadata);
    };
    // The hash as written here is the file's own.
    expect(await readGallery(await rewritten([{ id: '1', label: 'Ada' }]))).toEqual(small);
    const bad: unknown[] = [
      '{',
      'null',
      '{}',
      [],
      [{ id: '1' }],
      [{ label: 'x' }],
      [{ id: '', label: 'x' }],
      [{ id: 1, label: 'x' }],
      [null],
      [[]],
      [{ id: '1', label: 'x', more: 1 }],
      [{ id: '1', label: 'x', meta: [] }],
      [{ id: '1', label: 'x', meta: { a: 1 } }],
      [{ id: '1', label: 'x', meta: null }],
      [
        { id: '1', label: 'x' },
        { id: '2', label: 'y' },
      ],
      '[{"id":"1","label":"x","__proto__":{}}]',
    ];
    for (const entries of bad)
      expect((await refusal(async () => readGallery(await rewritten(entries)))).code, JSON.stringify(entries)).toBe(
        'store',
      );
    const changes: ((file: typeof good) => void)[] = [
      ({ metadata }) => metadata.set('format', 'facenet-gpu/model@1'),
      ({ metadata }) => metadata.delete('format'),
      ({ metadata }) => metadata.set('fingerprint', ''),
      ({ metadata }) => metadata.set('dimensions', '3'),
      ({ metadata }) => metadata.set('dimensions', 'x'),
      ({ tensors }) => tensors.set('more', { dtype: 'U8', shape: [0], data: new Uint8Array(0) }),
      ({ metadata }) => metadata.set('sha256', 'x').set('keep', ''),
    ];
    for (const change of changes)
      expect((await refusal(async () => readGallery(await rewritten([{ id: '1', label: 'Ada' }], change)))).code).toBe(
        'store',
      );
    const newer = await refusal(async () =>
      readGallery(
        await rewritten([{ id: '1', label: 'Ada' }], ({ metadata }) => metadata.set('format', 'facenet-gpu/gallery@2')),
      ),
    );
    expect(newer.message).toMatch(/gallery@2. Update/);
  });
});

describe('locked files', () => {
  test('open with their passphrase or key, and hold nothing in clear', async () => {
    for (const lock of [{ passphrase: 'correct horse 😀' }, { key }]) {
      const bytes = await writeGallery(content, lock);
      expect(isLocked(bytes)).toBe(true);
      expect(await readGallery(bytes, lock)).toEqual(content);
      for (const part of [
        'Ada',
        'label',
        'a.jpg',
        'dlib',
        'safetensors',
        'F32',
        new Uint8Array(content.vectors.buffer, 0, 12),
      ])
        expect(holds(bytes, part)).toBe(false);
    }
  });

  test('AES-256-GCM and PBKDF2-SHA-256 as stated: opened here by WebCrypto alone', async () => {
    const bytes = await writeGallery(small, { passphrase: 'pass' });
    const clear = bytes.slice(0, 44);
    expect(new TextDecoder().decode(clear.slice(0, 8))).toBe('FNGALLOC');
    expect(new DataView(clear.buffer).getUint32(12, true)).toBe(PBKDF2_ROUNDS);
    expect(PBKDF2_ROUNDS).toBeGreaterThanOrEqual(600_000);
    const secret = await crypto.subtle.importKey('raw', new TextEncoder().encode('pass'), 'PBKDF2', false, [
      'deriveKey',
    ]);
    const derived = await crypto.subtle.deriveKey(
      { name: 'PBKDF2', hash: 'SHA-256', salt: clear.slice(16, 32), iterations: PBKDF2_ROUNDS },
      secret,
      { name: 'AES-GCM', length: 256 },
      false,
      ['decrypt'],
    );
    const plain = new Uint8Array(
      await crypto.subtle.decrypt(
        { name: 'AES-GCM', iv: clear.slice(32, 44), additionalData: clear },
        derived,
        bytes.slice(44),
      ),
    );
    expect(plain).toEqual(await writeGallery(small));
  });

  test('salt and nonce are fresh at every write', async () => {
    const files = await Promise.all(Array.from({ length: 20 }, () => writeGallery(small, { key })));
    expect(new Set(files.map((bytes) => Buffer.from(bytes.slice(32, 44)).toString('hex'))).size).toBe(20);
    const [a, b] = [await writeGallery(small, { passphrase: 'p' }), await writeGallery(small, { passphrase: 'p' })];
    expect(a.slice(16, 32)).not.toEqual(b.slice(16, 32));
    expect(a.slice(44)).not.toEqual(b.slice(44));
  });

  test('every flipped byte is refused', async () => {
    const bytes = await writeGallery(small, { key });
    for (let at = 0; at < bytes.length; at++) {
      for (const mask of [1, 0x80, 0xff]) {
        const damaged = bytes.slice();
        damaged[at]! ^= mask;
        expect((await refusal(() => readGallery(damaged, { key }))).code, `byte ${at}`).toBe('store');
      }
    }
    // With a passphrase: every byte in clear, one behind them, one of the tag. Rounds are refused before they are spent.
    const sealed = await writeGallery(small, { passphrase: 'p' });
    for (const at of [
      ...Array.from({ length: 12 }, (_, i) => i),
      12,
      13,
      14,
      15,
      16,
      31,
      32,
      43,
      44,
      sealed.length - 1,
    ]) {
      const damaged = sealed.slice();
      damaged[at]! ^= 0x40;
      expect((await refusal(() => readGallery(damaged, { passphrase: 'p' }))).code, `byte ${at}`).toBe('store');
    }
    for (let length = 0; length < bytes.length; length += 7)
      expect((await refusal(() => readGallery(bytes.slice(0, length), { key }))).code).toBe('store');
  });

  test('a wrong or missing passphrase or key is named as such', async () => {
    const byPassphrase = await writeGallery(small, { passphrase: 'right' });
    expect((await refusal(() => readGallery(byPassphrase, { passphrase: 'Right' }))).message).toMatch(
      /wrong passphrase/,
    );
    expect((await refusal(() => readGallery(byPassphrase))).message).toMatch(/passphrase or key/);
    expect((await refusal(() => readGallery(byPassphrase, { key }))).message).toMatch(/with a passphrase, got a key/);
    const byKey = await writeGallery(small, { key });
    expect((await refusal(() => readGallery(byKey, { key: key.map((byte) => byte ^ 1) }))).message).toMatch(
      /wrong key/,
    );
    expect((await refusal(() => readGallery(byKey, { passphrase: 'x' }))).message).toMatch(
      /with a key, got a passphrase/,
    );
    for (const lock of [
      { passphrase: '' },
      { passphrase: '\ud800' },
      { key: new Uint8Array(16) },
      { key, passphrase: 'x' },
      { passphrase: 5 as never },
      { key: 'x' as never },
    ]) {
      expect((await refusal(() => writeGallery(small, lock))).code).toBe('input');
      expect((await refusal(() => readGallery(byKey, lock))).code).toBe('input');
    }
    // A plain file opens with a lock in hand: it was not locked.
    expect(await readGallery(await writeGallery(small), { key })).toEqual(small);
    const newer = byKey.slice();
    newer[8] = 2;
    expect((await refusal(() => readGallery(newer, { key }))).message).toMatch(/Update/);
  });
});

describe('a gallery and its files', () => {
  const build = async (templates: 'float32' | 'int8' = 'float32') => {
    const gallery = await FaceGallery.open({ fingerprint, dimensions: 16, codec, templates });
    const people = ['Ada Lovelace', 'Grace Hopper', 'Emmy Noether'];
    const given = people.map((_, i) => vectors(3, 16, 10 + i));
    for (const [i, name] of people.entries()) await gallery.enroll(name, given[i]!, { photo: `${name}.jpg` });
    return { gallery, people, given };
  };

  test.each(['float32', 'int8'] as const)(
    'PV-01 %s: after a removal no file holds the name or a template',
    async (templates) => {
      const { gallery, people, given } = await build(templates);
      const before = await gallery.save();
      const kept: Uint8Array[] = [];
      for await (const { vector } of gallery.entries(people[1])) kept.push(new Uint8Array(vector.buffer));
      expect(await gallery.erase(people[1]!)).toBe(3);
      const after = await gallery.save();
      const { tensors } = readSafetensors(before);
      const rows = tensors.get('vectors')!.data as Float32Array | Int8Array;
      for (let row = 3; row < 6; row++) {
        const template = rows.slice(row * 16, (row + 1) * 16);
        const raw = new Uint8Array(template.buffer);
        expect(holds(before, raw)).toBe(true);
        expect(holds(after, raw)).toBe(false);
        // Nor a part of one, nor the vector it was made of.
        expect(holds(after, raw.slice(0, 8))).toBe(false);
        expect(holds(after, new Uint8Array(given[1]!.data.buffer, (row - 3) * 64, 64))).toBe(false);
        expect(holds(after, kept[row - 3]!)).toBe(false);
      }
      expect(holds(before, people[1]!)).toBe(true);
      expect(holds(after, people[1]!)).toBe(false);
      expect(holds(after, people[0]!)).toBe(true);
    },
  );

  test('exportPerson holds one person only, and opens as a gallery', async () => {
    const { gallery, people } = await build();
    const bytes = await gallery.exportPerson(people[2]!, { key });
    const own = await FaceGallery.open({ fingerprint, dimensions: 16, codec });
    await own.load(bytes, { key });
    expect(await own.labels()).toEqual([people[2]]);
    expect(own.size).toBe(3);
    expect(holds(await gallery.exportPerson(people[2]!), people[0]!)).toBe(false);
  });

  test('load replaces all; a bad file changes nothing', async () => {
    const { gallery, people } = await build();
    const bytes = await gallery.save();
    const entries = async () => {
      const list = [];
      for await (const entry of gallery.entries()) list.push(entry);
      return list;
    };
    const before = await entries();
    await gallery.enroll('someone else', vectors(1, 16, 99));
    await gallery.remove({ label: people[0]! });
    await gallery.load(bytes);
    expect(await entries()).toEqual(before);
    const now = await entries();
    expect((await refusal(() => gallery.load(bytes.slice(0, -1)))).code).toBe('store');
    const zero: GalleryFile = {
      fingerprint,
      dimensions: 16,
      entries: [{ id: '1', label: 'x' }],
      vectors: new Float32Array(16),
    };
    expect(await refusal(async () => gallery.load(await writeGallery(zero)))).toMatchObject({
      code: 'store',
      index: 0,
    });
    expect(
      await refusal(async () => gallery.load(await writeGallery({ ...zero, vectors: new Int8Array(16) }))),
    ).toMatchObject({ index: 0 });
    expect(
      await refusal(async () => gallery.load(await writeGallery({ ...zero, fingerprint: 'nn4.small2/ff' }))),
    ).toMatchObject({
      code: 'mismatch',
      message: expect.stringMatching(/dlib-resnet\/0123456789abcdef, got nn4.small2\/ff/),
    });
    expect(
      await refusal(async () =>
        gallery.load(await writeGallery({ ...zero, dimensions: 8, vectors: new Float32Array(8) })),
      ),
    ).toMatchObject({ code: 'mismatch' });
    expect(await entries()).toEqual(now);
    const bare = await FaceGallery.open({ fingerprint, dimensions: 16 });
    expect((await refusal(() => bare.save())).message).toMatch(/codec/);
  });

  test.each(['float32', 'int8'] as const)('load fills a store as well, %s; ids must differ', async (templates) => {
    const { gallery } = await build(templates);
    const bytes = await gallery.save();
    const store = new MemoryStore();
    const kept = await FaceGallery.open({ fingerprint, dimensions: 16, codec, templates, store });
    await kept.enroll('somebody who goes', vectors(1, 16, 98));
    await kept.load(bytes);
    const ids = (await readGallery(bytes)).entries.map(({ id }) => id);
    const held = [];
    for await (const { id } of store.entries()) held.push(id);
    expect(held).toEqual(ids);
    expect(await kept.save()).toEqual(bytes);
    const twice: GalleryCodec = {
      ...codec,
      read: async (...given) => {
        const file = await codec.read(...given);
        return { ...file, entries: file.entries.map((entry) => ({ ...entry, id: 'same' })) };
      },
    };
    for (const store of [undefined, new MemoryStore()]) {
      const other = await FaceGallery.open({ fingerprint, dimensions: 16, codec: twice, ...(store && { store }) });
      expect((await refusal(() => other.load(bytes))).code).toBe('store');
      expect(other.size).toBe(0);
    }
  });

  test('int8 and float32 galleries read each other, int8 files come back bit for bit', async () => {
    const { gallery } = await build('int8');
    const bytes = await gallery.save();
    const same = await FaceGallery.open({ fingerprint, dimensions: 16, codec, templates: 'int8' });
    await same.load(bytes);
    expect(await same.save()).toEqual(bytes);
    const floats = await FaceGallery.open({ fingerprint, dimensions: 16, codec });
    await floats.load(bytes);
    expect(floats.size).toBe(9);
    await same.load(await floats.save());
    expect(await same.save()).toEqual(bytes);
  });
});
