/**
 * The one thing we need from EXIF: which way up the picture is. Everything malformed reads as 1, upright as stored, since a
 * damaged note must not cost anybody the picture.
 */

/** EXIF orientation: how the stored image must be turned or mirrored to be upright. 1 is as stored. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

const ORIENTATION_TAG = 0x0112;
const SHORT = 3;

/**
 * Orientation in a TIFF structure (EXIF 2.3, 4.6): the content of a JPEG APP1 segment after `Exif\0\0`, or of a PNG eXIf chunk.
 * Values outside 1..8, wrong types and wrong offsets give 1.
 */
export function readOrientation(tiff: Uint8Array): Orientation {
  if (tiff.length < 14) return 1;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const order = view.getUint16(0, false);
  const little = order === 0x4949;
  if (!little && order !== 0x4d4d) return 1;
  if (view.getUint16(2, little) !== 42) return 1;
  const directory = view.getUint32(4, little);
  if (directory < 8 || directory + 2 > tiff.length) return 1;
  const entries = view.getUint16(directory, little);
  for (let i = 0; i < entries; i++) {
    const at = directory + 2 + i * 12;
    if (at + 12 > tiff.length) return 1;
    if (view.getUint16(at, little) !== ORIENTATION_TAG) continue;
    const value = view.getUint16(at + 8, little);
    const valid =
      view.getUint16(at + 2, little) === SHORT && view.getUint32(at + 4, little) === 1 && value >= 1 && value <= 8;
    return valid ? (value as Orientation) : 1;
  }
  return 1;
}

/**
 * The image turned upright. `pixels` are width x height RGBA pixels, one 32-bit word each; the result is a new array, or `pixels`
 * itself for orientation 1.
 */
export function turnUpright(
  pixels: Uint32Array,
  width: number,
  height: number,
  orientation: Orientation,
): { pixels: Uint32Array; width: number; height: number } {
  if (orientation === 1) return { pixels, width, height };
  const swapped = orientation >= 5;
  const [outWidth, outHeight] = swapped ? [height, width] : [width, height];
  const mirrored = orientation === 2 || orientation === 3 || orientation === 7 || orientation === 8;
  const flipped = orientation === 3 || orientation === 4 || orientation === 6 || orientation === 7;
  // Walk the result row by row: where in the stored image its pixel (0, 0) lies, and the steps per column and per row.
  // Without a swap a column step runs along the stored row; with one it runs down the stored column.
  const columnSign = (swapped ? flipped : mirrored) ? -1 : 1;
  const rowSign = (swapped ? mirrored : flipped) ? -1 : 1;
  const columnStep = columnSign * (swapped ? width : 1);
  const rowStep = rowSign * (swapped ? 1 : width);
  const start = (mirrored ? width - 1 : 0) + (flipped ? (height - 1) * width : 0);
  const result = new Uint32Array(pixels.length);
  let to = 0;
  for (let y = 0; y < outHeight; y++) {
    let from = start + y * rowStep;
    for (let x = 0; x < outWidth; x++, from += columnStep) result[to++] = pixels[from] as number;
  }
  return { pixels: result, width: outWidth, height: outHeight };
}
