// area: fuzz
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import {
  readEmbeddings,
  readEmbeddingsCsv,
  readEmbeddingsNpy,
  writeEmbeddings,
  writeEmbeddingsCsv,
  writeEmbeddingsNpy,
} from '../src/io/embeddings-file.ts';
import { readManifest } from '../src/io/face-api.ts';
import { readKerasCsv } from '../src/io/keras-csv.ts';
import { readModelFile } from '../src/io/model-file.ts';
import { readNpy, readNpz } from '../src/io/npy.ts';
import { readPyTorch } from '../src/io/pytorch.ts';
import { readTorch7, torchTensors } from '../src/io/torch7.ts';
import { generator } from './oracles/plain-random.ts';
import { writeT7 } from './oracles/plain-t7.ts';

const MUTATIONS = Number(process.env.FACENET_FUZZ_FOREIGN ?? 5_000);
const SEED = Number(process.env.FACENET_FUZZ_SEED ?? 20_261_127);

const foreign = (name: string): Uint8Array => readFileSync(new URL(`./cases/foreign/${name}`, import.meta.url));
const named = (pattern: RegExp): Uint8Array[] =>
  readdirSync(new URL('./cases/foreign/', import.meta.url))
    .filter((name) => pattern.test(name))
    .map(foreign);
const utf8 = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(new TextEncoder().encode(text));
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const embeddings = {
  vectors: Float32Array.from([0.5, -1, 2, 3]),
  count: 2,
  dimensions: 2,
  fingerprint: 'f',
  labels: ['a', '"b"'],
  paths: ['x', 'y'],
};
const manifest = JSON.stringify([
  {
    paths: ['b'],
    weights: [
      {
        name: 'conv/filters',
        shape: [1, 2, 2, 1],
        dtype: 'float32',
        quantization: { dtype: 'uint8', scale: 0.5, min: -1 },
      },
      { name: 'fc', shape: [2], dtype: 'float32' },
      { name: 'axis', shape: [], dtype: 'int32', quantization: { dtype: 'uint16', scale: 1, min: 0 } },
    ],
  },
]);
const t7 = writeT7({
  object: 'nn.Sequential',
  fields: [
    [
      'modules',
      {
        table: [
          [
            1,
            {
              object: 'nn.Linear',
              fields: [
                [
                  'weight',
                  { tensor: 'Float', shape: [2, 2], strides: [2, 1], first: 0, storage: [1, 2, 3, 4], number: 7 },
                ],
                ['bias', { again: 7, kind: 4 }],
                ['f', { code: 'x', captured: null, kind: 8 }],
              ],
            },
          ],
        ],
      },
    ],
    ['size', { tensor: 'Long', shape: [1], strides: [1], first: 1, storage: [1, 2] }],
    ['train', true],
  ],
});

/** Format, seed files, reader, and pieces of its grammar to put in. */
const formats: [name: string, seeds: Uint8Array[], read: (bytes: Uint8Array) => unknown, tokens: Uint8Array[]][] = [
  [
    '.pt',
    named(/\.pt$/),
    (bytes) => readPyTorch(bytes),
    [
      '}',
      ']',
      ')',
      '(',
      't',
      'R',
      'b',
      'u',
      'e',
      'h\x00',
      'q\x01',
      '.',
      '0',
      '2',
      'N',
      'K\xff',
      'J\xff\xff\xff\x7f',
      '\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f',
      'ctorch\nFloatStorage\n',
      'cos\nsystem\n',
      'Q',
      '\x93',
      '\x94',
      'PK\x01\x02',
      'PK\x05\x06',
      '\xff\xff\xff\xff',
    ].map((t) => Buffer.from(t, 'latin1')),
  ],
  [
    '.t7',
    [t7],
    (bytes) => torchTensors(readTorch7(bytes), () => true),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, -1, 0x7fffffff, 1001]
      .map((n) => new Uint8Array(Int32Array.of(n).buffer))
      .concat([utf8('torch.FloatTensor'), utf8('torch.LongStorage'), utf8('V 1')]),
  ],
  [
    '.npy',
    named(/^(?!evil).*\.npy$/),
    (bytes) => [readNpy(bytes), readEmbeddingsNpy(bytes)],
    ["'", '(', ')', ',', '9', '99999', '>', '<', 'True', 'f8', 'O', '\x80', 'R', 'b', '}', 't'].map((t) =>
      Buffer.from(t, 'latin1'),
    ),
  ],
  [
    '.npz',
    named(/\.npz$/),
    (bytes) => readNpz(bytes),
    ['PK\x01\x02', 'PK\x03\x04', 'PK\x05\x06', '\xff\xff\xff\xff', '\0\0\0\0', '\x08\0'].map((t) =>
      Buffer.from(t, 'latin1'),
    ),
  ],
  [
    'manifest',
    [utf8(manifest)],
    (bytes) => readManifest(text(bytes), new Map([['b', new Uint8Array(14)]])),
    [
      '{',
      '}',
      '[',
      ']',
      ',',
      '"',
      'null',
      '-1',
      '1e999',
      '0.5',
      '9007199254740993',
      '"__proto__":',
      '"shape":[2,2]',
      '"quantization":null',
    ].map(utf8),
  ],
  [
    'CSV of weights',
    [utf8('1,2.5,-3e-4\n0.5 .25\n')],
    (bytes) => readKerasCsv(new Map([['a.csv', bytes]])),
    [',', 'e', '-', '.', 'nan', '1e999', '\n'].map(utf8),
  ],
  [
    'model file',
    [readFileSync(new URL('./cases/model-1.safetensors', import.meta.url))],
    (bytes) => readModelFile(bytes),
    ['{', '}', '[', ']', ',', '\\"', 'null', '-1', '1e9', '"__proto__":'].map(utf8),
  ],
  [
    'embeddings',
    [writeEmbeddings(embeddings)],
    (bytes) => readEmbeddings(bytes),
    ['{', '}', '[', ',', '\\"', 'null', '"x"'].map(utf8),
  ],
  [
    'embeddings .npy',
    [writeEmbeddingsNpy(embeddings).npy],
    (bytes) => readEmbeddingsNpy(bytes, writeEmbeddingsNpy(embeddings).json),
    ["'", ',', '9'].map(utf8),
  ],
  [
    'embeddings .csv',
    [utf8(writeEmbeddingsCsv(embeddings).csv)],
    (bytes) => readEmbeddingsCsv(text(bytes)),
    [',', '"', '""', '\n', '\r\n', 'e0', 'nan', '1e999'].map(utf8),
  ],
  [
    'embeddings .json',
    [utf8(writeEmbeddingsNpy(embeddings).json)],
    (bytes) => readEmbeddingsNpy(writeEmbeddingsNpy(embeddings).npy, text(bytes)),
    ['{', '}', '[', ',', '"', 'null', '1', '"__proto__":'].map(utf8),
  ],
];

describe('R29: foreign files under mutation', () => {
  for (const [name, seeds, read, tokens] of formats) {
    it(`${name}: ${MUTATIONS} mutations, typed, bounded (seed ${SEED})`, { timeout: 60_000 + MUTATIONS * 10 }, () => {
      const next = generator(SEED + name.length * 7919);
      const prototype = Reflect.ownKeys(Object.prototype);
      const corpus = [...seeds];
      let accepted = 0;
      let slowest = 0;
      let most = 0;
      for (let n = 0; n < MUTATIONS; n++) {
        let bytes = new Uint8Array(corpus[next(corpus.length)] as Uint8Array);
        for (let rounds = 1 + next(3); rounds > 0; rounds--) {
          const at = next(bytes.length + 1);
          switch (next(6)) {
            case 0:
              if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << next(8));
              break;
            case 1:
              if (at < bytes.length) bytes[at] = next(256);
              break;
            case 2:
              bytes = bytes.slice(0, next(8) === 0 ? at : bytes.length);
              break;
            case 3: {
              // Take something out, or double it.
              const length = next(20);
              bytes = next(2)
                ? Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at + length)])
                : Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(Math.max(0, at - length))]);
              break;
            }
            case 4: {
              const token = tokens[next(tokens.length)] as Uint8Array;
              bytes = Uint8Array.from([
                ...bytes.subarray(0, at),
                ...token,
                ...bytes.subarray(at + (next(2) ? token.length : 0)),
              ]);
              break;
            }
            default:
              bytes.set(
                (tokens[next(tokens.length)] as Uint8Array).subarray(0, Math.max(0, bytes.length - at)),
                Math.min(at, bytes.length),
              );
          }
        }
        const before = process.memoryUsage().arrayBuffers;
        const start = process.cpuUsage();
        try {
          read(bytes);
          accepted++;
          if (accepted % 8 === 0 && corpus.length < 100 && bytes.length < 8000) corpus.push(bytes);
        } catch (error) {
          if (
            !(error instanceof FaceNetError) ||
            !['model', 'input'].includes(error.code) ||
            error.message.length > 1000
          ) {
            console.error(`${name}: mutation ${n} of seed ${SEED}: ${Buffer.from(bytes).toString('hex')}`);
            throw error;
          }
        }
        // Of this process: what else the machine does is no fault of a reader.
        const { user, system } = process.cpuUsage(start);
        slowest = Math.max(slowest, (user + system) / 1000);
        // Buffers of earlier readings may be freed meanwhile: growth is seen, shrinking says nothing.
        most = Math.max(most, process.memoryUsage().arrayBuffers - before - bytes.length);
      }
      expect(most).toBeLessThan(2e6);
      expect(Reflect.ownKeys(Object.prototype)).toEqual(prototype);
      expect(accepted).toBeGreaterThan(MUTATIONS / 200);
      expect(accepted).toBeLessThan(MUTATIONS);
      console.log(
        `${name}: ${accepted} of ${MUTATIONS} accepted, slowest ${slowest.toFixed(0)} ms of processor time, at most ${most} bytes beyond the file`,
      );
    });
  }
});
