/**
 * Python's pickle, restricted: data only. A general unpickler imports and calls whatever a file names; this one knows numbers, texts, bytes, lists,
 * tuples and dictionaries, and hands every global name and call to a short allow-list of the caller. Everything else is refused by name.
 * Memory is bounded by counting: a byte of a pickle may ask for an object, so the number of objects is limited.
 */
import { FaceNetError } from '../errors.ts';
import { quoteName } from './safetensors.ts';

/** A tuple; lists are arrays, dictionaries Maps, None null. */
export class PickleTuple {
  readonly items: readonly PickleValue[];

  constructor(items: readonly PickleValue[]) {
    this.items = items;
  }
}

/** A name out of the allow-list that has not been called. */
export class PickleGlobal {
  /** `module.name`. */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Something that the caller's allow-list made. */
export class PickleObject {
  /** Receives what a BUILD instruction holds. @throws Error for a state that does not fit, which the machine reports as damage. */
  setState(_state: PickleValue): void {
    throw new TypeError('this object takes no state');
  }
}

/** Anything a pickle may hold here. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | PickleTuple
  | PickleGlobal
  | PickleObject;

/** What a pickle may name, and what calling it with these arguments gives. */
export type PickleAllowList = ReadonlyMap<string, (args: readonly PickleValue[]) => PickleValue>;

/** What `readPickle` needs to know. */
export interface PickleReader {
  /** Names in messages. */
  readonly source: string;
  readonly allowed: PickleAllowList;
  /** Names that may stand as values and are never called, such as storage classes. */
  readonly values?: ReadonlySet<string>;
  /** Resolves a persistent id; without it such an id is refused. */
  readonly persistent?: (id: PickleValue) => PickleValue;
}

/** Instructions that are executed at most, and containers made at most. Real state dictionaries take some 50 a tensor. */
const MAX_INSTRUCTIONS = 4_000_000;
const MAX_CONTAINERS = 200_000;
/** Longest line of the text instructions, in bytes. */
const MAX_LINE = 10_000;

/** Marks the beginning of a run of items on the stack. */
const MARK = Symbol('mark');

/**
 * Reads one pickle (protocols 0 to 5).
 * @param start offset of its first byte.
 * @returns its value and the offset behind it.
 * @throws FaceNetError 'model' for truncated or damaged pickles, names outside the allow-list, and instructions that only run code.
 */
export function readPickle(bytes: Uint8Array, reader: PickleReader, start = 0): { value: PickleValue; end: number } {
  return new Machine(bytes, reader, start).run();
}

class Machine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #reader: PickleReader;
  #at: number;
  readonly #stack: (PickleValue | typeof MARK)[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #containers = 0;

  constructor(bytes: Uint8Array, reader: PickleReader, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#reader = reader;
    this.#at = start;
  }

  run(): { value: PickleValue; end: number } {
    for (let n = 0; n < MAX_INSTRUCTIONS; n++) {
      const code = this.#byte();
      if (code === 0x2e) return { value: this.#pop(), end: this.#at };
      const value = this.#execute(code);
      if (value !== undefined) this.#stack.push(value);
    }
    throw this.#refuse(`a pickle has at most ${MAX_INSTRUCTIONS} instructions`, 'more');
  }

  /** What the instruction pushes, or undefined. */
  #execute(code: number): PickleValue | undefined {
    switch (code) {
      case 0x80: {
        // PROTO
        const protocol = this.#byte();
        if (protocol > 5) throw this.#refuse('pickle protocol 0 to 5', `${protocol}`);
        return undefined;
      }
      case 0x95: // FRAME: a hint for buffering
        this.#take(8);
        return undefined;
      case 0x28: // MARK
        this.#stack.push(MARK);
        return undefined;
      case 0x30: // POP
        if (this.#stack.length === 0) throw this.#damaged();
        this.#stack.pop();
        return undefined;
      case 0x31: // POP_MARK
        this.#items();
        return undefined;
      case 0x32: // DUP
        return this.#top();
      case 0x4e:
        return null;
      case 0x88:
        return true;
      case 0x89:
        return false;
      case 0x4b:
        return this.#byte(); // BININT1
      case 0x4d:
        return this.#view.getUint16(this.#take(2), true); // BININT2
      case 0x4a:
        return this.#view.getInt32(this.#take(4), true); // BININT
      case 0x47:
        return this.#view.getFloat64(this.#take(8), false); // BINFLOAT
      case 0x8a:
        return this.#long(this.#byte()); // LONG1
      case 0x8b:
        return this.#long(this.#view.getUint32(this.#take(4), true)); // LONG4
      case 0x49: {
        // INT: decimal text; 00 and 01 are truth values
        const text = this.#line();
        return text === '00' ? false : text === '01' ? true : this.#decimal(text);
      }
      case 0x4c:
        return this.#decimal(this.#line().replace(/L$/, '')); // LONG
      case 0x46: {
        // FLOAT
        const text = this.#line();
        const value = Number(text);
        if (text.trim() === '' || Number.isNaN(value)) throw this.#damaged();
        return value;
      }
      case 0x8c:
        return this.#utf8(this.#byte()); // SHORT_BINUNICODE
      case 0x58:
        return this.#utf8(this.#view.getUint32(this.#take(4), true)); // BINUNICODE
      case 0x8d:
        return this.#utf8(this.#u64()); // BINUNICODE8
      case 0x56:
        return this.#line(); // UNICODE: text without its rare escapes
      case 0x55:
        return this.#latin1(this.#byte()); // SHORT_BINSTRING: Python 2's bytes
      case 0x54:
        return this.#latin1(this.#view.getUint32(this.#take(4), true)); // BINSTRING
      case 0x53: {
        // STRING: a quoted text
        const text = this.#line();
        if (text.length < 2 || text[0] !== text.at(-1) || !/^['"]/.test(text)) throw this.#damaged();
        return text.slice(1, -1);
      }
      case 0x43:
        return this.#slice(this.#byte()); // SHORT_BINBYTES
      case 0x42:
        return this.#slice(this.#view.getUint32(this.#take(4), true)); // BINBYTES
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        return this.#slice(this.#u64());
      case 0x5d:
        return this.#container([]); // EMPTY_LIST
      case 0x6c:
        return this.#container(this.#items()); // LIST
      case 0x61: {
        // APPEND
        const item = this.#pop();
        this.#list().push(item);
        return undefined;
      }
      case 0x65: {
        // APPENDS
        const items = this.#items();
        const list = this.#list();
        for (const item of items) list.push(item);
        return undefined;
      }
      case 0x29:
        return this.#container(new PickleTuple([])); // EMPTY_TUPLE
      case 0x85: // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87: {
        const items: PickleValue[] = [];
        for (let i = 0x84; i < code; i++) items.unshift(this.#pop());
        return this.#container(new PickleTuple(items));
      }
      case 0x74:
        return this.#container(new PickleTuple(this.#items())); // TUPLE
      case 0x7d:
        return this.#container(new Map<PickleValue, PickleValue>()); // EMPTY_DICT
      case 0x64:
        return this.#container(this.#pairs(new Map<PickleValue, PickleValue>(), this.#items())); // DICT
      case 0x73: {
        // SETITEM
        const value = this.#pop();
        const key = this.#pop();
        this.#pairs(this.#dictionary(), [key, value]);
        return undefined;
      }
      case 0x75: {
        // SETITEMS
        const items = this.#items();
        this.#pairs(this.#dictionary(), items);
        return undefined;
      }
      case 0x71:
        this.#memo.set(this.#byte(), this.#top()); // BINPUT
        return undefined;
      case 0x72:
        this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top()); // LONG_BINPUT
        return undefined;
      case 0x70:
        this.#memo.set(this.#index(), this.#top()); // PUT
        return undefined;
      case 0x94:
        this.#memo.set(this.#memo.size, this.#top()); // MEMOIZE
        return undefined;
      case 0x68:
        return this.#recall(this.#byte()); // BINGET
      case 0x6a:
        return this.#recall(this.#view.getUint32(this.#take(4), true)); // LONG_BINGET
      case 0x67:
        return this.#recall(this.#index()); // GET
      case 0x63: {
        // GLOBAL
        const module = this.#line();
        return this.#global(module, this.#line());
      }
      case 0x93: {
        // STACK_GLOBAL
        const name = this.#pop();
        const module = this.#pop();
        if (typeof name !== 'string' || typeof module !== 'string') throw this.#damaged();
        return this.#global(module, name);
      }
      case 0x52: {
        // REDUCE: a call
        const args = this.#pop();
        const callee = this.#pop();
        if (!(args instanceof PickleTuple) || !(callee instanceof PickleGlobal)) throw this.#damaged();
        const make = this.#reader.allowed.get(callee.name);
        if (make === undefined)
          throw this.#refuse('a pickle calls only what its allow-list names', quoteName(callee.name));
        return this.#container(make(args.items));
      }
      case 0x62: {
        // BUILD: hands a state to an object
        const state = this.#pop();
        const object = this.#top();
        // An ordered dictionary may carry attributes (PyTorch's _metadata); they hold no weights.
        if (object instanceof Map) return undefined;
        if (!(object instanceof PickleObject)) throw this.#refuse('states are given to arrays', 'another object');
        try {
          object.setState(state);
        } catch {
          throw this.#damaged();
        }
        return undefined;
      }
      case 0x51: {
        // BINPERSID
        const { persistent } = this.#reader;
        if (persistent === undefined) throw this.#refuse('no persistent ids', 'one');
        return persistent(this.#pop());
      }
      default:
        throw this.#refuse('instructions of a pickle hold data', `0x${code.toString(16).padStart(2, '0')}`);
    }
  }

  #global(module: string, name: string): PickleGlobal {
    const full = `${module}.${name}`;
    const { allowed, values } = this.#reader;
    if (!allowed.has(full) && values?.has(full) !== true) {
      throw new FaceNetError(
        'model',
        `${this.#reader.source}: a pickle names only numbers' containers, got ${quoteName(full)}. Nothing was run. Save the state_dict or the arrays alone.`,
      );
    }
    return new PickleGlobal(full);
  }

  #container<T>(value: T): T {
    if (++this.#containers > MAX_CONTAINERS) throw this.#refuse(`at most ${MAX_CONTAINERS} containers`, 'more');
    return value;
  }

  #pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw this.#damaged();
    return value as PickleValue;
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw this.#damaged();
    return value as PickleValue;
  }

  /** The values above the last mark, which is taken off as well. */
  #items(): PickleValue[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) throw this.#damaged();
    const items = this.#stack.splice(mark);
    items.shift();
    return items as PickleValue[];
  }

  #list(): PickleValue[] {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#damaged();
    return list;
  }

  #dictionary(): Map<PickleValue, PickleValue> {
    const dictionary = this.#top();
    if (!(dictionary instanceof Map)) throw this.#damaged();
    return dictionary;
  }

  #pairs(dictionary: Map<PickleValue, PickleValue>, items: readonly PickleValue[]): Map<PickleValue, PickleValue> {
    if (items.length % 2 !== 0) throw this.#damaged();
    for (let i = 0; i < items.length; i += 2) dictionary.set(items[i] as PickleValue, items[i + 1] as PickleValue);
    return dictionary;
  }

  #recall(index: number): PickleValue {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#damaged();
    return value;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  /** Moves on by `length` bytes and returns where they begin. */
  #take(length: number): number {
    const at = this.#at;
    if (!(at + length <= this.#bytes.length))
      throw this.#refuse('truncated pickle: it ends in a stop', `${this.#bytes.length} bytes`);
    this.#at = at + length;
    return at;
  }

  #u64(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  #slice(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  #utf8(length: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(new Uint8Array(this.#slice(length)));
    } catch (error) {
      if (error instanceof FaceNetError) throw error;
      throw this.#damaged();
    }
  }

  #latin1(length: number): string {
    return latin1(this.#slice(length));
  }

  /** Text up to the end of the line, which is taken as well. */
  #line(): string {
    const length = this.#bytes.subarray(this.#at, this.#at + MAX_LINE).indexOf(0x0a);
    if (length < 0) throw this.#damaged();
    return latin1(this.#bytes.subarray(this.#take(length + 1), this.#at - 1));
  }

  #decimal(text: string): number | bigint {
    if (!/^-?[0-9]{1,100}$/.test(text)) throw this.#damaged();
    const value = Number(text);
    return Number.isSafeInteger(value) ? value : BigInt(text);
  }

  #index(): number {
    const value = this.#decimal(this.#line());
    if (typeof value !== 'number' || value < 0) throw this.#damaged();
    return value;
  }

  /** A two's complement integer of any length. */
  #long(length: number): number | bigint {
    if (length > 1000) throw this.#damaged();
    const bytes = this.#slice(length);
    let value = 0n;
    for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
    value = BigInt.asIntN(Math.max(1, bytes.length * 8), value);
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
  }

  #damaged(): FaceNetError {
    return this.#refuse('a pickle is well-formed', `damage before byte ${this.#at}`);
  }

  #refuse(rule: string, got: string): FaceNetError {
    return new FaceNetError('model', `${this.#reader.source}: ${rule}, got ${got}. Get the file again.`);
  }
}

/** Bytes as characters 0 to 255. */
export function latin1(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}
