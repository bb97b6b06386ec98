/**
 * numpy's .npy (format versions 1 to 3) and .npz. Arrays of objects, which are pickles, are read through the restricted unpickler: dictionaries
 * of arrays, such as the MTCNN weights det1.npy ... det3.npy of davidsandberg/facenet, and nothing else.
 */
import { FaceNetError } from '../errors.ts';
import {
  type PickleAllowList,
  PickleGlobal,
  PickleObject,
  PickleTuple,
  type PickleValue,
  readPickle,
} from './pickle.ts';
import { quoteName, type Tensor } from './safetensors.ts';
import { denseStrides, type ForeignType, foreignBytes, gather } from './strided.ts';
import { openZip } from './zip.ts';

/** Longest header that is read, in bytes; numpy itself stops at 10,000 by default. */
const MAX_HEADER = 1 << 16;

/** True where the bytes begin as a .npy file does. */
export function isNpy(bytes: Uint8Array): boolean {
  return bytes[0] === 0x93 && String.fromCharCode(...bytes.subarray(1, 6)) === 'NUMPY';
}

/** numpy's type codes: kind and bytes. */
const TYPES: Readonly<Record<string, ForeignType>> = {
  f2: 'F16',
  f4: 'F32',
  f8: 'F64',
  u1: 'U8',
  i1: 'I8',
  i4: 'I32',
  i8: 'I64',
  b1: 'BOOL',
};

/**
 * The array of a .npy file, row-major. float64 is rounded to float32, booleans become U8. A pickled dictionary of arrays gives one tensor per
 * array; names join the keys by '/'.
 * @returns tensors by name; a plain array has the name ''.
 * @throws FaceNetError 'model' for truncated or damaged files, trailing bytes, and types not listed above.
 */
export function readNpy(bytes: Uint8Array, source = 'npy'): Map<string, Tensor> {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Save the array again.`);
  if (!isNpy(bytes) || bytes.length < 10)
    throw refuse('a .npy file begins with its signature', `${bytes.length} bytes of another kind`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = bytes[6] as number;
  if (version < 1 || version > 3) throw refuse('.npy version 1, 2 or 3', `${version}`);
  const start = version === 1 ? 10 : 12;
  if (bytes.length < start) throw refuse('truncated header', `${bytes.length} bytes`);
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER) throw refuse(`a header of at most ${MAX_HEADER} bytes`, `${length}`);
  if (start + length > bytes.length) throw refuse('truncated header', `${bytes.length - start} of ${length} bytes`);
  const header = parseHeader(new TextDecoder().decode(new Uint8Array(bytes.subarray(start, start + length))));
  if (header === undefined) throw refuse('a header with descr, fortran_order and shape', 'another');
  const { descr, columnMajor, shape } = header;
  const data = bytes.subarray(start + length);

  if (descr === '|O') {
    const { value, end } = readPickle(data, { source, ...numpyPickle(source) });
    if (end !== data.length) throw refuse('nothing behind a pickled array', `${data.length - end} bytes`);
    const object = value instanceof NumpyArray ? value : undefined;
    if (object === undefined) throw refuse('a pickled array', 'another object');
    return flatten(object, source);
  }
  const match = /^([<>|=])([a-z][0-9])$/.exec(descr);
  const type = match?.[2] === undefined || !Object.hasOwn(TYPES, match[2]) ? undefined : TYPES[match[2]];
  if (match === null || type === undefined)
    throw refuse(`element type ${Object.keys(TYPES).join(', ')}`, quoteName(descr));
  const count = shape.reduce((product, size) => product * size, 1);
  if (!(count * foreignBytes(type) <= data.length))
    throw refuse('truncated array', `${data.length} bytes for [${shape.join(', ')}] of ${descr}`);
  if (count * foreignBytes(type) !== data.length)
    throw refuse('nothing behind the array', `${data.length - count * foreignBytes(type)} bytes`);
  return new Map([
    [
      '',
      gather(
        data,
        { type, shape, strides: denseStrides(shape, columnMajor), offset: 0, bigEndian: match[1] === '>' },
        '',
        source,
      ),
    ],
  ]);
}

/**
 * All arrays of a .npz file, by name without `.npy`.
 * @throws FaceNetError 'model' as `readNpy` and `openZip` do.
 */
export function readNpz(bytes: Uint8Array, source = 'npz'): Map<string, Tensor> {
  const archive = openZip(bytes, source);
  const tensors = new Map<string, Tensor>();
  for (const file of archive.names) {
    if (!file.endsWith('.npy'))
      throw new FaceNetError(
        'model',
        `${source}: entries of a .npz end in .npy, got ${quoteName(file)}. Save the arrays again.`,
      );
    const name = file.slice(0, -4);
    for (const [part, tensor] of readNpy(archive.read(file) as Uint8Array, `${source}/${name}`)) {
      const full = part === '' ? name : `${name}/${part}`;
      if (tensors.has(full))
        throw new FaceNetError(
          'model',
          `${source}: names are unique, got ${quoteName(full)} twice. Save the arrays again.`,
        );
      tensors.set(full, tensor);
    }
  }
  return tensors;
}

/** A .npy file of a tensor: version 1.0, little-endian, row-major, header padded to 64. */
export function writeNpy(tensor: Tensor): Uint8Array {
  const descr = { F32: '<f4', F16: '<f2', U8: '|u1', I8: '|i1', I32: '<i4', I64: '<i8' }[tensor.dtype];
  const shape = tensor.shape.length === 1 ? `${tensor.shape[0]},` : tensor.shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = `${text.padEnd(length - 1)}\n`;
  const bytes = new Uint8Array(10 + length + tensor.data.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, length & 255, length >> 8]);
  for (let i = 0; i < length; i++) bytes[10 + i] = header.charCodeAt(i);
  bytes.set(new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength), 10 + length);
  return bytes;
}

/** The three fields of the header, a Python dictionary in plain text; undefined where it is anything else. */
function parseHeader(text: string): { descr: string; columnMajor: boolean; shape: number[] } | undefined {
  const match = /^\{\s*((?:'[a-z_]+'\s*:\s*(?:'[^']{1,16}'|True|False|\([0-9, L]*\))\s*,?\s*){3})\}\s*$/.exec(text);
  if (match === null) return undefined;
  const fields = new Map<string, string>();
  for (const [, key = '', value = ''] of (match[1] ?? '').matchAll(
    /'([a-z_]+)'\s*:\s*('[^']{1,16}'|True|False|\([0-9, L]*\))/g,
  ))
    fields.set(key, value);
  const descr = fields.get('descr');
  const order = fields.get('fortran_order');
  const shape = fields.get('shape');
  if (fields.size !== 3 || descr === undefined || order === undefined || shape === undefined) return undefined;
  if (
    !descr.startsWith("'") ||
    !/^(True|False)$/.test(order) ||
    !/^\((\s*[0-9]{1,15}L?\s*,)*(\s*[0-9]{1,15}L?\s*)?\)$/.test(shape)
  )
    return undefined;
  const sizes = shape.match(/[0-9]+/g) ?? [];
  if (sizes.length > 32) return undefined;
  return { descr: descr.slice(1, -1), columnMajor: order === 'True', shape: sizes.map(Number) };
}

/** numpy.ndarray while and after it is unpickled. */
class NumpyArray extends PickleObject {
  shape: number[] = [];
  type: NumpyType | undefined;
  columnMajor = false;
  /** Raw bytes, or a list of objects for arrays of them. */
  content: Uint8Array | PickleValue[] = [];

  override setState(state: PickleValue): void {
    const [version, shape, type, columnMajor, content] = state instanceof PickleTuple ? state.items : [];
    if (version !== 1 || !(shape instanceof PickleTuple) || !(type instanceof NumpyType))
      throw new TypeError('array state');
    this.shape = shape.items.map((size) => {
      if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw new TypeError('array shape');
      return size;
    });
    this.type = type;
    this.columnMajor = columnMajor === true || columnMajor === 1;
    if (typeof content === 'string') this.content = fromLatin1(content);
    else if (content instanceof Uint8Array || Array.isArray(content)) this.content = content;
    else throw new TypeError('array content');
  }
}

/** numpy.dtype. */
class NumpyType extends PickleObject {
  readonly code: string;
  bigEndian = false;

  constructor(code: string) {
    super();
    this.code = code;
  }

  override setState(state: PickleValue): void {
    const order = state instanceof PickleTuple ? state.items[1] : undefined;
    this.bigEndian = order === '>';
  }
}

function fromLatin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** What a pickled array may name: five constructors, under their old and new module names. */
function numpyPickle(source: string): { allowed: PickleAllowList; values: ReadonlySet<string> } {
  const damaged = (what: string): FaceNetError =>
    new FaceNetError('model', `${source}: a pickled array is well-formed, got another ${what}. Save the array again.`);
  const reconstruct = (args: readonly PickleValue[]): PickleValue => {
    if (!(args[0] instanceof PickleGlobal) || args[0].name !== 'numpy.ndarray') throw damaged('class');
    return new NumpyArray();
  };
  const dtype = (args: readonly PickleValue[]): PickleValue => {
    if (typeof args[0] !== 'string' || args[0].length > 16) throw damaged('type');
    return new NumpyType(args[0]);
  };
  const encode = (args: readonly PickleValue[]): PickleValue => {
    if (typeof args[0] !== 'string' || args[1] !== 'latin1') throw damaged('text');
    return fromLatin1(args[0]);
  };
  return {
    allowed: new Map([
      ['numpy.core.multiarray._reconstruct', reconstruct],
      ['numpy._core.multiarray._reconstruct', reconstruct],
      ['numpy.dtype', dtype],
      ['_codecs.encode', encode],
      ['collections.OrderedDict', (): PickleValue => new Map<PickleValue, PickleValue>()],
    ]),
    values: new Set(['numpy.ndarray']),
  };
}

/** Arrays in nested dictionaries, at most eight deep, by the path of their keys. */
function flatten(root: NumpyArray, source: string): Map<string, Tensor> {
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got}. Save the arrays alone.`);
  const tensors = new Map<string, Tensor>();
  const visit = (value: PickleValue, name: string, depth: number): void => {
    if (depth > 8) throw refuse('dictionaries at most eight deep', 'more');
    if (value instanceof NumpyArray) {
      const { content, shape, type } = value;
      if (Array.isArray(content)) {
        if (content.length !== 1) throw refuse('one object in an array of objects', `${content.length}`);
        visit(content[0] as PickleValue, name, depth + 1);
        return;
      }
      const foreign = type === undefined || !Object.hasOwn(TYPES, type.code) ? undefined : TYPES[type.code];
      if (type === undefined || foreign === undefined)
        throw refuse(`element type ${Object.keys(TYPES).join(', ')}`, quoteName(type?.code ?? 'none'));
      if (tensors.has(name)) throw refuse('names are unique', quoteName(name));
      tensors.set(
        name,
        gather(
          content,
          {
            type: foreign,
            shape,
            strides: denseStrides(shape, value.columnMajor),
            offset: 0,
            bigEndian: type.bigEndian,
          },
          name,
          source,
        ),
      );
      return;
    }
    if (!(value instanceof Map)) throw refuse('dictionaries of arrays', `another value for ${quoteName(name)}`);
    for (const [key, inner] of value) {
      if (typeof key !== 'string') throw refuse('keys are texts', typeof key);
      visit(inner, name === '' ? key : `${name}/${key}`, depth + 1);
    }
  };
  visit(root, '', 0);
  return tensors;
}
