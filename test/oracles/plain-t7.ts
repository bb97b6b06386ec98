/** Writes Torch 7's binary form, plainly, after the documentation of torch.save and File.lua. Values: see `T7`. */

/** What can be written. `object`: a class and its fields; `tensor`: type, sizes, strides, first element (from 0) and its storage. */
export type T7 =
  | null
  | boolean
  | number
  | string
  | { table: [T7, T7][]; number?: number }
  | { object: string; fields: [T7, T7][]; number?: number; old?: boolean }
  | {
      tensor: string;
      shape: number[];
      strides: number[];
      first: number;
      storage: number[];
      number?: number;
      storageNumber?: number;
    }
  | { again: number; kind: 3 | 4 }
  | { code: string; captured: T7; kind?: 6 | 7 | 8 };

export function writeT7(root: T7): Uint8Array {
  const parts: Buffer[] = [];
  let numbers = 1000;
  const int = (value: number): void => {
    const part = Buffer.alloc(4);
    part.writeInt32LE(value);
    parts.push(part);
  };
  const long = (value: number): void => {
    const part = Buffer.alloc(8);
    part.writeBigInt64LE(BigInt(value));
    parts.push(part);
  };
  const text = (value: string): void => {
    int(Buffer.byteLength(value, 'latin1'));
    parts.push(Buffer.from(value, 'latin1'));
  };
  const table = (pairs: [T7, T7][]): void => {
    int(pairs.length);
    for (const [key, value] of pairs) {
      write(key);
      write(value);
    }
  };
  const scalar = (type: string, value: number): Buffer => {
    const part = Buffer.alloc(8);
    switch (type) {
      case 'Double':
        part.writeDoubleLE(value);
        return part;
      case 'Byte':
        return Buffer.of(value);
      case 'Char':
        return Buffer.of(value & 255);
      case 'Int':
        part.writeInt32LE(value);
        return part.subarray(0, 4);
      case 'Long':
        part.writeBigInt64LE(BigInt(value));
        return part;
      default:
        throw new Error(type);
    }
  };
  const write = (value: T7): void => {
    if (value === null) int(0);
    else if (typeof value === 'number') {
      int(1);
      const part = Buffer.alloc(8);
      part.writeDoubleLE(value);
      parts.push(part);
    } else if (typeof value === 'string') {
      int(2);
      text(value);
    } else if (typeof value === 'boolean') {
      int(5);
      int(value ? 1 : 0);
    } else if ('table' in value) {
      int(3);
      int(value.number ?? ++numbers);
      table(value.table);
    } else if ('object' in value) {
      int(4);
      int(value.number ?? ++numbers);
      if (!value.old) text('V 1');
      text(value.object);
      int(3);
      int(++numbers);
      table(value.fields);
    } else if ('tensor' in value) {
      const { tensor, shape, strides, first, storage } = value;
      int(4);
      int(value.number ?? ++numbers);
      text('V 1');
      text(`torch.${tensor}Tensor`);
      int(shape.length);
      shape.forEach(long);
      strides.forEach(long);
      long(first + 1);
      int(4);
      int(value.storageNumber ?? ++numbers);
      text('V 1');
      text(`torch.${tensor}Storage`);
      long(storage.length);
      if (tensor === 'Float') parts.push(Buffer.from(Float32Array.from(storage).buffer));
      else for (const item of storage) parts.push(scalar(tensor, item));
    } else if ('again' in value) {
      int(value.kind);
      int(value.again);
    } else {
      const { kind = 6 } = value;
      int(kind);
      if (kind !== 6) int(++numbers);
      text(value.code);
      write(value.captured);
    }
  };
  write(root);
  return Buffer.concat(parts);
}
