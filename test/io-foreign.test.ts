import { existsSync, readFileSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { readKerasCsv } from '../src/io/keras-csv.ts';
import { readNpy, readNpz, writeNpy } from '../src/io/npy.ts';
import { isPyTorch, readPyTorch } from '../src/io/pytorch.ts';
import { readSafetensors, type Tensor, toFloat32 } from '../src/io/safetensors.ts';
import { channelsLast, gather } from '../src/io/strided.ts';
import { readTorch7, type TorchTable, torchTensors } from '../src/io/torch7.ts';
import { openZip } from '../src/io/zip.ts';
import { type T7, writeT7 } from './oracles/plain-t7.ts';

/** Files written by PyTorch 1.13.1 and numpy 1.24.2 with test/cases/foreign/make_foreign.py, and the values those programs say they hold. */
const foreign = (name: string): Uint8Array => readFileSync(new URL(`./cases/foreign/${name}`, import.meta.url));
const stated = (name: string): Record<string, { shape: number[]; values: (number | string)[] }> =>
  JSON.parse(foreign(name).toString());

const values = (tensor: Tensor | undefined): number[] => {
  if (tensor === undefined) throw new Error('no such tensor');
  return tensor.dtype === 'F16' ? [...toFloat32(tensor)] : Array.from(tensor.data, Number);
};

function refusal(action: () => unknown): FaceNetError {
  try {
    action();
  } catch (error) {
    if (error instanceof FaceNetError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('PyTorch', () => {
  const expected = stated('state.json');
  for (const file of ['state.pt', 'state-older.pt']) {
    it(`reads ${file}: every dtype, view and name`, () => {
      expect(isPyTorch(foreign(file))).toBe(true);
      const tensors = readPyTorch(foreign(file), file);
      expect([...tensors.keys()].sort()).toEqual([...Object.keys(expected), 'conv2d_1a.bn.num_batches_tracked'].sort());
      for (const [name, { shape, values: wanted }] of Object.entries(expected)) {
        expect(tensors.get(name)?.shape, name).toEqual(shape);
        expect(values(tensors.get(name)), name).toEqual(wanted.map(Number));
      }
      expect(tensors.get('conv2d_1a.bn.num_batches_tracked')?.data[0]).toBe(12345678901n);
      expect([...tensors].map(([name, { dtype }]) => [name, dtype])).toContainEqual(['half', 'F16']);
    });
  }

  it('takes the state_dict out of a checkpoint, and joins nested names', () => {
    const { shared, scalar } = expected as Record<string, { values: number[] }>;
    const tensors = readPyTorch(foreign('checkpoint.pt'));
    expect([...tensors.keys()]).toEqual(['a', 'b']);
    expect(values(tensors.get('a'))).toEqual(shared?.values);
    expect(values(tensors.get('b'))).toEqual(scalar?.values);
    expect([...readPyTorch(foreign('nested.pt')).keys()]).toEqual(['nested.deep.w', 'v']);
  });

  it('runs nothing: refuses a call to os.system and a pickled module by name', () => {
    rmSync('evil', { force: true });
    expect(refusal(() => readPyTorch(foreign('evil.pt'), 'evil.pt')).message).toMatch(
      /^evil\.pt: .*got "(posix|os)\.system"\. Nothing was run/,
    );
    expect(refusal(() => readNpy(foreign('evil.npy'), 'evil.npy')).message).toMatch(/got "(posix|os)\.system"/);
    expect(existsSync('evil')).toBe(false);
    expect(refusal(() => readPyTorch(foreign('module.pt'))).message).toMatch(
      /"torch\.nn\.modules\.linear\.Linear".*state_dict/,
    );
  });

  it('refuses every file cut short', () => {
    for (const file of ['state.pt', 'state-older.pt']) {
      const bytes = foreign(file);
      for (let length = 0; length < bytes.length; length++)
        expect(refusal(() => readPyTorch(bytes.subarray(0, length))).code).toBe('model');
    }
    expect(refusal(() => readPyTorch(new Uint8Array([...foreign('state-older.pt'), 0]))).message).toMatch(
      /behind the last storage/,
    );
  });

  it('reads any offset', () => {
    for (const file of ['state.pt', 'state-older.pt']) {
      const bytes = foreign(file);
      for (let shift = 0; shift < 4; shift++) {
        const moved = new Uint8Array(bytes.length + shift).subarray(shift);
        moved.set(bytes);
        expect(values(readPyTorch(moved).get('transposed'))).toEqual(expected['transposed']?.values);
      }
    }
  });
});

describe('pickles that are not honest', () => {
  /** A state dictionary of the older form around a raw pickle. */
  const older = (pickle: string): Uint8Array =>
    Buffer.concat([
      Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex'),
      Buffer.from('80024de9032e', 'hex'),
      Buffer.from('80027d2e', 'hex'),
      Buffer.from(pickle, 'latin1'),
      Buffer.from('80025d2e', 'hex'),
    ]);
  const rebuild = (args: string): string => `}S'a'\nctorch._utils\n_rebuild_tensor_v2\n(${args}tRs.`;
  const storage = (key: string, count: string): string =>
    `(S'storage'\nctorch\nFloatStorage\nS'${key}'\nS'cpu'\n${count}NtQ`;
  it.each<[string, string, RegExp]>([
    ['nothing', '', /pickle/],
    ['an instance instruction', '(S"x"\nios\nsystem\n.', /instructions/],
    ['OBJ', '(cos\nsystem\no.', /names only/],
    ['NEWOBJ', ')\x81.', /instructions/],
    ['an extension', '\x82\x01.', /instructions/],
    ['a text persistent id', 'Pabc\n.', /instructions/],
    ['eval', 'cbuiltins\neval\n(S"1"\ntR.', /"builtins\.eval"/],
    ['getattr of an allowed name', 'ccollections\nOrderedDict.fromkeys\n(tR.', /OrderedDict\.fromkeys/],
    ['an inherited name', 'cconstructor\nconstructor\n.', /names only/],
    ['a call of a storage class', 'ctorch\nFloatStorage\n(tR.', /allow-list/],
    ['a call of a text', 'S"x"\n(tR.', /well-formed/],
    ['arguments that are no tuple', 'ccollections\nOrderedDict\n]R.', /well-formed/],
    ['a state for a number', 'I1\n}b.', /states/],
    ['an empty stack', '.', /well-formed/],
    ['a pop of nothing', '0N.', /well-formed/],
    ['a float of nothing', 'F\n.', /well-formed/],
    ['a text of one quote', "S'\n.", /well-formed/],
    ['a text with two kinds of quotes', 'S"x\'\n.', /well-formed/],
    ['a text without quotes', 'Sxx\n.', /well-formed/],
    ['a name that is a number', "S'torch'\nI1\n\x93.", /well-formed/],
    ['a module that is a number', "I1\nS'FloatStorage'\n\x93.", /well-formed/],
    ['a memo of nothing', 'q\x01N.', /well-formed/],
    ['a memo of a mark', '(q\x01N.', /well-formed/],
    ['a double of a mark', '(2N.', /well-formed/],
    ['a tuple without mark', 'I1\ntN.', /well-formed/],
    ['a key for a number', 'I1\nI2\nI3\ns.', /well-formed/],
    ['a key for a list', ']I2\nI3\nsN.', /well-formed/],
    ['a memo that was never made, then data', 'h\x07N.', /well-formed/],
    ['a name without end of line', 'ctorch', /well-formed/],
    ['a lonely mark', '(.', /well-formed/],
    ['items without mark', 'u.', /well-formed/],
    ['odd items', '}(I1\nu.', /well-formed/],
    ['append to a number', 'I1\nI2\na.', /well-formed/],
    ['a memo that was never made', 'h\x07.', /well-formed/],
    ['protocol 6', '\x80\x06N.', /protocol/],
    ['a length of 2^63', '\x8d\0\0\0\0\0\0\0\x80.', /truncated/],
    ['a length of 4 GB', 'X\xff\xff\xff\xff.', /truncated/],
    ['a number of 4 GB', '\x8b\xff\xff\xff\x7f.', /well-formed/],
    ['text that is not UTF-8', 'X\x01\0\0\0\xff.', /well-formed/],
    ['a number that is none', 'Fx\n.', /well-formed/],
    ['a line without end', `S'${'a'.repeat(20_000)}'.`, /well-formed/],
    ['too many dictionaries', `${'}0'.repeat(200_001)}N.`, /at most 200000 containers/],
    ['a tensor of a number', rebuild('I1\nI0\n(I1\nt(I1\nt'), /storages/],
    ['a storage that no list names', rebuild(`${storage('0', 'I1\n')}I0\n(I1\nt(I1\nt`), /storage of 1 elements/],
    ['a negative size', rebuild(`${storage('0', 'I1\n')}I0\n(I-1\nt(I1\nt`), /whole numbers/],
    ['a huge size', rebuild(`${storage('0', 'I1\n')}I0\n(I9007199254740993\nt(I1\nt`), /whole numbers/],
    [
      'an unknown storage',
      rebuild(`(S'storage'\nctorch\nComplexFloatStorage\nS'0'\nS'cpu'\nI1\nNtQI0\n(I1\nt(I1\nt`),
      /ComplexFloatStorage/,
    ],
  ])('%s', (_what, pickle, rule) => {
    const error = refusal(() => readPyTorch(older(pickle)));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
  });

  it('a persistent id in a pickle that can have none', () => {
    const header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
    const file = Buffer.concat([
      Buffer.from([0x93]),
      Buffer.from('NUMPY\x01\0', 'latin1'),
      Buffer.of(header.length, 0),
      Buffer.from(`${header}NQ.`),
    ]);
    expect(refusal(() => readNpy(file)).message).toMatch(/no persistent ids/);
  });

  it('a dictionary that contains itself ends', () => {
    expect(refusal(() => readPyTorch(older("}q\x01S'x'\nh\x01s.")))).toMatchObject({ code: 'model' });
    expect(refusal(() => readPyTorch(older('(}q\x01tS"x"\n.')))).toMatchObject({ code: 'model' });
  });
});

describe('views into storages', () => {
  const storage = new Uint8Array(new Float32Array([0, 1, 2, 3, 4, 5]).buffer);
  const view = (shape: number[], strides: number[], offset = 0) =>
    gather(storage, { type: 'F32', shape, strides, offset }, 't', 's');
  it('walks any strides, also negative and zero', () => {
    expect([...view([2, 3], [3, 1]).data]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...view([3, 2], [1, 3]).data]).toEqual([0, 3, 1, 4, 2, 5]);
    expect([...view([3], [-2], 5).data]).toEqual([5, 3, 1]);
    expect([...view([2, 3], [0, 1], 2).data]).toEqual([2, 3, 4, 2, 3, 4]);
    expect([...view([], [], 4).data]).toEqual([4]);
    expect([...view([0, 5], [9, 9], 100).data]).toEqual([]);
  });
  it.each<[string, number[], number[], number, RegExp]>([
    ['beyond the end', [2, 3], [3, 1], 1, /inside its storage/],
    ['before the beginning', [2], [-1], 0, /inside its storage/],
    ['more elements than the storage', [7], [0], 0, /no more elements/],
    ['2^60 elements of one', [2 ** 30, 2 ** 30], [0, 0], 0, /no more elements/],
    ['a stride of 2^53', [2], [2 ** 53 - 1], 0, /inside its storage/],
    ['a fraction', [1.5], [1], 0, /whole/],
    ['a negative offset', [1], [1], -1, /inside/],
    ['NaN', [1], [Number.NaN], 0, /whole/],
    ['another number of strides', [1], [], 0, /each with a stride/],
  ])('refuses %s', (_what, shape, strides, offset, rule) => {
    expect(refusal(() => view(shape, strides, offset)).message).toMatch(rule);
  });

  it('turns weights to channels last, as numpy.transpose says', () => {
    const conv: Tensor = { dtype: 'F32', shape: [2, 3, 1, 2], data: Float32Array.from({ length: 12 }, (_, i) => i) };
    // python: numpy.arange(12).reshape(2,3,1,2).transpose(2,3,1,0).ravel()
    expect(channelsLast(conv)).toEqual({
      dtype: 'F32',
      shape: [1, 2, 3, 2],
      data: Float32Array.from([0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]),
    });
    expect([...channelsLast({ dtype: 'U8', shape: [2, 3], data: Uint8Array.of(1, 2, 3, 4, 5, 6) }).data]).toEqual([
      1, 4, 2, 5, 3, 6,
    ]);
    const bias: Tensor = { dtype: 'F16', shape: [2], data: new Uint16Array(2) };
    expect(channelsLast(bias)).toBe(bias);
  });
});

describe('numpy', () => {
  const arrays = stated('arrays.json');
  it.each(Object.keys(arrays))('reads %s', (name) => {
    const { shape, values: wanted } = arrays[name] as { shape: number[]; values: (number | string)[] };
    const tensor = readNpy(foreign(`${name}.npy`), name).get('') as Tensor;
    expect(tensor.shape).toEqual(shape);
    if (tensor.dtype === 'I64') expect([...tensor.data].map(String)).toEqual(wanted);
    else expect(values(tensor)).toEqual(wanted.map((value) => Math.fround(Number(value))));
  });

  it('reads stored and deflated archives', () => {
    for (const file of ['stored.npz', 'deflated.npz']) {
      const tensors = readNpz(foreign(file), file);
      expect([...tensors.keys()].sort()).toEqual(Object.keys(arrays).sort());
      for (const name of Object.keys(arrays))
        expect(tensors.get(name), name).toEqual(readNpy(foreign(`${name}.npy`)).get(''));
    }
  });

  it('reads pickled dictionaries of arrays in protocols 2, 3 and 4', () => {
    const expected = stated('dictionary.json');
    for (const protocol of [2, 3, 4]) {
      const tensors = readNpy(foreign(`dictionary-${protocol}.npy`));
      expect([...tensors.keys()]).toEqual(Object.keys(expected));
      for (const [name, { shape, values: wanted }] of Object.entries(expected)) {
        expect(tensors.get(name)?.shape).toEqual(shape);
        expect(values(tensors.get(name))).toEqual(wanted.map(Number));
      }
    }
  });

  it('writes what numpy writes, byte for byte', () => {
    for (const name of ['f4', 'f2', 'u1', 'i1', 'i4', 'i8', 'empty']) {
      const bytes = foreign(`${name}.npy`);
      // numpy's header ends in a comma and a blank more when padded; the same here.
      expect(Buffer.from(writeNpy(readNpy(bytes).get('') as Tensor)).toString('latin1')).toBe(
        Buffer.from(bytes).toString('latin1'),
      );
    }
  });

  const npy = (header: string, data: number[] = []): Uint8Array =>
    Uint8Array.from([
      0x93,
      0x4e,
      0x55,
      0x4d,
      0x50,
      0x59,
      1,
      0,
      header.length & 255,
      header.length >> 8,
      ...Buffer.from(header),
      ...data,
    ]);
  it.each<[string, Uint8Array, RegExp]>([
    ['another file', Buffer.from('PK\x03\x04'), /signature/],
    ['version 4', Uint8Array.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 4, 0, 0, 0]), /version/],
    ['a long header', Uint8Array.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 2, 0, 0, 0, 0, 1, 0]), /header of at most/],
    [
      'code in the header',
      npy("{'descr': __import__('os').system('x'), 'fortran_order': False, 'shape': (), }"),
      /header with descr/,
    ],
    ['a missing field', npy("{'descr': '<f4', 'fortran_order': False, }"), /header with descr/],
    ['a doubled field', npy("{'descr': '<f4', 'descr': '<f4', 'shape': (), }", [0, 0, 0, 0]), /header with descr/],
    ['a structured type', npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (), }"), /header with descr/],
    ['complex numbers', npy("{'descr': '<c8', 'fortran_order': False, 'shape': (), }"), /element type/],
    ['an inherited type', npy("{'descr': '<constructor', 'fortran_order': False, 'shape': (), }"), /element type/],
    [
      '10^15 elements',
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999, 999999999999999), }"),
      /truncated array/,
    ],
    ['a negative size', npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), /header with descr/],
    [
      'too few bytes',
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", [0, 0, 0, 0]),
      /truncated array/,
    ],
    [
      'too many bytes',
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", [0, 0, 0, 0, 0]),
      /behind the array, got 1 bytes/,
    ],
    [
      '33 sizes',
      npy(`{'descr': '<f4', 'fortran_order': False, 'shape': (${'1, '.repeat(33)}), }`, [0, 0, 0, 0]),
      /header with descr/,
    ],
  ])('refuses %s', (_what, bytes, rule) => {
    const error = refusal(() => readNpy(bytes));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
  });
});

describe('zip', () => {
  const bytes = foreign('deflated.npz');
  const patched = (change: (view: DataView, directory: number) => void): Uint8Array => {
    const copy = new Uint8Array(bytes);
    const view = new DataView(copy.buffer);
    change(view, view.getUint32(copy.length - 6, true));
    return copy;
  };
  it.each<[string, () => Uint8Array, RegExp]>([
    ['an encrypted entry', () => patched((view, at) => view.setUint16(at + 8, 1, true)), /encrypted/],
    ['another method', () => patched((view, at) => view.setUint16(at + 10, 12, true)), /stored or deflated/],
    ['a size of 4 GB', () => patched((view, at) => view.setUint32(at + 24, 0xfffffffe, true)), /inflate to at most/],
    [
      'a size one too small',
      () => patched((view, at) => view.setUint32(at + 24, view.getUint32(at + 24, true) - 1, true)),
      /as long as declared/,
    ],
    [
      'a size one too large',
      () => patched((view, at) => view.setUint32(at + 24, view.getUint32(at + 24, true) + 1, true)),
      /as long as declared/,
    ],
    ['a wrong checksum', () => patched((view, at) => view.setUint8(at + 16, view.getUint8(at + 16) ^ 1)), /checksum/],
    ['a header elsewhere', () => patched((view, at) => view.setUint32(at + 42, 7, true)), /has a header/],
    [
      'more entries than listed',
      () => patched((view) => view.setUint16(view.byteLength - 12, 99, true)),
      /lists every entry/,
    ],
    [
      'a directory outside',
      () => patched((view) => view.setUint32(view.byteLength - 6, 0x7fffffff, true)),
      /lies inside/,
    ],
    ['no directory', () => bytes.subarray(0, bytes.length - 22), /ends in a directory/],
    ['a missing byte', () => bytes.subarray(0, bytes.length - 1), /ends in a directory/],
    ['nothing', () => new Uint8Array(0), /ends in a directory/],
  ])('refuses %s', (_what, file, rule) => {
    const error = refusal(() => {
      const archive = openZip(file(), 'a');
      for (const name of archive.names) archive.read(name);
    });
    expect(error.message).toMatch(rule);
  });

  it('reads names without surprises', () => {
    const archive = openZip(foreign('state.pt'), 'a');
    expect(archive.names.filter((name) => name.endsWith('.pkl'))).toHaveLength(1);
    expect(archive.read('__proto__')).toBeUndefined();
    expect(archive.read('toString')).toBeUndefined();
  });
});

describe('Torch 7', () => {
  const tensor = (type: string, shape: number[], storage: number[], more: object = {}): T7 => ({
    tensor: type,
    shape,
    strides: shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1)),
    first: 0,
    storage,
    ...more,
  });
  const net: T7 = {
    object: 'nn.Sequential',
    fields: [
      [
        'modules',
        {
          table: [
            [
              1,
              {
                object: 'nn.SpatialConvolutionMM',
                fields: [
                  ['weight', tensor('Float', [2, 1, 1, 2], [1, 2, 3, 4], { number: 50, storageNumber: 51 })],
                  ['bias', tensor('Double', [2], [0.5, -0.25])],
                  ['gradWeight', tensor('Float', [1], [9])],
                  ['kW', 3],
                  ['train', false],
                  ['padW', null],
                ],
              },
            ],
            [
              2,
              {
                object: 'nn.SpatialBatchNormalization',
                fields: [
                  ['running_mean', tensor('Float', [2], [7, 8])],
                  ['running_var', tensor('Float', [2], [9, 10])],
                  ['weight', { again: 50, kind: 4 }],
                  ['forward', { code: '\x1bLua', captured: { table: [] } }],
                  ['hook', { code: 'x', captured: null, kind: 8 }],
                ],
              },
            ],
            [
              3,
              {
                object: 'nn.Reshape',
                fields: [
                  ['size', tensor('Long', [2], [-1, 2 ** 40])],
                  ['empty', tensor('Float', [], [])],
                ],
                old: true,
              },
            ],
          ],
        },
      ],
      ['output', tensor('Float', [], [])],
      [true, 'yes'],
    ],
  };

  it('reads tables, classes, tensors, shared ones and functions', () => {
    const root = readTorch7(writeT7(net)) as TorchTable;
    expect(root.type).toBe('nn.Sequential');
    expect(root.fields.get('true')).toBe('yes');
    const { tensors, classes } = torchTensors(root);
    expect([...tensors].map(([name, t]) => [name, t.shape, values(t)])).toEqual([
      ['modules.1.weight', [2, 1, 1, 2], [1, 2, 3, 4]],
      ['modules.1.bias', [2], [0.5, -0.25]],
      ['modules.2.running_mean', [2], [7, 8]],
      ['modules.2.running_var', [2], [9, 10]],
    ]);
    expect(classes.get('modules.1.weight')).toBe('nn.SpatialConvolutionMM');
    const module = (i: string): TorchTable => (root.fields.get('modules') as TorchTable).fields.get(i) as TorchTable;
    expect(module('2').fields.get('weight')).toBe(module('1').fields.get('weight'));
    expect(module('2').fields.get('forward')).toBeNull();
    expect([...(module('3').fields.get('size') as { data: BigInt64Array }).data]).toEqual([-1n, 2n ** 40n]);
    expect((module('3').fields.get('empty') as Tensor).shape).toEqual([0]);
    expect(module('1').fields.get('kW')).toBe(3);
  });

  it('follows strides and the first element', () => {
    const file = writeT7({ tensor: 'Float', shape: [2, 2], strides: [1, 2], first: 1, storage: [0, 1, 2, 3, 4] });
    expect(values(readTorch7(file) as Tensor)).toEqual([1, 3, 2, 4]);
  });

  it('a table that contains itself ends', () => {
    const loop = readTorch7(
      writeT7({
        table: [
          ['self', { again: 5, kind: 3 }],
          ['weight', tensor('Float', [1], [1])],
        ],
        number: 5,
      }),
    );
    expect([...torchTensors(loop).tensors.keys()]).toEqual(['weight']);
  });

  const file = writeT7(net);
  const int = (value: number): number[] => [...Buffer.from(Int32Array.of(value).buffer)];
  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(0), /truncated/],
    ['text', Buffer.from('4\n1\n3\nV 1\n'), /kinds of objects/],
    ['trailing bytes', Buffer.concat([file, Buffer.of(0)]), /behind the object, got 1 bytes/],
    ['kind 9', Uint8Array.from(int(9)), /0 to 8/],
    ['a text of 2 GB', Uint8Array.from([...int(2), ...int(0x7fffffff)]), /truncated/],
    ['a text of -1', Uint8Array.from([...int(2), ...int(-1)]), /has a length/],
    ['a table of 2^31 - 1', Uint8Array.from([...int(3), ...int(1), ...int(0x7fffffff)]), /truncated/],
    [
      'nesting',
      Uint8Array.from(Array.from({ length: 300 }, (_, i) => [...int(3), ...int(i), ...int(1)]).flat()),
      /200 deep/,
    ],
    ['a storage larger than the file', writeT7(tensor('Float', [1], [1])).subarray(0, -1), /truncated/],
    ['a view larger than its storage', writeT7(tensor('Float', [1000, 1000], [1])), /no more elements/],
    ['a first element of -1', writeT7(tensor('Float', [1], [1], { first: -1 })), /inside its storage/],
    ['33 dimensions', writeT7(tensor('Float', Array(33).fill(1), [1])), /32 dimensions/],
    [
      'an unknown tensor',
      Buffer.from(
        Buffer.from(writeT7(tensor('Float', [1], [1])))
          .toString('latin1')
          .replace('FloatTensor', 'FloydTensor'),
        'latin1',
      ),
      /tensors of/,
    ],
    [
      'a class without fields',
      Uint8Array.from([
        ...int(4),
        ...int(1),
        ...int(3),
        ...Buffer.from('V 1'),
        ...int(1),
        ...Buffer.from('x'),
        ...int(0),
      ]),
      /table of the fields/,
    ],
  ])('refuses %s', (_what, bytes, rule) => {
    const error = refusal(() => readTorch7(bytes));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
  });

  it('refuses every file cut short', () => {
    for (let length = 0; length < file.length; length++)
      expect(refusal(() => readTorch7(file.subarray(0, length))).code).toBe('model');
  });
});

describe('Keras-OpenFace CSV', () => {
  const files = (entries: Record<string, string>): Map<string, Uint8Array> =>
    new Map(Object.entries(entries).map(([name, text]) => [name, Buffer.from(text)]));
  it('reads values in any layout of lines, with shapes given', () => {
    const tensors = readKerasCsv(
      files({ 'conv1_w.csv': '1,2.5e-1\n-3.0,.5\r\n', 'conv1_b.csv': '7', 'README.md': 'x', 'none.csv': '' }),
      new Map([['conv1_w', [2, 1, 1, 2]]]),
    );
    expect([...tensors].map(([name, t]) => [name, t.shape, values(t)])).toEqual([
      ['conv1_w', [2, 1, 1, 2], [1, 0.25, -3, 0.5]],
      ['conv1_b', [1], [7]],
      ['none', [0], []],
    ]);
  });
  it.each([
    ['nan', /finite numbers, got "nan"/],
    ['1e999', /finite/],
    ['1;2', /"1;2"/],
    ['0x10', /finite/],
    ['1,2,3', /4 values for \[4\], got 3/],
    ['1'.repeat(50), /long text/],
    ['<html>', /finite/],
  ])('refuses %s', (text, rule) => {
    const error = refusal(() => readKerasCsv(files({ 'a.csv': text }), new Map([['a', [4]]])));
    expect(error.code).toBe('model');
    expect(error.message).toMatch(rule);
    expect(error.message).toMatch(/^csv\/a\.csv: /);
  });
});

const sharedFolder = `${process.env.FACENET_SHARED ?? '../shared'}/data/weights`;
if (!existsSync(sharedFolder))
  console.warn(`SKIPPED: weights of MTCNN and OpenFace, because ${sharedFolder} is not there (set FACENET_SHARED).`);
describe.skipIf(!existsSync(sharedFolder))('real foreign names', () => {
  it('OpenFace: 32 of 37 kernels, and channels last', () => {
    const { tensors } = readSafetensors(readFileSync(`${sharedFolder}/openface-nn4.small2.v1-partial.safetensors`));
    const kernel = tensors.get('conv1_w') as Tensor;
    expect(kernel.shape).toEqual([64, 3, 7, 7]);
    const turned = channelsLast(kernel);
    expect(turned.shape).toEqual([7, 7, 3, 64]);
    for (const [o, i, y, x] of [
      [0, 0, 0, 0],
      [63, 2, 6, 6],
      [17, 1, 3, 5],
    ] as const) {
      expect(turned.data[((y * 7 + x) * 3 + i) * 64 + o]).toBe(kernel.data[((o * 3 + i) * 7 + y) * 7 + x]);
    }
  });
});
