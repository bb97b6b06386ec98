import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { requireFinite } from '../src/io/model-file.ts';
import {
  decodeFloat16,
  encodeFloat16,
  MAX_TENSORS,
  readSafetensors,
  type Tensor,
  toFloat32,
  writeSafetensors,
} from '../src/io/safetensors.ts';

// Read at run time: a bundler's object literal would lose the tensor named __proto__.
const weights: {
  cases: { id: string; what: string; hex: string; verdict: string; detail: string | Record<string, number[]> }[];
} = JSON.parse(readFileSync(new URL('./cases/weights.json', import.meta.url), 'utf8'));

/** A file out of a header text and data, with the header length as it is. */
function file(header: string | Uint8Array, data: number[] = []): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function refusal(bytes: Uint8Array): FaceNetError {
  try {
    readSafetensors(bytes, { source: 'x.safetensors' });
  } catch (error) {
    if (error instanceof FaceNetError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('weights.json', () => {
  /** The case file's words for a rule, as our messages put them. */
  const wording: Record<string, RegExp> = {
    'header too large, before any allocation': /header too large/,
    'header is not UTF-8 JSON': /header is not UTF-8 JSON/,
  };
  for (const { id, what, hex, verdict, detail } of weights.cases) {
    it(`${id}: ${what}`, () => {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      if (verdict === 'reject') {
        const error = refusal(bytes);
        expect(error.code).toBe('model');
        expect(error.message).toMatch(wording[detail as string] ?? new RegExp(detail as string));
        expect(error.message).toMatch(/^x\.safetensors: .+, got .+\. .+\.$/s);
        return;
      }
      const { tensors } = readSafetensors(bytes);
      if (verdict === 'accept') {
        const values = new Map([...tensors].map(([name, { data }]) => [name, [...data]]));
        expect(values).toEqual(new Map(Object.entries(detail)));
        return;
      }
      expect(verdict).toBe('accept-container-refuse-weights');
      const w = tensors.get('w') as Tensor;
      expect([...w.data]).toEqual([Number.NaN, Number.POSITIVE_INFINITY]);
      expect(() => requireFinite('w', toFloat32(w))).toThrow(/non-finite value in "?w/);
    });
  }
  it('covers every case of the file', () => expect(weights.cases.length).toBe(17));
});

describe('rules beyond the cases', () => {
  const entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
  const one = [0, 0, 128, 63];
  it.each([
    ['a doubled tensor', `{"a":${entry},"a":${entry}}`, /keys are unique/],
    ['a tensor doubled by an escape', `{"a":${entry},"\\u0061":${entry}}`, /keys are unique/],
    ['a doubled field', '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', /once each/],
    ['a doubled metadata key', `{"__metadata__":{"k":"1","k":"1"},"a":${entry}}`, /keys are unique/],
    ['metadata doubled', `{"__metadata__":{},"__metadata__":{},"a":${entry}}`, /keys are unique/],
    ['an unknown field', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":0}}', /once each/],
    ['a missing field', '{"a":{"dtype":"F32","data_offsets":[0,4]}}', /has dtype, shape and data_offsets/],
    ['an unknown dtype', '{"a":{"dtype":"F64","shape":[],"data_offsets":[0,4]}}', /dtype is one of/],
    ['an inherited dtype', '{"a":{"dtype":"constructor","shape":[],"data_offsets":[0,4]}}', /dtype is one of/],
    ['a fraction', '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', /integers/],
    ['an exponent', '{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', /integers/],
    ['a negative size', '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', /integers/],
    ['minus zero', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', /integers/],
    ['a leading zero', '{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', /integers/],
    ['2^53', '{"a":{"dtype":"F32","shape":[9007199254740992,0],"data_offsets":[0,0]}}', /overflow/],
    [
      'an offset of 2^53',
      '{"a":{"dtype":"F32","shape":[0],"data_offsets":[9007199254740992,9007199254740992]}}',
      /overflow/,
    ],
    [
      'a product that wraps to 4',
      '{"a":{"dtype":"U8","shape":[4294967297,4294967297,4],"data_offsets":[0,4]}}',
      /overflow/,
    ],
    ['a reversed range', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', /range/],
    ['three offsets', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}', /integers/],
    ['one offset', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', /two integers/],
    ['33 dimensions', `{"a":{"dtype":"F32","shape":[${Array(33).fill(1).join()}],"data_offsets":[0,4]}}`, /at most 32/],
    ['a leading space', ` {"a":${entry}}`, /begins with \{/],
    ['a byte order mark', `\ufeff{"a":${entry}}`, /begins with \{/],
    ['a second object', `{"a":${entry}}{}`, /nothing follows/],
    ['a NUL after the object', `{"a":${entry}}\0`, /nothing follows/],
    ['a trailing comma', `{"a":${entry},}`, /key is a string/],
    ['an array', '[]', /begins with \{/],
    ['an unfinished string', '{"a', /quotation mark/],
    ['a bare control character', `{"a\n":${entry}}`, /control characters/],
    ['half a surrogate pair', `{"\\ud800":${entry}}`, /well-formed/],
    ['a bad escape', `{"\\x":${entry}}`, /escape/],
    ['a short \\u', `{"\\u12":${entry}}`, /hexadecimal/],
    ['deep nesting', `{"a":${'['.repeat(50_000)}`, /described by an object/],
    ['nested sizes', '{"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}}', /integers/],
    ['a null tensor', '{"a":null}', /described by an object/],
    ['metadata that are a list', '{"__metadata__":[]}', /object of strings/],
  ])('refuses %s', (_what, header, rule) => {
    const error = refusal(file(header, one));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
    expect(error.message.length).toBeLessThan(400);
  });

  it.each(['\n', '\t', '   ', '\r\n'])('accepts white space %j after the header', (space) => {
    expect(readSafetensors(file(`{"a":${entry}}${space}`, one)).tensors.get('a')?.data[0]).toBe(1);
  });

  it('accepts white space between tokens, escapes in names, and keys in any order', () => {
    const { tensors } = readSafetensors(
      file(`{ "\\u00e9\\n\\/" : { "data_offsets" : [ 0 , 4 ] ,\t"shape":[ ],\n"dtype":"F32"} } `, one),
    );
    expect([...tensors.keys()]).toEqual(['\u00e9\n/']);
  });

  it('refuses one tensor too many, quickly', () => {
    const many = Array.from(
      { length: MAX_TENSORS + 1 },
      (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    );
    expect(refusal(file(`{${many.join()}}`)).message).toMatch(/at most 65536 tensors/);
    expect(readSafetensors(file(`{${many.slice(1).join()}}`)).tensors.size).toBe(MAX_TENSORS);
  });

  it('names a header that is cut off', () => {
    expect(refusal(file(`{"a":${entry}}`, one).subarray(0, 20)).message).toMatch(/truncated header, got 12 of/);
  });

  it('allocates nothing on the word of a header', () => {
    const bytes = file('{"a":{"dtype":"F32","shape":[200000000],"data_offsets":[0,800000000]}}', one);
    const before = process.memoryUsage().arrayBuffers;
    expect(refusal(bytes).message).toMatch(/past the end/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  it('does not repeat a long name in its message', () => {
    expect(refusal(file(`{"${'n'.repeat(100_000)}":{"dtype":"F32"}}`)).message.length).toBeLessThan(300);
  });

  it('leaves Object.prototype alone', () => {
    const keys = Reflect.ownKeys(Object.prototype);
    const { tensors, metadata } = readSafetensors(
      file(`{"__metadata__":{"__proto__":"x","constructor":"y"},"__proto__":${entry}}`, one),
    );
    expect([tensors.has('__proto__'), metadata.get('__proto__'), metadata.get('constructor')]).toEqual([
      true,
      'x',
      'y',
    ]);
    expect(metadata.get('toString')).toBeUndefined();
    expect(Reflect.ownKeys(Object.prototype)).toEqual(keys);
  });

  it('reads views at any offset, in shared memory, and Buffers out of the pool', () => {
    const good = file(`{"a":${entry}}`, one);
    for (let shift = 0; shift < 8; shift++) {
      const shared = new Uint8Array(new SharedArrayBuffer(good.length + 8), shift, good.length);
      shared.set(good);
      expect(readSafetensors(shared).tensors.get('a')?.data[0]).toBe(1);
      expect(readSafetensors(Buffer.from(good)).tensors.get('a')?.data[0]).toBe(1);
    }
  });

  it('refuses every file cut short, and every file one byte longer', () => {
    const good = writeSafetensors(
      new Map([['a', { dtype: 'F32', shape: [3], data: new Float32Array([1, 2, 3]) }]]),
      new Map([['k', 'v']]),
    );
    for (let length = 0; length < good.length; length++) expect(refusal(good.subarray(0, length)).code).toBe('model');
    expect(refusal(new Uint8Array([...good, 0])).message).toMatch(/trailing bytes/);
  });
});

describe('writer', () => {
  const all: [string, Tensor][] = [
    ['bytes', { dtype: 'U8', shape: [3], data: new Uint8Array([1, 2, 255]) }],
    ['signed', { dtype: 'I8', shape: [1, 1], data: new Int8Array([-128]) }],
    ['half', { dtype: 'F16', shape: [2], data: new Uint16Array([0x3c00, 0x8000]) }],
    ['__proto__', { dtype: 'F32', shape: [2, 1], data: new Float32Array([0.1, Number.NaN]) }],
    ['"quoted"\n\ud83d\ude00', { dtype: 'I32', shape: [], data: new Int32Array([-7]) }],
    ['labels', { dtype: 'I64', shape: [2], data: new BigInt64Array([16777217n, -(2n ** 63n)]) }],
    ['empty', { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) }],
  ];

  it('round trips every dtype, name and metadata, aligned', () => {
    const metadata = new Map([
      ['__proto__', 'a\u2028"'],
      ['', ''],
    ]);
    const bytes = writeSafetensors(new Map(all), metadata);
    const back = readSafetensors(bytes);
    expect(new Map(back.tensors)).toEqual(new Map(all));
    expect(back.metadata).toEqual(metadata);
    const headerBytes = new DataView(bytes.buffer).getUint32(0, true);
    expect(headerBytes % 8).toBe(0);
    for (const { data } of back.tensors.values()) expect(data.buffer).toBe(bytes.buffer);
  });

  it('gives the same bytes twice, and an empty file is 16 bytes', () => {
    expect(writeSafetensors(new Map(all))).toEqual(writeSafetensors(new Map(all)));
    expect(Buffer.from(writeSafetensors(new Map())).toString('latin1')).toBe('\u0008\0\0\0\0\0\0\0{}      ');
  });

  it.each<[string, Map<string, Tensor>, Map<string, string>, RegExp]>([
    [
      'a shape of another size',
      new Map([['a', { dtype: 'F32', shape: [3], data: new Float32Array(2) }]]),
      new Map(),
      /data fit the shape, got 2 for \[3\] in "a"/,
    ],
    [
      'a negative size',
      new Map([['a', { dtype: 'F32', shape: [-1, -2], data: new Float32Array(2) }]]),
      new Map(),
      /non-negative/,
    ],
    [
      'another typed array',
      new Map([['a', { dtype: 'F32', shape: [2], data: new Float64Array(2) as unknown as Float32Array }]]),
      new Map(),
      /typed array/,
    ],
    [
      'the name __metadata__',
      new Map([['__metadata__', { dtype: 'U8', shape: [0], data: new Uint8Array(0) }]]),
      new Map(),
      /not __metadata__/,
    ],
    [
      'half a surrogate pair',
      new Map([['\ud800', { dtype: 'U8', shape: [0], data: new Uint8Array(0) }]]),
      new Map(),
      /well-formed/,
    ],
    ['metadata that are half a surrogate pair', new Map(), new Map([['k', '\udc00']]), /well-formed/],
    ['a metadata key that is half a surrogate pair', new Map(), new Map([['\udc00', 'v']]), /well-formed/],
    [
      'an unknown dtype',
      new Map([['a', { dtype: 'F64', shape: [1], data: new Float64Array(1) } as unknown as Tensor]]),
      new Map(),
      /dtype is known, got F64/,
    ],
    [
      'one tensor too many',
      new Map(
        Array.from({ length: MAX_TENSORS + 1 }, (_, i) => [
          `${i}`,
          { dtype: 'U8', shape: [0], data: new Uint8Array(0) },
        ]),
      ),
      new Map(),
      /at most 65536 tensors/,
    ],
    ['metadata of another kind', new Map(), new Map([['k', 1 as unknown as string]]), /strings/],
  ])('refuses %s', (_what, tensors, metadata, rule) => {
    expect(() => writeSafetensors(tensors, metadata)).toThrow(rule);
    expect(() => writeSafetensors(tensors, metadata)).toThrow(expect.objectContaining({ code: 'input' }));
  });
});

describe('values', () => {
  it('decodes all 65,536 half patterns as the definition says, and encodes them back', () => {
    const patterns = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const values = decodeFloat16(patterns);
    for (let bits = 0; bits < 65_536; bits++) {
      const [sign, e, f] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
      const expected =
        e === 31
          ? f
            ? Number.NaN
            : sign * Infinity
          : sign * (e === 0 ? f / 1024 / 2 ** 14 : (1 + f / 1024) * 2 ** (e - 15));
      if (!Object.is(values[bits], expected)) expect.fail(`${bits}: ${values[bits]} instead of ${expected}`);
    }
    const back = encodeFloat16(values);
    for (let bits = 0; bits < 65_536; bits++) {
      const notANumber = (bits & 0x7fff) > 0x7c00;
      if (notANumber ? (back[bits] as number & 0x7fff) <= 0x7c00 : back[bits] !== bits)
        expect.fail(`${bits} came back as ${back[bits]}`);
    }
  });

  it('rounds to the nearest half, ties to even', () => {
    // Halfway between neighbours a and b goes to the even pattern; the float32 next to halfway goes to the nearer one.
    const halves = decodeFloat16(Uint16Array.from({ length: 0x7c00 }, (_, i) => i));
    const next = (x: number, by: number): number => {
      const bits = new Int32Array(new Float32Array([x]).buffer);
      return new Float32Array(new Int32Array([(bits[0] as number) + by]).buffer)[0] as number;
    };
    for (let i = 0; i + 1 < halves.length; i += 7) {
      const middle = ((halves[i] as number) + (halves[i + 1] as number)) / 2;
      const even = i % 2 === 0 ? i : i + 1;
      expect([...encodeFloat16(new Float32Array([next(middle, -1), middle, next(middle, 1)]))]).toEqual([
        i,
        even,
        i + 1,
      ]);
    }
    expect([...encodeFloat16(new Float32Array([65519.99, 65520, -65520, 1e30, 1e-30, -0]))]).toEqual([
      0x7bff, 0x7c00, 0xfc00, 0x7c00, 0, 0x8000,
    ]);
  });

  it('turns integers into scale * x + min, rounded once', () => {
    const data = Uint8Array.from({ length: 256 }, (_, i) => i);
    const [scale, min] = [0.0005260649557207145, -0.07101876902229645];
    const values = toFloat32({ dtype: 'U8', shape: [256], data }, scale, min);
    for (let i = 0; i < 256; i++) expect(values[i]).toBe(Math.fround(i * scale + min));
    expect([...toFloat32({ dtype: 'I8', shape: [2], data: new Int8Array([-3, 4]) }, 0.5)]).toEqual([-1.5, 2]);
    expect(() => toFloat32({ dtype: 'I64', shape: [0], data: new BigInt64Array(0) })).toThrow(/labels/);
  });
});

const shared = process.env.FACENET_SHARED ?? '../shared';
const real = [
  'weights/mtcnn.safetensors',
  'weights/openface-nn4.small2.v1-partial.safetensors',
  'embeddings/openface-nn4.small2.v1-lfw.safetensors',
];
const present = existsSync(`${shared}/data/weights`);
if (!present)
  console.warn(`SKIPPED: real safetensors files, because ${shared}/data is not there (set FACENET_SHARED).`);
describe.skipIf(!present)('real files', () => {
  it('reads them and writes them back to the same tensors', () => {
    const counts = real.map((path) => {
      const { tensors, metadata } = readSafetensors(readFileSync(`${shared}/data/${path}`), { source: path });
      const again = readSafetensors(writeSafetensors(tensors, metadata));
      expect([...again.tensors.keys()]).toEqual([...tensors.keys()]);
      for (const [name, { data, shape }] of tensors) {
        const other = again.tensors.get(name) as Tensor;
        expect(other.shape).toEqual(shape);
        expect(
          Buffer.from(other.data.buffer, other.data.byteOffset, other.data.byteLength).equals(
            new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
          ),
        ).toBe(true);
      }
      return [tensors.size, [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0)];
    });
    // Counts published in the README beside the files: 495,850 parameters in 50 tensors; 2,144,720 + 9,312; 845 x 128.
    expect(counts[0]).toEqual([50, 495_850]);
    expect(counts[1]?.[1]).toBe(2_144_720 + 9_312);
    expect(counts[2]).toEqual([1, 845 * 128]);
  });
});
