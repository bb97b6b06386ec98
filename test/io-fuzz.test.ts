// area: fuzz
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../src/io/safetensors.ts';
import { generator } from './oracles/plain-random.ts';
import { plainSafetensors } from './oracles/plain-safetensors.ts';

const MUTATIONS = Number(process.env.FACENET_FUZZ ?? 100_000);
const SEED = Number(process.env.FACENET_FUZZ_SEED ?? 20_261_124);

/** Seeds: every file of the cases, and a small file whose header has every feature. */
function seeds(): Uint8Array[] {
  const cases: { cases: { hex: string }[] } = JSON.parse(
    readFileSync(new URL('./cases/weights.json', import.meta.url), 'utf8'),
  );
  const tensors: [string, Tensor][] = [
    ['conv1/weight', { dtype: 'F32', shape: [2, 1, 1, 1], data: new Float32Array([1, 2]) }],
    ['b', { dtype: 'F16', shape: [3], data: new Uint16Array(3) }],
    ['q', { dtype: 'U8', shape: [1, 5], data: new Uint8Array(5) }],
    ['labels', { dtype: 'I64', shape: [1], data: new BigInt64Array(1) }],
    ['é\u2028"', { dtype: 'I32', shape: [], data: new Int32Array(1) }],
    ['none', { dtype: 'I8', shape: [0, 9], data: new Int8Array(0) }],
  ];
  return [
    ...cases.cases.map(({ hex }) => new Uint8Array(Buffer.from(hex, 'hex'))),
    writeSafetensors(
      new Map(tensors),
      new Map([
        ['network', 'dlib-resnet'],
        ['a"b', '{"x":[1]}'],
      ]),
    ),
  ];
}

const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '""',
  '"a"',
  '\\',
  '\\u0061',
  '\\ud800',
  '\\u0000',
  '0',
  '1',
  '4',
  '8',
  '-1',
  '1.5',
  '1e3',
  '-0',
  '00',
  '9007199254740991',
  '9007199254740992',
  '4294967296',
  '18446744073709551616',
  '99999999999999999999',
  'null',
  'true',
  ' ',
  '\n',
  '\t',
  '\0',
  '\x7f',
  '"dtype"',
  '"F32"',
  '"F64"',
  '"U8"',
  '"I64"',
  '"shape"',
  '"data_offsets"',
  '"__metadata__"',
  '"__proto__"',
  '[[',
  '[0,8]',
  '[0,0]',
  '[8,0]',
  '{"a":{}}',
  '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},',
  '"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
  '\ufeff',
  'é',
  '//',
  "'",
];

/** One mutation of the header text (its length field kept right half of the time) or of the raw bytes. */
function mutate(file: Uint8Array, next: (limit: number) => number): Uint8Array {
  const bytes = new Uint8Array(file);
  switch (next(6)) {
    case 0: // flip a bit
      if (bytes.length > 0) {
        const i = next(bytes.length);
        bytes[i] = (bytes[i] as number) ^ (1 << next(8));
      }
      return bytes;
    case 1: // another byte
      if (bytes.length > 0) bytes[next(bytes.length)] = next(256);
      return bytes;
    case 2: // cut off or lengthen
      return next(2)
        ? bytes.subarray(0, next(bytes.length + 1))
        : new Uint8Array([...bytes, ...new Uint8Array(next(9))]);
    case 3: // length field
      if (bytes.length >= 8)
        new DataView(bytes.buffer).setUint32(next(2) * 4, next(3) === 0 ? next(2 ** 32) : next(256), true);
      return bytes;
    default: {
      // Insert, replace or drop a token in the header.
      if (bytes.length < 8) return bytes;
      const length = Math.min(new DataView(bytes.buffer).getUint32(0, true), bytes.length - 8);
      const header = bytes.subarray(8, 8 + length);
      const token = new TextEncoder().encode(TOKENS[next(TOKENS.length)] as string);
      const at = next(length + 1);
      const dropped = next(3) === 0 ? 0 : next(next(4) === 0 ? 40 : 3);
      const changed =
        next(4) === 0
          ? [...header.subarray(0, at), ...header.subarray(at + dropped)]
          : [...header.subarray(0, at), ...token, ...header.subarray(at + dropped)];
      // Keep the padding rule out of the way: take trailing spaces off so that lengths vary.
      const result = new Uint8Array(8 + changed.length + bytes.length - 8 - length);
      result.set(changed, 8);
      result.set(bytes.subarray(8 + length), 8 + changed.length);
      new DataView(result.buffer).setUint32(0, next(8) === 0 ? length : changed.length, true);
      return result;
    }
  }
}

describe('safetensors under mutation', () => {
  it(`gives the plain parser's verdict on ${MUTATIONS} files (seed ${SEED})`, {
    timeout: 60_000 + MUTATIONS * 2,
  }, () => {
    const next = generator(SEED);
    const corpus = seeds();
    const prototype = Reflect.ownKeys(Object.prototype);
    let accepted = 0;
    let slowest = 0;
    for (let n = 0; n < MUTATIONS; n++) {
      let bytes = corpus[next(corpus.length)] as Uint8Array;
      for (let rounds = 1 + next(3); rounds > 0; rounds--) bytes = mutate(bytes, next);
      const plain = plainSafetensors(bytes);
      const fail = (why: string): never =>
        expect.fail(`mutation ${n} of seed ${SEED}: ${why}\n${Buffer.from(bytes).toString('hex')}`);
      const start = performance.now();
      try {
        const { tensors, metadata } = readSafetensors(bytes);
        slowest = Math.max(slowest, performance.now() - start);
        accepted++;
        if (!plain.ok) return fail(`accepted, the plain parser says ${plain.rule}`);
        if (tensors.size !== plain.tensors.length) fail('another number of tensors');
        for (const [name, dtype, shape, raw] of plain.tensors) {
          const tensor = tensors.get(name);
          if (tensor === undefined || tensor.dtype !== dtype || tensor.shape.join() !== shape.join())
            return fail(`another ${name}`);
          if (!Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength).equals(raw))
            fail(`other bytes in ${name}`);
        }
        if (JSON.stringify([...metadata].sort()) !== JSON.stringify(plain.metadata.sort())) fail('other metadata');
        // What is read can be written, and read again.
        if (accepted % 16 === 0) {
          const again = readSafetensors(writeSafetensors(tensors, metadata));
          if (again.tensors.size !== tensors.size || again.metadata.size !== metadata.size) fail('lost in writing');
        }
        // A quarter of the accepted files joins the corpus, so that later mutations start from other valid files.
        if (accepted % 4 === 0 && corpus.length < 200 && bytes.length < 2000) corpus.push(bytes);
      } catch (error) {
        slowest = Math.max(slowest, performance.now() - start);
        if (!(error instanceof FaceNetError) || error.code !== 'model') throw error;
        if (plain.ok) fail(`refused (${error.message}), the plain parser accepts`);
        if (error.message.length > 600) fail('a message of more than 600 characters');
      }
    }
    // Both verdicts must be exercised; a fuzz test that only refuses proves nothing about acceptance.
    expect(accepted).toBeGreaterThan(MUTATIONS / 100);
    expect(accepted).toBeLessThan(MUTATIONS / 2);
    expect(Reflect.ownKeys(Object.prototype)).toEqual(prototype);
    console.log(`${MUTATIONS} mutations, ${accepted} accepted, slowest read ${slowest.toFixed(1)} ms`);
  });
});
