/**
 * Folders of CSV files as Keras-OpenFace keeps the weights of nn4.small2.v1: one file a tensor, named LAYER_w.csv, LAYER_b.csv (batch norm also
 * _m, _v), values in Torch's row-major order. The files do not say their shapes: whoever knows the network gives them.
 */
import { FaceNetError } from '../errors.ts';
import { quoteName, type Tensor } from './safetensors.ts';

/** Longest text of one number. */
const MAX_NUMBER = 40;

/**
 * Reads the files of a folder.
 * @param files content by file name; names that do not end in .csv are left out.
 * @param shapes sizes by tensor name (the file name without .csv), in Torch's order: convolutions [out, in, height, width], dense [out, in].
 *   A tensor without an entry has the shape [number of values].
 * @returns F32 tensors by name, as stored (see `channelsLast`).
 * @throws FaceNetError 'model' for a value that is no finite number, and for a number of values that does not fit its shape.
 */
export function readKerasCsv(
  files: ReadonlyMap<string, Uint8Array>,
  shapes: ReadonlyMap<string, readonly number[]> = new Map(),
  source = 'csv',
): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [file, bytes] of files) {
    if (!file.endsWith('.csv')) continue;
    const name = file.slice(0, -4);
    const values = parseNumbers(bytes, `${source}/${file}`);
    const shape = shapes.get(name) ?? [values.length];
    const count = shape.reduce((product, size) => product * size, 1);
    if (count !== values.length) {
      throw new FaceNetError(
        'model',
        `${source}/${file}: ${count} values for [${shape.join(', ')}], got ${values.length}. Get the file again.`,
      );
    }
    tensors.set(name, { dtype: 'F32', shape: [...shape], data: values });
  }
  return tensors;
}

/** Numbers separated by commas, blanks or line ends. At most one value for every two bytes: the array is bounded by the file. */
function parseNumbers(bytes: Uint8Array, source: string): Float32Array {
  const values = new Float32Array((bytes.length + 1) >> 1);
  let count = 0;
  let start = -1;
  for (let at = 0; at <= bytes.length; at++) {
    const code = at < bytes.length ? (bytes[at] as number) : 0x2c;
    const separator = code === 0x2c || code === 0x0a || code === 0x0d || code === 0x20 || code === 0x09;
    if (!separator) {
      if (start < 0) start = at;
      continue;
    }
    if (start < 0) continue;
    const text = at - start > MAX_NUMBER ? '' : String.fromCharCode(...bytes.subarray(start, at));
    const value = /^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$/.test(text)
      ? Math.fround(Number(text))
      : Number.NaN;
    if (!Number.isFinite(value)) {
      throw new FaceNetError(
        'model',
        `${source}: finite numbers, got ${quoteName(text === '' ? 'a long text' : text)} at byte ${start}. Get the file again.`,
      );
    }
    values[count++] = value;
    start = -1;
  }
  return values.slice(0, count);
}
