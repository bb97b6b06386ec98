/**
 * Torch 7's binary .t7, as OpenFace's models come: a tree of Lua tables, numbers, texts, tensors and objects of classes, each of which is a
 * table of its fields. Nothing is executed: functions are skipped over, and a class is only a name.
 */
import { FaceNetError } from '../errors.ts';
import { latin1 } from './pickle.ts';
import { quoteName, type Tensor } from './safetensors.ts';
import { type ForeignType, foreignBytes, gather } from './strided.ts';

const TYPES: Readonly<Record<string, ForeignType>> = {
  Float: 'F32',
  Double: 'F64',
  Half: 'F16',
  Byte: 'U8',
  Char: 'I8',
  Int: 'I32',
  Long: 'I64',
  Cuda: 'F32',
  CudaHalf: 'F16',
  CudaDouble: 'F64',
};

/** Objects and entries that are read at most, and how deep. */
const MAX_OBJECTS = 1_000_000;
const MAX_DEPTH = 200;

/** A table, or an object of a class. */
export class TorchTable {
  /** 'table', or the class, such as 'nn.SpatialConvolution'. */
  readonly type: string;
  /** Fields by name, and entries by number written in decimal. */
  readonly fields = new Map<string, TorchValue>();

  constructor(type: string) {
    this.type = type;
  }
}

/** Anything a .t7 file holds here; functions read as null. */
export type TorchValue = null | boolean | number | string | TorchTable | Tensor;

interface Storage {
  readonly storage: Uint8Array;
  readonly type: ForeignType;
}

/**
 * The value of a .t7 file. Tensors are row-major copies in Torch's layout (convolutions [out, in, height, width]; see `channelsLast`).
 * @throws FaceNetError 'model' for truncated or damaged files, ASCII ones, and trailing bytes.
 */
export function readTorch7(bytes: Uint8Array, source = 't7'): TorchValue {
  return new Reader(bytes, source).whole();
}

/**
 * Every tensor of a tree, by the path to it: 'modules.1.weight'. A tensor or table that is met twice is listed where it is met first.
 * @param wanted which fields to take; by default those that hold a trained network's state.
 * @returns tensors by path, and for each path the class of the object it belongs to.
 */
export function torchTensors(
  root: TorchValue,
  wanted: (field: string) => boolean = (field) => /^(weight|bias|running_mean|running_var|running_std)$/.test(field),
): { tensors: Map<string, Tensor>; classes: Map<string, string> } {
  const tensors = new Map<string, Tensor>();
  const classes = new Map<string, string>();
  const met = new Set<TorchValue>();
  const pending: [value: TorchValue, path: string][] = [[root, '']];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [table, path] = next;
    if (!(table instanceof TorchTable) || met.has(table)) continue;
    met.add(table);
    const inner: [TorchValue, string][] = [];
    for (const [field, value] of table.fields) {
      const here = path === '' ? field : `${path}.${field}`;
      if (value instanceof TorchTable) inner.push([value, here]);
      else if (typeof value === 'object' && value !== null && wanted(field) && !met.has(value)) {
        met.add(value);
        tensors.set(here, value);
        classes.set(here, table.type);
      }
    }
    // A stack: pushed backwards, visited in the order of the table.
    pending.push(...inner.reverse());
  }
  return { tensors, classes };
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #source: string;
  #at = 0;
  #objects = 0;
  /** Everything that may be referred to again, by its number in the file. */
  readonly #seen = new Map<number, TorchValue | Storage>();

  constructor(bytes: Uint8Array, source: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#source = source;
  }

  whole(): TorchValue {
    const value = this.#value(0);
    if (this.#at !== this.#bytes.length)
      throw this.#refuse('nothing behind the object', `${this.#bytes.length - this.#at} bytes`);
    return value;
  }

  #value(depth: number): TorchValue {
    const value = this.#object(depth);
    if (typeof value === 'object' && value !== null && 'storage' in value)
      throw this.#refuse('storages stand in tensors', 'one alone');
    return value;
  }

  #object(depth: number): TorchValue | Storage {
    if (depth > MAX_DEPTH) throw this.#refuse(`objects at most ${MAX_DEPTH} deep`, 'more');
    if (++this.#objects > MAX_OBJECTS) throw this.#refuse(`at most ${MAX_OBJECTS} objects`, 'more');
    const kind = this.#int();
    switch (kind) {
      case 0:
        return null;
      case 1:
        return this.#view.getFloat64(this.#take(8), true);
      case 2:
        return this.#text();
      case 5:
        return this.#int() === 1;
      case 3:
      case 4: {
        const number = this.#int();
        const known = this.#seen.get(number);
        if (known !== undefined) return known;
        return kind === 3 ? this.#table(number, depth) : this.#instance(number, depth);
      }
      case 6: // a function: its code, and the values it captured
        return this.#function(depth);
      case 7:
      case 8: {
        const number = this.#int();
        if (this.#seen.has(number)) return null;
        this.#seen.set(number, null);
        return this.#function(depth);
      }
      default:
        throw this.#refuse('kinds of objects are 0 to 8', `${kind} at byte ${this.#at - 4}`);
    }
  }

  #function(depth: number): null {
    this.#text();
    this.#object(depth + 1);
    return null;
  }

  #table(number: number, depth: number, table = new TorchTable('table')): TorchTable {
    this.#seen.set(number, table);
    const size = this.#int();
    if (size < 0) throw this.#refuse('a table has entries', `${size}`);
    for (let i = 0; i < size; i++) {
      const key = this.#value(depth + 1);
      const value = this.#value(depth + 1);
      if (typeof key === 'string' || typeof key === 'number' || typeof key === 'boolean')
        table.fields.set(String(key), value);
    }
    return table;
  }

  /** An object of a class: tensors and storages have forms of their own, all others are a table of their fields. */
  #instance(number: number, depth: number): TorchValue | Storage {
    const version = this.#text();
    const name = /^V \d+$/.test(version) ? this.#text() : version;
    const [, scalar = '', kind] = /^torch\.([A-Za-z]+?)(Tensor|Storage)$/.exec(name) ?? [];
    const type = Object.hasOwn(TYPES, scalar) ? TYPES[scalar] : undefined;
    if (kind !== undefined && type === undefined)
      throw this.#refuse(`tensors of ${Object.keys(TYPES).join(', ')}`, quoteName(name));
    if (kind === 'Storage' && type !== undefined) {
      const count = this.#long();
      const start = this.#take(count * foreignBytes(type));
      const storage = { storage: this.#bytes.subarray(start, this.#at), type };
      this.#seen.set(number, storage);
      return storage;
    }
    if (kind === 'Tensor' && type !== undefined) {
      const tensor = this.#tensor(type, name, depth);
      this.#seen.set(number, tensor);
      return tensor;
    }
    if (!/^[A-Za-z_][\w.]{0,99}$/.test(name)) throw this.#refuse('a class has a name', quoteName(name));
    const object = new TorchTable(name);
    this.#seen.set(number, object);
    const state = this.#value(depth + 1);
    if (!(state instanceof TorchTable))
      throw this.#refuse(`a table of the fields of ${quoteName(name)}`, 'another object');
    for (const [field, value] of state.fields) object.fields.set(field, value);
    return object;
  }

  #tensor(type: ForeignType, name: string, depth: number): Tensor {
    const dimensions = this.#int();
    if (dimensions < 0 || dimensions > 32) throw this.#refuse('a tensor has at most 32 dimensions', `${dimensions}`);
    const shape = Array.from({ length: dimensions }, () => this.#long());
    const strides = Array.from({ length: dimensions }, () => this.#long());
    // Counted from 1.
    const offset = this.#long() - 1;
    const storage = this.#object(depth + 1);
    const isStorage = typeof storage === 'object' && storage !== null && 'storage' in storage;
    if (isStorage && storage.type !== type)
      throw this.#refuse('a tensor and its storage are of one type', quoteName(name));
    if (!isStorage && storage !== null) throw this.#refuse('a tensor has a storage', quoteName(name));
    // A tensor without dimensions is an empty one.
    const sizes = dimensions === 0 ? [0] : shape;
    return gather(
      isStorage ? storage.storage : new Uint8Array(0),
      { type, shape: sizes, strides: dimensions === 0 ? [1] : strides, offset },
      name,
      this.#source,
    );
  }

  #text(): string {
    const length = this.#int();
    if (length < 0) throw this.#refuse('a text has a length', `${length}`);
    const start = this.#take(length);
    return latin1(this.#bytes.subarray(start, start + length));
  }

  #int(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  /** 64 bits, not negative. */
  #long(): number {
    const value = this.#view.getBigInt64(this.#take(8), true);
    if (value < 0n || value > 2n ** 53n - 1n) throw this.#refuse('sizes are from 0 to 2^53', `${value}`);
    return Number(value);
  }

  /** Moves on by `length` bytes and returns where they begin. */
  #take(length: number): number {
    const at = this.#at;
    if (!(at + length <= this.#bytes.length))
      throw this.#refuse('truncated file: every object whole', `${this.#bytes.length} bytes`);
    this.#at = at + length;
    return at;
  }

  #refuse(rule: string, got: string): FaceNetError {
    return new FaceNetError(
      'model',
      `${this.#source}: ${rule}, got ${got}. Get the file again; only binary .t7 files are read.`,
    );
  }
}
