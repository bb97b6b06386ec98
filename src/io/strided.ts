/** Elements of foreign files (float64, bfloat16, either byte order, any strides) to tensors of ours. */
import { FaceNetError } from '../errors.ts';
import { quoteName, type Tensor, type TensorType, viewTensor } from './safetensors.ts';

/** How elements lie in a foreign file. F64 and BF16 become F32, BOOL becomes U8. */
export type ForeignType = TensorType | 'F64' | 'BF16' | 'BOOL';

/** Where a foreign tensor lies in its storage. Sizes, strides and offset are in elements, strides may be 0 or negative. */
export interface StridedView {
  readonly type: ForeignType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
  readonly bigEndian?: boolean;
}

const BYTES: Readonly<Record<ForeignType, number>> = {
  F64: 8,
  BF16: 2,
  BOOL: 1,
  F32: 4,
  F16: 2,
  U8: 1,
  I8: 1,
  I32: 4,
  I64: 8,
};

/** Bytes of one element. */
export function foreignBytes(type: ForeignType): number {
  return BYTES[type];
}

/** Strides of a dense tensor: row-major, or column-major. */
export function denseStrides(shape: readonly number[], columnMajor = false): number[] {
  const strides = shape.map(() => 1);
  let step = 1;
  for (let i = 0; i < shape.length; i++) {
    const axis = columnMajor ? i : shape.length - 1 - i;
    strides[axis] = step;
    step *= Math.max(shape[axis] as number, 1);
  }
  return strides;
}

/**
 * A row-major copy of a view. Nothing is allocated before the view is known to lie inside `storage`, and a view never has more elements than its
 * storage: a small file cannot ask for much.
 * @throws FaceNetError 'model' for a view that does not fit.
 */
export function gather(storage: Uint8Array, view: StridedView, name: string, source: string): Tensor {
  const { type, shape, strides, offset, bigEndian = false } = view;
  const refuse = (rule: string, got: string): FaceNetError =>
    new FaceNetError('model', `${source}: ${rule}, got ${got} in ${quoteName(name)}. Get the file again.`);
  const size = BYTES[type];
  const available = Math.floor(storage.length / size);
  if (shape.length > 32 || strides.length !== shape.length)
    throw refuse('at most 32 sizes, each with a stride', `${shape.length} and ${strides.length}`);
  let count = 1;
  let low = offset;
  let high = offset;
  for (let i = 0; i < shape.length; i++) {
    const [extent, stride] = [shape[i] as number, strides[i] as number];
    if (!Number.isSafeInteger(extent) || extent < 0 || !Number.isSafeInteger(stride))
      throw refuse('sizes and strides are whole numbers', `${extent}, ${stride}`);
    count *= extent;
    if (extent > 1) [low, high] = [low + Math.min(0, (extent - 1) * stride), high + Math.max(0, (extent - 1) * stride)];
  }
  if (count === 0) return emptyTensor(type, shape);
  if (!(count <= available))
    throw refuse(`no more elements than the storage has (${available})`, `[${shape.join(', ')}]`);
  if (!(Number.isSafeInteger(offset) && low >= 0 && high < available))
    throw refuse(`a view inside its storage of ${available} elements`, `${low} to ${high}`);

  // Dense and in our byte order: one copy. (A copy, since several tensors may share a storage.)
  if (
    !bigEndian &&
    type !== 'F64' &&
    type !== 'BF16' &&
    denseStrides(shape).every((stride, i) => stride === strides[i])
  ) {
    const bytes = new Uint8Array(storage.subarray(offset * size, (offset + count) * size));
    return viewTensor(type === 'BOOL' ? 'U8' : type, shape, bytes, 0, bytes.length);
  }
  const data = new DataView(storage.buffer, storage.byteOffset, storage.byteLength);
  const little = !bigEndian;
  const { tensor, put } = target(type, shape, count);
  const place = shape.map(() => 0);
  let at = offset;
  for (let i = 0; i < count; i++) {
    put(data, at * size, little, i);
    // Counts up in row-major order.
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis] as number;
      if (++(place[axis] as number) < (shape[axis] as number)) break;
      at -= (strides[axis] as number) * (shape[axis] as number);
      place[axis] = 0;
    }
  }
  return tensor;
}

function emptyTensor(type: ForeignType, shape: readonly number[]): Tensor {
  return target(type, shape, 0).tensor;
}

type Put = (data: DataView, at: number, little: boolean, index: number) => void;

/** A tensor of zeros, and how one element is read into it. */
function target(type: ForeignType, shape: readonly number[], count: number): { tensor: Tensor; put: Put } {
  switch (type) {
    case 'F32':
    case 'F64':
    case 'BF16': {
      const values = new Float32Array(count);
      const bits = new Uint32Array(values.buffer);
      const tensor: Tensor = { dtype: 'F32', shape, data: values };
      if (type === 'F64')
        return { tensor, put: (data, at, little, i) => void (values[i] = data.getFloat64(at, little)) };
      if (type === 'BF16')
        return { tensor, put: (data, at, little, i) => void (bits[i] = data.getUint16(at, little) << 16) };
      return { tensor, put: (data, at, little, i) => void (bits[i] = data.getUint32(at, little)) };
    }
    case 'F16': {
      const patterns = new Uint16Array(count);
      return {
        tensor: { dtype: 'F16', shape, data: patterns },
        put: (data, at, little, i) => void (patterns[i] = data.getUint16(at, little)),
      };
    }
    case 'U8':
    case 'BOOL': {
      const values = new Uint8Array(count);
      return {
        tensor: { dtype: 'U8', shape, data: values },
        put: (data, at, _little, i) => void (values[i] = data.getUint8(at)),
      };
    }
    case 'I8': {
      const values = new Int8Array(count);
      return {
        tensor: { dtype: 'I8', shape, data: values },
        put: (data, at, _little, i) => void (values[i] = data.getInt8(at)),
      };
    }
    case 'I32': {
      const values = new Int32Array(count);
      return {
        tensor: { dtype: 'I32', shape, data: values },
        put: (data, at, little, i) => void (values[i] = data.getInt32(at, little)),
      };
    }
    case 'I64': {
      const values = new BigInt64Array(count);
      return {
        tensor: { dtype: 'I64', shape, data: values },
        put: (data, at, little, i) => void (values[i] = data.getBigInt64(at, little)),
      };
    }
  }
}

/**
 * Weights of PyTorch and Torch in our layout: convolutions [out, in, height, width] become [height, width, in, out], dense layers [out, in]
 * become [in, out]; all else stays.
 */
export function channelsLast(tensor: Tensor): Tensor {
  const { shape } = tensor;
  const order = shape.length === 4 ? [2, 3, 1, 0] : shape.length === 2 ? [1, 0] : undefined;
  if (order === undefined) return tensor;
  const strides = denseStrides(shape);
  const bytes = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  const turned = {
    type: tensor.dtype,
    shape: order.map((axis) => shape[axis] as number),
    strides: order.map((axis) => strides[axis] as number),
    offset: 0,
  };
  return gather(bytes, turned, 'weights', 'layout');
}
