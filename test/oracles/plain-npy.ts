/**
 * Writes what numpy.save makes of a dictionary of dictionaries of float32 arrays, as davidsandberg/facenet keeps MTCNN's weights: a .npy of one
 * object, which is a pickle of protocol 3 (PEP 3154's predecessors; numpy's __reduce__). Shares nothing with src/io.
 */
import type { PlainTensor } from './plain-archives.ts';

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** numpy.save(file, layers): layers by name, their arrays by name. */
export function writeNpyDictionary(layers: ReadonlyMap<string, ReadonlyMap<string, PlainTensor>>): Uint8Array {
  const parts: Buffer[] = [];
  const raw = (text: string) => parts.push(Buffer.from(text, 'latin1'));
  const word = (text: string) => parts.push(Buffer.from('X'), uint32(Buffer.byteLength(text)), Buffer.from(text));
  const number = (value: number) => parts.push(Buffer.from('J'), uint32(value));
  const array = (type: () => void, shape: readonly number[], content: () => void) => {
    raw('cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(');
    shape.forEach(number);
    raw('t');
    type();
    raw('\x89');
    content();
    raw('tb');
  };
  const type = (name: string, order: string, flags: number) => () => {
    raw('cnumpy\ndtype\n');
    word(name);
    raw('K\x00K\x01\x87R(K\x03');
    word(order);
    raw('NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK');
    raw(String.fromCharCode(flags));
    raw('tb');
  };
  const dictionary = <T>(entries: ReadonlyMap<string, T>, value: (entry: T) => void) => {
    raw('}(');
    for (const [name, entry] of entries) {
      word(name);
      value(entry);
    }
    raw('u');
  };
  raw('\x80\x03');
  array(type('O8', '|', 63), [], () => {
    raw(']');
    dictionary(layers, (arrays) =>
      dictionary(arrays, ({ shape, data }) =>
        array(type('f4', '<', 0), shape, () => {
          parts.push(Buffer.from('B'), uint32(data.byteLength));
          parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
        }),
      ),
    );
    raw('a');
  });
  raw('.');
  const header = `${"{'descr': '|O', 'fortran_order': False, 'shape': (), }".padEnd(117)}\n`;
  return Buffer.concat([
    Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length, 0]),
    Buffer.from(header),
    ...parts,
  ]);
}
