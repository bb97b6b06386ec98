/**
 * The safetensors container: an 8-byte little-endian header length, a JSON header, then the bytes of all
 * tensors without a gap. Nothing here runs code from a file, and nothing is allocated on the word of a header:
 * every size is checked against the bytes that are really there first.
 *
 * Rules (github.com/safetensors/safetensors, README and reference reader; ours are marked *): the header is at
 * most 100,000,000 bytes of UTF-8 JSON that begins with `{` and may end in white space; keys are unique at every
 * level; metadata values are strings; shapes and offsets are non-negative integers whose products stay below
 * 2^53; the ranges, sorted, start at 0, touch each other and end at the end of the file. *No key beside dtype,
 * shape and data_offsets; *at most 32 dimensions; *at most 65,536 tensors; *names are well-formed Unicode.
 */
import { FaceNetError } from '../errors.ts';

/** Element types this library stores: weights F32 F16 U8 I8, indices and labels I32 I64. */
export type TensorType = 'F32' | 'F16' | 'U8' | 'I8' | 'I32' | 'I64';

interface TensorOf<Type extends TensorType, Data> {
  readonly dtype: Type;
  /** Sizes, outermost first; `[]` is a scalar. The product is `data.length`. */
  readonly shape: readonly number[];
  /** Row-major elements. F16 are the raw 16-bit patterns: see `toFloat32`. */
  readonly data: Data;
}

/** A named array in a file. `data` may be a view of the bytes it was read from. */
export type Tensor =
  | TensorOf<'F32', Float32Array>
  | TensorOf<'F16', Uint16Array>
  | TensorOf<'U8', Uint8Array>
  | TensorOf<'I8', Int8Array>
  | TensorOf<'I32', Int32Array>
  | TensorOf<'I64', BigInt64Array>;

/** What a file holds: tensors in the order of its header, and its free text. Maps, so that a name like `__proto__` is only a name. */
export interface TensorFile {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Map<string, string>;
}

/** Largest header that is read, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Largest number of tensors that is read. */
export const MAX_TENSORS = 65_536;
/** Largest number of dimensions that is read. */
export const MAX_DIMENSIONS = 32;

const ELEMENT_BYTES: Readonly<Record<TensorType, number>> = { F32: 4, F16: 2, U8: 1, I8: 1, I32: 4, I64: 8 };

/** Bytes of one element. */
export function elementBytes(dtype: TensorType): number {
  return ELEMENT_BYTES[dtype];
}

/** True for a dtype of `TensorType` and for nothing inherited. */
function isTensorType(name: string): name is TensorType {
  return Object.hasOwn(ELEMENT_BYTES, name);
}

/** A name out of a file, fit for an error message: quoted, escaped, cut. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}

/** Position and content of one tensor as its header states them. */
interface HeaderEntry {
  readonly name: string;
  readonly dtype: TensorType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Options of `readSafetensors`. */
export interface ReadOptions {
  /** What the bytes are called in error messages, such as a file name. Default 'safetensors'. */
  readonly source?: string;
}

/**
 * Reads a whole file. Tensors are views of `bytes` where their position allows it and copies elsewhere (a
 * Float32Array needs a multiple of 4): at most one more file size is allocated.
 * @throws FaceNetError 'model' naming the broken rule. Values are not judged: see `requireFinite` of model-file.ts.
 */
export function readSafetensors(bytes: Uint8Array, options: ReadOptions = {}): TensorFile {
  const source = options.source ?? 'safetensors';
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Get the file again or convert it anew.`);

  if (bytes.length < 8) throw refuse('file shorter than 8 bytes', `${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Two 32-bit halves: exact up to 2^53, and anything above is far beyond the limit anyway.
  const headerBytes = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw refuse(`header too large (at most ${MAX_HEADER_BYTES} bytes)`, `${headerBytes}`);
  }
  if (8 + headerBytes > bytes.length) {
    throw refuse('truncated header', `${bytes.length - 8} of ${headerBytes} bytes`);
  }
  let text: string;
  try {
    text = decodeUtf8(bytes.subarray(8, 8 + headerBytes));
  } catch (cause) {
    throw new FaceNetError('model', `${source}: header is not UTF-8 JSON, got invalid bytes. Get the file again.`, {
      cause,
    });
  }
  const { entries, metadata } = new HeaderParser(text, refuse).parse();

  const dataStart = 8 + headerBytes;
  const dataBytes = bytes.length - dataStart;
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of ordered) {
    if (begin > position)
      throw refuse('hole: every byte belongs to a tensor', `bytes ${position}..${begin} before ${quoteName(name)}`);
    if (begin < position)
      throw refuse('overlap: no two tensors share a byte', `${quoteName(name)} at ${begin} < ${position}`);
    if (end > dataBytes)
      throw refuse('truncated: range past the end', `${quoteName(name)} ends at ${end} of ${dataBytes} bytes`);
    position = end;
  }
  if (position !== dataBytes) throw refuse('trailing bytes', `${dataBytes - position} after the last tensor`);

  const tensors = new Map<string, Tensor>();
  for (const entry of entries) {
    tensors.set(
      entry.name,
      viewTensor(entry.dtype, entry.shape, bytes, dataStart + entry.begin, entry.end - entry.begin),
    );
  }
  return { tensors, metadata };
}

/** Strict decoding that keeps a byte order mark (which the header rule then refuses). Shared memory is copied first: TextDecoder refuses it. */
function decodeUtf8(bytes: Uint8Array): string {
  const own = bytes.buffer instanceof ArrayBuffer ? bytes : new Uint8Array(bytes);
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(own);
}

/**
 * A tensor over `byteLength` bytes at `start` (relative to `bytes`): a view where the alignment allows it, else a copy.
 * The caller has checked that the range lies inside and fits the shape. Little-endian machines only, as every JavaScript engine of today.
 */
export function viewTensor(
  dtype: TensorType,
  shape: readonly number[],
  bytes: Uint8Array,
  start: number,
  byteLength: number,
): Tensor {
  const size = ELEMENT_BYTES[dtype];
  const count = byteLength / size;
  let { buffer } = bytes;
  let offset = bytes.byteOffset + start;
  if (offset % size !== 0) {
    // Not slice(): that of a Node Buffer is another view of the same bytes.
    const copy = new Uint8Array(bytes.subarray(start, start + byteLength));
    ({ buffer } = copy);
    offset = copy.byteOffset;
  }
  switch (dtype) {
    case 'F32':
      return { dtype, shape, data: new Float32Array(buffer, offset, count) };
    case 'F16':
      return { dtype, shape, data: new Uint16Array(buffer, offset, count) };
    case 'U8':
      return { dtype, shape, data: new Uint8Array(buffer, offset, count) };
    case 'I8':
      return { dtype, shape, data: new Int8Array(buffer, offset, count) };
    case 'I32':
      return { dtype, shape, data: new Int32Array(buffer, offset, count) };
    case 'I64':
      return { dtype, shape, data: new BigInt64Array(buffer, offset, count) };
  }
}

/** Refusals in the format of this file. */
type Refuse = (rule: string, got: string) => FaceNetError;

/**
 * Reads exactly the JSON that a header may be. Not JSON.parse: that keeps the last of two equal keys, rounds large
 * integers, accepts fractions, and builds whatever nesting it is given before anybody can look at it.
 */
class HeaderParser {
  readonly #text: string;
  readonly #refuse: Refuse;
  #at = 0;

  constructor(text: string, refuse: Refuse) {
    this.#text = text;
    this.#refuse = refuse;
  }

  parse(): { entries: HeaderEntry[]; metadata: Map<string, string> } {
    if (this.#text[0] !== '{') throw this.#bad('header begins with {');
    const entries: HeaderEntry[] = [];
    const seen = new Set<string>();
    let metadata = new Map<string, string>();
    this.#object((key) => {
      if (seen.has(key)) throw this.#refuse('keys are unique', `${quoteName(key)} twice`);
      seen.add(key);
      if (key === '__metadata__') {
        metadata = this.#metadata();
        return;
      }
      if (entries.length === MAX_TENSORS) throw this.#refuse(`at most ${MAX_TENSORS} tensors`, 'more');
      entries.push(this.#entry(key));
    });
    this.#space();
    if (this.#at !== this.#text.length) throw this.#bad('nothing follows the header object');
    return { entries, metadata };
  }

  #metadata(): Map<string, string> {
    const metadata = new Map<string, string>();
    if (this.#peek() !== '{') throw this.#bad('__metadata__ is an object of strings');
    this.#object((key) => {
      if (metadata.has(key)) throw this.#refuse('keys are unique', `${quoteName(key)} twice in __metadata__`);
      if (this.#peek() !== '"')
        throw this.#refuse('metadata values are strings', `another value for ${quoteName(key)}`);
      metadata.set(key, this.#string());
    });
    return metadata;
  }

  #entry(name: string): HeaderEntry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    if (this.#peek() !== '{') throw this.#bad('a tensor is described by an object');
    this.#object((key) => {
      if (key === 'dtype' && dtype === undefined) {
        if (this.#peek() !== '"') throw this.#bad('dtype is a string');
        dtype = this.#string();
      } else if (key === 'shape' && shape === undefined) {
        shape = this.#integers(MAX_DIMENSIONS, name);
      } else if (key === 'data_offsets' && offsets === undefined) {
        offsets = this.#integers(2, name);
      } else {
        throw this.#refuse(
          'a tensor has dtype, shape and data_offsets, once each',
          `${quoteName(key)} in ${quoteName(name)}`,
        );
      }
    });
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      throw this.#refuse('a tensor has dtype, shape and data_offsets', `less in ${quoteName(name)}`);
    }
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined)
      throw this.#refuse('data_offsets are two integers', `${offsets.length} in ${quoteName(name)}`);
    if (!isTensorType(dtype)) {
      throw this.#refuse(
        `dtype is one of ${Object.keys(ELEMENT_BYTES).join(' ')}`,
        `${quoteName(dtype)} in ${quoteName(name)}`,
      );
    }
    let byteLength = ELEMENT_BYTES[dtype];
    for (const size of shape) {
      // Both are integers below 2^53 and the double product is rounded to nearest: at or above 2^53 it cannot look smaller.
      byteLength *= size;
      if (byteLength > Number.MAX_SAFE_INTEGER)
        throw this.#refuse(
          'overflow: sizes multiply to less than 2^53 bytes',
          `[${shape.join(', ')}] in ${quoteName(name)}`,
        );
    }
    if (end - begin !== byteLength) {
      throw this.#refuse(
        'range does not match shape',
        `${quoteName(name)} with ${byteLength} bytes at ${begin}..${end}`,
      );
    }
    return { name, dtype, shape, begin, end };
  }

  /** `{ "key": member, ... }`; `member` is called at each value and must consume it. */
  #object(member: (key: string) => void): void {
    this.#at++;
    if (this.#peek() === '}') {
      this.#at++;
      return;
    }
    for (;;) {
      if (this.#peek() !== '"') throw this.#bad('a key is a string');
      const key = this.#string();
      if (this.#peek() !== ':') throw this.#bad('a colon follows a key');
      this.#at++;
      member(key);
      const next = this.#peek();
      this.#at++;
      if (next === '}') return;
      if (next !== ',') throw this.#bad('a comma or } follows a value');
    }
  }

  #integers(limit: number, name: string): number[] {
    const list: number[] = [];
    if (this.#peek() !== '[') throw this.#bad('a list of integers is expected');
    this.#at++;
    if (this.#peek() === ']') {
      this.#at++;
      return list;
    }
    for (;;) {
      if (list.length === limit) throw this.#refuse(`at most ${limit} integers`, `more in ${quoteName(name)}`);
      this.#space();
      list.push(this.#integer());
      const next = this.#peek();
      this.#at++;
      if (next === ']') return list;
      if (next !== ',') throw this.#bad('sizes and offsets are non-negative integers');
    }
  }

  #integer(): number {
    const start = this.#at;
    while (this.#at < this.#text.length && isDigit(this.#text.charCodeAt(this.#at))) this.#at++;
    const length = this.#at - start;
    if (length === 0 || (length > 1 && this.#text[start] === '0'))
      throw this.#bad('sizes and offsets are non-negative integers');
    // 17 digits or more are above 2^53; up to 16 digits Number() is exact where it is safe.
    const value = length > 16 ? Number.POSITIVE_INFINITY : Number(this.#text.slice(start, this.#at));
    if (value > Number.MAX_SAFE_INTEGER)
      throw this.#refuse('overflow: integers are below 2^53', this.#text.slice(start, start + 24));
    return value;
  }

  #string(): string {
    const text = this.#text;
    const start = ++this.#at;
    let result = '';
    let from = start;
    for (;;) {
      if (this.#at >= text.length) throw this.#bad('a string ends in a quotation mark');
      const code = text.charCodeAt(this.#at);
      if (code === 0x22) break;
      if (code < 0x20) throw this.#bad('control characters in strings are escaped');
      if (code !== 0x5c) {
        this.#at++;
        continue;
      }
      result += text.slice(from, this.#at) + this.#escape();
      from = this.#at;
    }
    result += text.slice(from, this.#at);
    this.#at++;
    if (!isWellFormed(result)) throw this.#bad('strings are well-formed Unicode');
    return result;
  }

  /** One escape sequence, the backslash included. */
  #escape(): string {
    const kind = this.#text[this.#at + 1] ?? '';
    if (kind === 'u') {
      const hex = this.#text.slice(this.#at + 2, this.#at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(hex)) throw this.#bad('\\u takes four hexadecimal digits');
      this.#at += 6;
      return String.fromCharCode(Number.parseInt(hex, 16));
    }
    const place = '"\\/bfnrt'.indexOf(kind);
    if (kind === '' || place < 0) throw this.#bad('an escape is one of JSON');
    this.#at += 2;
    return '"\\/\b\f\n\r\t'[place] as string;
  }

  #space(): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  }

  /** The next character that is not white space, not consumed; '' at the end. */
  #peek(): string {
    this.#space();
    return this.#text[this.#at] ?? '';
  }

  #bad(rule: string): FaceNetError {
    const found = this.#text[this.#at];
    return this.#refuse(
      `header is not UTF-8 JSON of this format: ${rule}`,
      `${found === undefined ? 'the end' : quoteName(found)} at character ${this.#at}`,
    );
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** False where a surrogate stands alone. (String.prototype.isWellFormed is newer than Node 20's types.) */
function isWellFormed(text: string): boolean {
  return !/[\ud800-\udfff]/u.test(text);
}

/**
 * The bytes of a file that `readSafetensors` and every other reader accepts. Wider elements come first and the header is padded with
 * spaces to a multiple of 8, so that every tensor lies at a multiple of its element size; otherwise the order is that of the map.
 * @throws FaceNetError 'input' when a tensor's data do not fit its shape or dtype, or a name cannot be written.
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('input', `safetensors: ${rule}, got ${got}. Correct the tensors.`);
  const fields: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => {
      if (typeof value !== 'string')
        throw refuse('metadata values are strings', `${typeof value} for ${quoteName(key)}`);
      if (!isWellFormed(key) || !isWellFormed(value)) throw refuse('metadata are well-formed Unicode', quoteName(key));
      return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
    });
    fields.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  if (tensors.size > MAX_TENSORS) throw refuse(`at most ${MAX_TENSORS} tensors`, `${tensors.size}`);
  // Array.prototype.sort is stable.
  const ordered = [...tensors].sort(([, a], [, b]) => ELEMENT_BYTES[b.dtype] - ELEMENT_BYTES[a.dtype]);
  let position = 0;
  for (const [name, tensor] of ordered) {
    if (name === '__metadata__' || !isWellFormed(name))
      throw refuse('a name is well-formed and not __metadata__', quoteName(name));
    checkTensor(name, tensor, refuse);
    const end = position + tensor.data.byteLength;
    fields.push(
      `${JSON.stringify(name)}:{"dtype":"${tensor.dtype}","shape":[${tensor.shape.join(',')}],"data_offsets":[${position},${end}]}`,
    );
    position = end;
  }
  const header = new TextEncoder().encode(`{${fields.join(',')}}`);
  const padded = Math.ceil(header.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES) throw refuse(`the header is at most ${MAX_HEADER_BYTES} bytes`, `${padded}`);
  const bytes = new Uint8Array(8 + padded + position);
  new DataView(bytes.buffer).setUint32(0, padded, true);
  bytes.fill(0x20, 8, 8 + padded);
  bytes.set(header, 8);
  let at = 8 + padded;
  for (const [, { data }] of ordered) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

function checkTensor(name: string, { dtype, shape, data }: Tensor, refuse: Refuse): void {
  if (!isTensorType(dtype)) throw refuse('dtype is known', `${String(dtype)} for ${quoteName(name)}`);
  const fits = {
    F32: data instanceof Float32Array,
    F16: data instanceof Uint16Array,
    U8: data instanceof Uint8Array,
    I8: data instanceof Int8Array,
    I32: data instanceof Int32Array,
    I64: data instanceof BigInt64Array,
  }[dtype];
  if (!fits) throw refuse(`${dtype} data are their own kind of typed array`, `another for ${quoteName(name)}`);
  if (shape.length > MAX_DIMENSIONS)
    throw refuse(`at most ${MAX_DIMENSIONS} dimensions`, `${shape.length} for ${quoteName(name)}`);
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0)
      throw refuse('sizes are non-negative integers', `${size} in ${quoteName(name)}`);
    count *= size;
  }
  if (count !== data.length)
    throw refuse('data fit the shape', `${data.length} for [${shape.join(', ')}] in ${quoteName(name)}`);
}

/** How stored integers become weights: value = stored x scale + min. */
export interface Quantization {
  readonly scale: number;
  readonly min: number;
}

/**
 * The elements as float32: F32 as they are (the same array), F16 decoded exactly, integers as x * scale + min.
 * The product and sum are taken in float64 and rounded once, which is what TensorFlow.js does with the files this format comes from.
 * @param scale default 1. @param min default 0. Both are ignored for F32 and F16.
 * @throws FaceNetError 'model' for I64, which are labels and may exceed float32's integers.
 */
export function toFloat32(tensor: Tensor, scale = 1, min = 0): Float32Array {
  switch (tensor.dtype) {
    case 'F32':
      return tensor.data;
    case 'F16':
      return decodeFloat16(tensor.data);
    case 'I64':
      throw new FaceNetError(
        'model',
        'tensor: I64 holds labels, not weights, got a request for float32. Read its data as they are.',
      );
    default: {
      const values = new Float32Array(tensor.data.length);
      for (let i = 0; i < values.length; i++) values[i] = (tensor.data[i] as number) * scale + min;
      return values;
    }
  }
}

/** IEEE 754 binary16 patterns to float32; exact for every pattern, infinities and NaN included. */
export function decodeFloat16(patterns: Uint16Array): Float32Array {
  const values = new Float32Array(patterns.length);
  for (let i = 0; i < patterns.length; i++) {
    const bits = patterns[i] as number;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Infinity
            : NaN
          : (1024 + fraction) * 2 ** (exponent - 25);
    values[i] = bits & 0x8000 ? -magnitude : magnitude;
  }
  return values;
}

/** float32 to the nearest binary16 pattern, ties to even; values beyond 65,504 become infinite, NaN stays NaN. */
export function encodeFloat16(values: Float32Array): Uint16Array {
  const patterns = new Uint16Array(values.length);
  const bitsOf = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const bits = bitsOf[i] as number;
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) patterns[i] = sign | 0x7e00;
    else if (magnitude >= 0x47800000) patterns[i] = sign | 0x7c00;
    else if (magnitude < 0x38800000) {
      // Below the smallest normal half (2^-14): a multiple of 2^-24, rounded to even by the double's own arithmetic.
      const scaled = Math.abs(values[i] as number) * 2 ** 24;
      const floor = Math.floor(scaled);
      const rest = scaled - floor;
      patterns[i] = sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
    } else {
      // Drop 13 bits with round to even; a carry runs into the exponent and, at the top, into infinity: both right.
      patterns[i] = sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
    }
  }
  return patterns;
}
