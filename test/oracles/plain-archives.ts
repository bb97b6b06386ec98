/**
 * Writes the containers of others' weights, plainly, after their documentation: zip without compression (APPNOTE 6.3), PyTorch's zip form
 * (a pickle of protocol 2 and one file a storage), numpy's .npy and .npz. Shares nothing with src/io.
 */
import { crc32 } from 'node:zlib';

/** A zip archive of stored entries. */
export function writeZip(entries: readonly (readonly [name: string, bytes: Uint8Array])[]): Uint8Array {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const label = Buffer.from(name);
    const sums = Buffer.alloc(12);
    sums.writeUInt32LE(crc32(bytes), 0);
    sums.writeUInt32LE(bytes.length, 4);
    sums.writeUInt32LE(bytes.length, 8);
    const local = Buffer.from([0x50, 0x4b, 3, 4, 20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, ...sums, label.length, 0, 0, 0]);
    const central = Buffer.from([
      ...[0x50, 0x4b, 1, 2, 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0],
      ...[...sums, label.length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]);
    central.writeUInt32LE(at, 42);
    directory.push(central, label);
    parts.push(local, label, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    at += local.length + label.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = Buffer.alloc(22);
  end.set([0x50, 0x4b, 5, 6]);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

const bytesOf = (data: Float32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** A tensor of a state dictionary: floats, or a counter (int64). */
export interface PlainTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** torch.save(state_dict) as PyTorch 1.6 and later writes it. */
export function writePyTorch(state: ReadonlyMap<string, PlainTensor>): Uint8Array {
  const pickle: Buffer[] = [];
  const raw = (text: string) => pickle.push(Buffer.from(text, 'latin1'));
  const text = (value: string) => {
    const encoded = Buffer.from(value);
    const head = Buffer.from([0x58, 0, 0, 0, 0]);
    head.writeUInt32LE(encoded.length, 1);
    pickle.push(head, encoded);
  };
  const int = (value: number) => {
    const part = Buffer.from([0x4a, 0, 0, 0, 0]);
    part.writeInt32LE(value, 1);
    pickle.push(part);
  };
  const tuple = (items: readonly number[]) => {
    raw('(');
    items.forEach(int);
    raw('t');
  };
  const storages: [string, Uint8Array][] = [];
  raw('\x80\x02ccollections\nOrderedDict\n)R(');
  for (const [name, { shape, data }] of state) {
    text(name);
    raw('ctorch._utils\n_rebuild_tensor_v2\n((');
    text('storage');
    raw(data instanceof Float32Array ? 'ctorch\nFloatStorage\n' : 'ctorch\nLongStorage\n');
    text(String(storages.length));
    text('cpu');
    int(data.length);
    raw('tQ');
    int(0);
    tuple(shape);
    tuple(shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)));
    raw('\x89ccollections\nOrderedDict\n)RtR');
    storages.push([`archive/data/${storages.length}`, bytesOf(data)]);
  }
  raw('u.');
  return writeZip([
    ['archive/data.pkl', Buffer.concat(pickle)],
    ['archive/byteorder', Buffer.from('little')],
    ...storages,
    ['archive/version', Buffer.from('3\n')],
  ]);
}

/** numpy.save of a float32 array. */
export function writePlainNpy({ shape, data }: PlainTensor): Uint8Array {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }`;
  const padded = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  return Buffer.concat([head, Buffer.from(padded), bytesOf(data)]);
}

/** numpy.savez. */
export const writePlainNpz = (arrays: ReadonlyMap<string, PlainTensor>): Uint8Array =>
  writeZip([...arrays].map(([name, array]) => [`${name}.npy`, writePlainNpy(array)] as const));
