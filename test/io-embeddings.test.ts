import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { csvLine, parseCsv } from '../src/io/csv.ts';
import {
  type EmbeddingsFile,
  readEmbeddings,
  readEmbeddingsCsv,
  readEmbeddingsNpy,
  writeEmbeddings,
  writeEmbeddingsCsv,
  writeEmbeddingsNpy,
} from '../src/io/embeddings-file.ts';
import { readNpy } from '../src/io/npy.ts';
import { readSafetensors, writeSafetensors } from '../src/io/safetensors.ts';
import { generator } from './oracles/plain-random.ts';

/** Names that broke other programs: LB-01, LB-02 and what CSV, JSON and terminals stumble over. Built from code points where an editor might change them. */
const cases: { cases: Record<string, unknown>[] } = JSON.parse(
  readFileSync(new URL('./cases/labels.json', import.meta.url), 'utf8'),
);
const texts = (value: unknown): string[] =>
  typeof value === 'string'
    ? [value]
    : typeof value === 'object' && value !== null
      ? Object.values(value).flatMap(texts)
      : [];
const names = [
  ...new Set([
    ...cases.cases.flatMap(texts),
    '14',
    '__proto__',
    'constructor',
    'a,b',
    'a"b',
    '"',
    '""',
    'line\nfeed',
    'carriage\rreturn',
    'both\r\n',
    ' leading',
    'trailing ',
    '=1+1',
    '\ufeffmark',
    'e\u0301',
    '\u00e9',
    '\ud83d\udc69\u200d\ud83d\udcbb',
    '\u2028',
    '\0',
    '\u202egnp',
    'label',
    'e0',
  ]),
];

function refusal(action: () => unknown): FaceNetError {
  try {
    action();
  } catch (error) {
    if (error instanceof FaceNetError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

/** Random float32 patterns, small, large and subnormal ones among them. */
function sample(count: number, dimensions: number): EmbeddingsFile {
  const next = generator(5);
  const bits = new Uint32Array(count * dimensions);
  for (let i = 0; i < bits.length; i++) bits[i] = next(2 ** 32);
  const vectors = new Float32Array(bits.buffer);
  vectors.forEach((value, i) => {
    if (!Number.isFinite(value)) vectors[i] = i % 2 ? -0 : 1.401298464324817e-45;
  });
  return {
    vectors,
    count,
    dimensions,
    fingerprint: 'dlib-resnet/abc',
    labels: Array.from({ length: count }, (_, i) => names[i % names.length] as string),
    paths: Array.from({ length: count }, (_, i) => `${names[(i * 7) % names.length]}/${i}.jpg`),
    decoder: 'exact',
  };
}

const bitsOf = (vectors: Float32Array): number[] => [
  ...new Uint32Array(vectors.buffer, vectors.byteOffset, vectors.length),
];
function expectSame(back: EmbeddingsFile, file: EmbeddingsFile): void {
  expect({ ...back, vectors: bitsOf(back.vectors) }).toEqual({ ...file, vectors: bitsOf(file.vectors) });
}

describe('embeddings come back bit for bit and code point for code point', () => {
  const file = sample(names.length + 3, 5);
  const { labels: _labels, paths: _paths, decoder: _decoder, ...bare } = file;
  it('safetensors', () => {
    for (const each of [file, bare, sample(0, 128)]) expectSame(readEmbeddings(writeEmbeddings(each)), each);
  });
  it('.npy and .json', () => {
    for (const each of [file, bare]) {
      const { npy, json } = writeEmbeddingsNpy(each);
      expectSame(readEmbeddingsNpy(npy, json), each);
      expect(readNpy(npy).get('')?.shape).toEqual([each.count, each.dimensions]);
      expect(readEmbeddingsNpy(npy)).toMatchObject({ fingerprint: '', count: each.count });
    }
  });
  it('.csv and .json', () => {
    for (const each of [file, bare]) {
      const { csv, json } = writeEmbeddingsCsv(each);
      expectSame(readEmbeddingsCsv(csv, json), each);
      expectSame(
        readEmbeddingsCsv(csv.replaceAll('\r\n', '\n'), json).labels === undefined
          ? each
          : readEmbeddingsCsv(csv, json),
        each,
      );
    }
  });
  it(".csv is what Python's csv module reads (values stated by it)", () => {
    // python3: list(csv.reader(io.StringIO(text))) == [['label','e0','e1'], ['a,"b"\nc','0.1','-2.5e-10']]
    const { csv } = writeEmbeddingsCsv({
      vectors: new Float32Array([0.1, -2.5e-10]),
      count: 1,
      dimensions: 2,
      fingerprint: '',
      labels: ['a,"b"\nc'],
    });
    expect(csv).toBe('label,e0,e1\n"a,""b""\nc",0.1,-2.5e-10\n');
  });
  it('look-alike names stay apart', () => {
    const { labels } = readEmbeddings(writeEmbeddings(file));
    expect(new Set(labels).size).toBe(names.length);
  });
});

describe('wrong embeddings', () => {
  const good: EmbeddingsFile = {
    vectors: new Float32Array([1, 2, 3, 4]),
    count: 2,
    dimensions: 2,
    fingerprint: 'f',
    labels: ['a', 'b'],
  };
  it.each<[string, Partial<EmbeddingsFile>, RegExp]>([
    [
      'a value that is not finite',
      { vectors: new Float32Array([1, 2, 3, Number.NaN]) },
      /finite values, got NaN in row 1/,
    ],
    ['another number of values', { count: 3 }, /4 for 3 x 2/],
    ['another number of labels', { labels: ['a'] }, /as many labels as rows, got 1 for 2/],
    ['another number of paths', { paths: [] }, /as many paths/],
    ['no dimensions', { dimensions: 0, count: 0, vectors: new Float32Array(0), labels: [] }, /dimensions from 1/],
  ])('%s is not written', (_what, change, rule) => {
    for (const write of [writeEmbeddings, writeEmbeddingsNpy, writeEmbeddingsCsv]) {
      const error = refusal(() => write({ ...good, ...change }));
      expect(error.code).toBe('input');
      expect(error.message).toMatch(rule);
    }
  });

  const patched = (key: string, value: string): Uint8Array => {
    const { tensors, metadata } = readSafetensors(writeEmbeddings(good));
    return writeSafetensors(tensors, metadata.set(key, value));
  };
  it.each<[string, () => unknown, string, RegExp]>([
    ['a newer version', () => readEmbeddings(patched('format', 'facenet-gpu/embeddings@2')), 'model', /embeddings@2/],
    ['labels that are no list', () => readEmbeddings(patched('labels', '{"a":1}')), 'model', /list of texts/],
    ['labels that are numbers', () => readEmbeddings(patched('labels', '[1,2]')), 'model', /list of texts/],
    ['labels that are no JSON', () => readEmbeddings(patched('labels', '[')), 'model', /JSON/],
    ['a label too few', () => readEmbeddings(patched('labels', '["a"]')), 'input', /as many labels/],
    [
      'another tensor',
      () =>
        readEmbeddings(writeSafetensors(new Map([['x', { dtype: 'F32', shape: [1, 1], data: new Float32Array(1) }]]))),
      'model',
      /tensor 'embeddings'/,
    ],
    [
      'one dimension',
      () =>
        readEmbeddings(
          writeSafetensors(new Map([['embeddings', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]])),
        ),
      'model',
      /\[n, d\]/,
    ],
    [
      'integers',
      () =>
        readEmbeddings(
          writeSafetensors(new Map([['embeddings', { dtype: 'U8', shape: [1, 1], data: new Uint8Array(1) }]])),
        ),
      'model',
      /U8 \[1, 1\]/,
    ],
    [
      'NaN',
      () =>
        readEmbeddings(
          writeSafetensors(
            new Map([['embeddings', { dtype: 'F32', shape: [1, 1], data: new Float32Array([Number.NaN]) }]]),
          ),
        ),
      'input',
      /finite/,
    ],
    ['another JSON', () => readEmbeddingsNpy(writeEmbeddingsNpy(good).npy, '{"format":"x"}'), 'model', /format/],
    ['JSON null', () => readEmbeddingsNpy(writeEmbeddingsNpy(good).npy, 'null'), 'model', /format/],
    ['an empty table', () => readEmbeddingsCsv(''), 'input', /header line/],
    ['a table without values', () => readEmbeddingsCsv('label,path\na,b\n'), 'input', /columns e0/],
    ['columns in another order', () => readEmbeddingsCsv('e1,e0\n1,2\n'), 'input', /columns e0/],
    ['a doubled column', () => readEmbeddingsCsv('label,label,e0\na,b,2\n'), 'input', /columns e0/],
    ['a short row', () => readEmbeddingsCsv('e0,e1\n1,2\n3\n'), 'input', /2 fields in every row, got 1 in row 2/],
    ['a text for a number', () => readEmbeddingsCsv('e0\nx\n'), 'input', /numbers, got "x" in row 1/],
    ['an empty field', () => readEmbeddingsCsv('e0,e1\n1,\n'), 'input', /numbers/],
    ['infinity', () => readEmbeddingsCsv('e0\n1e999\n'), 'input', /finite/],
    [
      'an open quote',
      () => readEmbeddingsCsv('label,e0\n"a,1\n'),
      'input',
      /quoted field has an end, got another at line 2/,
    ],
    ['text behind a quote', () => readEmbeddingsCsv('label,e0\n"a"b,1\n'), 'input', /behind a field/],
    ['a quote inside a field', () => readEmbeddingsCsv('label,e0\na"b,1\n'), 'input', /behind a field/],
  ])('%s is refused', (_what, action, code, rule) => {
    const error = refusal(action);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(rule);
  });
});

describe('CSV', () => {
  it.each<[string, string[][]]>([
    ['', []],
    ['a', [['a']]],
    ['a,b\n', [['a', 'b']]],
    [
      'a,\r\n,b',
      [
        ['a', ''],
        ['', 'b'],
      ],
    ],
    ['\n\n', [[''], ['']]],
    ['"a""b","c\r\nd"\n', [['a"b', 'c\r\nd']]],
    ['\ufeffa\n', [['a']]],
    ['""\n', [['']]],
  ])('%j', (text, rows) => expect([...parseCsv(text, 'x')]).toEqual(rows));
  it('writes what it reads', () => {
    for (const name of names) expect([...parseCsv(csvLine([name, 'x', name]), 'x')]).toEqual([[name, 'x', name]]);
  });
});

const folder = `${process.env.FACENET_SHARED ?? '../shared'}/data/embeddings`;
if (!existsSync(folder)) console.warn(`SKIPPED: real embeddings, because ${folder} is not there (set FACENET_SHARED).`);
describe.skipIf(!existsSync(folder))('a file of others', () => {
  it('845 unit vectors, without a fingerprint', () => {
    const file = readEmbeddings(readFileSync(`${folder}/openface-nn4.small2.v1-lfw.safetensors`));
    expect([file.count, file.dimensions, file.fingerprint]).toEqual([845, 128, '']);
    const { csv } = writeEmbeddingsCsv(file);
    expect(
      Buffer.compare(
        new Uint8Array(readEmbeddingsCsv(csv).vectors.buffer),
        new Uint8Array(file.vectors.slice().buffer),
      ),
    ).toBe(0);
  });
});
