/**
 * PyTorch's state dictionaries (.pt, .pth): the zip form of today and the older form of one pickle after another, as the weights of facenet-pytorch
 * come. Only tensors are made; a pickle that names anything but tensors, storages and ordered dictionaries is refused and nothing of it runs.
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
import { type ForeignType, foreignBytes, gather } from './strided.ts';
import { isZip, openZip } from './zip.ts';

const STORAGES: Readonly<Record<string, ForeignType>> = {
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.DoubleStorage': 'F64',
  'torch.ByteStorage': 'U8',
  'torch.CharStorage': 'I8',
  'torch.IntStorage': 'I32',
  'torch.LongStorage': 'I64',
  'torch.BoolStorage': 'BOOL',
};
/** First value of the older form. */
const MAGIC = 0x1950a86a20f9469cfc6cn;

/** A storage that a pickle refers to; its bytes are known once the whole file is. */
class StorageReference extends PickleObject {
  readonly key: string;
  readonly type: ForeignType;
  readonly count: number;

  constructor(key: string, type: ForeignType, count: number) {
    super();
    this.key = key;
    this.type = type;
    this.count = count;
  }
}

/** A tensor before its storage is known. */
class TensorReference extends PickleObject {
  readonly storage: StorageReference;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: StorageReference, offset: number, shape: readonly number[], strides: readonly number[]) {
    super();
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** True where the bytes may be a PyTorch file: a zip archive, or a pickle that begins with PyTorch's number. */
export function isPyTorch(bytes: Uint8Array): boolean {
  return (
    isZip(bytes) ||
    (bytes[0] === 0x80 && bytes[2] === 0x8a && bytes[3] === 10 && bytes[4] === 0x6c && bytes[5] === 0xfc)
  );
}

/**
 * The tensors of a state dictionary, by name, row-major, in PyTorch's layout (convolutions [out, in, height, width]; see `channelsLast`).
 * float64 and bfloat16 become F32. Nested dictionaries join their names by '.'; what stands under a key `state_dict` is taken alone.
 * @throws FaceNetError 'model' for damaged files and for pickles that hold anything but data.
 */
export function readPyTorch(bytes: Uint8Array, source = 'pytorch'): Map<string, Tensor> {
  const { value, storage } = isZip(bytes) ? readZipForm(bytes, source) : readOlderForm(bytes, source);
  const tensors = new Map<string, Tensor>();
  const visit = (inner: PickleValue, name: string, depth: number): void => {
    if (depth > 8) throw refusal(source, 'dictionaries at most eight deep', 'more');
    if (inner instanceof TensorReference) {
      if (tensors.has(name)) throw refusal(source, 'names are unique', quoteName(name));
      const { storage: reference, offset, shape, strides } = inner;
      tensors.set(name, gather(storage(reference), { type: reference.type, shape, strides, offset }, name, source));
    } else if (inner instanceof Map) {
      for (const [key, item] of inner)
        if (typeof key === 'string') visit(item, name === '' ? key : `${name}.${key}`, depth + 1);
    }
  };
  const nested = value instanceof Map ? value.get('state_dict') : undefined;
  visit(nested instanceof Map ? nested : value, '', 0);
  if (tensors.size === 0) throw refusal(source, 'a state dictionary of tensors', 'none');
  return tensors;
}

function refusal(source: string, rule: string, got: string): FaceNetError {
  return new FaceNetError('model', `${source}: ${rule}, got ${got}. Save the state_dict again with torch.save.`);
}

interface Opened {
  readonly value: PickleValue;
  readonly storage: (reference: StorageReference) => Uint8Array;
}

function readZipForm(bytes: Uint8Array, source: string): Opened {
  const archive = openZip(bytes, source);
  const index = archive.names.find((name) => /^([^/]+\/)?data\.pkl$/.test(name));
  if (index === undefined)
    throw refusal(
      source,
      'an archive with data.pkl',
      archive.names.length === 0 ? 'an empty one' : quoteName(archive.names[0] as string),
    );
  const folder = index.slice(0, -'data.pkl'.length);
  const order = archive.read(`${folder}byteorder`);
  if (order !== undefined && String.fromCharCode(...order.subarray(0, 16)) !== 'little')
    throw refusal(source, 'little-endian storages', 'others');
  const pickle = archive.read(index) as Uint8Array;
  const { value } = readPickle(pickle, torchPickle(source));
  return {
    value,
    storage(reference) {
      const data = archive.read(`${folder}data/${reference.key}`);
      if (data === undefined)
        throw refusal(source, 'every storage in the archive', `none for ${quoteName(reference.key)}`);
      if (data.length !== reference.count * foreignBytes(reference.type))
        throw refusal(
          source,
          `a storage of ${reference.count} elements`,
          `${data.length} bytes for ${quoteName(reference.key)}`,
        );
      return data;
    },
  };
}

/** Number, version, machine, object, list of storage keys: five pickles; then for each key its number of elements and its bytes. */
function readOlderForm(bytes: Uint8Array, source: string): Opened {
  const reader = torchPickle(source);
  const magic = readPickle(bytes, reader);
  if (magic.value !== MAGIC) throw refusal(source, 'a PyTorch file', 'another pickle');
  const version = readPickle(bytes, reader, magic.end);
  if (version.value !== 1001) throw refusal(source, 'version 1001 of the older form', typeof version.value);
  const machine = readPickle(bytes, reader, version.end);
  if (!(machine.value instanceof Map) || machine.value.get('little_endian') === false)
    throw refusal(source, 'little-endian storages', 'others');
  const types = new Map<string, ForeignType>();
  const object = readPickle(
    bytes,
    { ...reader, persistent: (id) => noting(types, storageReference(id, source)) },
    machine.end,
  );
  const keys = readPickle(bytes, reader, object.end);
  if (!Array.isArray(keys.value)) throw refusal(source, 'a list of storages', typeof keys.value);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const places = new Map<string, { start: number; count: number }>();
  let at = keys.end;
  for (const key of keys.value) {
    const type = typeof key === 'string' ? types.get(key) : undefined;
    if (typeof key !== 'string' || type === undefined || places.has(key))
      throw refusal(
        source,
        'storages that tensors refer to, once each',
        typeof key === 'string' ? quoteName(key) : typeof key,
      );
    if (at + 8 > bytes.length) throw refusal(source, 'truncated file: every storage', `none for ${quoteName(key)}`);
    const count = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    const start = at + 8;
    at = start + count * foreignBytes(type);
    if (!(at <= bytes.length))
      throw refusal(source, 'truncated file: every storage', `${bytes.length - start} bytes for ${quoteName(key)}`);
    places.set(key, { start, count });
  }
  if (at !== bytes.length) throw refusal(source, 'nothing behind the last storage', `${bytes.length - at} bytes`);
  return {
    value: object.value,
    storage(reference) {
      const place = places.get(reference.key);
      if (place === undefined || place.count !== reference.count)
        throw refusal(
          source,
          `a storage of ${reference.count} elements`,
          `${place?.count ?? 'none'} for ${quoteName(reference.key)}`,
        );
      return bytes.subarray(place.start, place.start + place.count * foreignBytes(reference.type));
    },
  };
}

function noting(types: Map<string, ForeignType>, reference: StorageReference): StorageReference {
  types.set(reference.key, reference.type);
  return reference;
}

function storageReference(id: PickleValue, source: string): StorageReference {
  const [kind, storage, key, , count, view = null] = id instanceof PickleTuple ? id.items : [];
  const type =
    storage instanceof PickleGlobal && Object.hasOwn(STORAGES, storage.name) ? STORAGES[storage.name] : undefined;
  if (
    kind !== 'storage' ||
    type === undefined ||
    typeof key !== 'string' ||
    typeof count !== 'number' ||
    !Number.isSafeInteger(count) ||
    count < 0 ||
    view !== null
  ) {
    throw refusal(source, 'persistent ids that are storages', 'another');
  }
  return new StorageReference(key, type, count);
}

function torchPickle(source: string): {
  source: string;
  allowed: PickleAllowList;
  values: ReadonlySet<string>;
  persistent: (id: PickleValue) => PickleValue;
} {
  const whole = (value: PickleValue | undefined): number => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw refusal(source, 'sizes, strides and offsets that are whole numbers', typeof value);
    return value;
  };
  const list = (value: PickleValue | undefined): number[] => {
    if (!(value instanceof PickleTuple) || value.items.length > 32)
      throw refusal(source, 'tuples of at most 32 sizes', typeof value);
    return value.items.map(whole);
  };
  const tensor = (args: readonly PickleValue[]): PickleValue => {
    const [storage, offset, shape, strides] = args;
    if (!(storage instanceof StorageReference)) throw refusal(source, 'tensors made of storages', typeof storage);
    return new TensorReference(storage, whole(offset), list(shape), list(strides));
  };
  const parameter = (args: readonly PickleValue[]): PickleValue => {
    if (!(args[0] instanceof TensorReference)) throw refusal(source, 'parameters made of tensors', typeof args[0]);
    return args[0];
  };
  const dictionary = (args: readonly PickleValue[]): PickleValue => {
    const map = new Map<PickleValue, PickleValue>();
    const [pairs] = args;
    if (!Array.isArray(pairs)) return map;
    for (const pair of pairs) {
      const [key = null, value = null] = pair instanceof PickleTuple ? pair.items : Array.isArray(pair) ? pair : [];
      map.set(key, value);
    }
    return map;
  };
  return {
    source,
    allowed: new Map([
      ['collections.OrderedDict', dictionary],
      ['torch._utils._rebuild_tensor', tensor],
      ['torch._utils._rebuild_tensor_v2', tensor],
      ['torch._utils._rebuild_parameter', parameter],
    ]),
    values: new Set(Object.keys(STORAGES)),
    persistent: (id) => storageReference(id, source),
  };
}
