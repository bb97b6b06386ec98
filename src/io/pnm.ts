/** Binary PGM and PPM (P5, P6), as the AT&T faces and other research sets come: 8 or 16 bits, to RGBA. */
import { FaceNetError } from '../errors.ts';

/** True where the bytes begin as a binary PGM or PPM does. */
export function isPnm(bytes: Uint8Array): boolean {
  return bytes[0] === 0x50 && (bytes[1] === 0x35 || bytes[1] === 0x36) && isSpace(bytes[2] ?? 0);
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

/** @throws FaceNetError 'image' when the three numbers are missing or out of range. */
export function readPnmHeader(
  bytes: Uint8Array,
  source: string,
): { width: number; height: number; channels: 1 | 3; maximum: number; start: number } {
  const numbers: number[] = [];
  let at = 2;
  while (numbers.length < 3) {
    while (isSpace(bytes[at] ?? 0) || bytes[at] === 0x23) {
      if (bytes[at] === 0x23) while (at < bytes.length && bytes[at] !== 0x0a) at++;
      else at++;
    }
    let value = 0;
    const first = at;
    for (; at - first < 10 && (bytes[at] ?? 0) >= 0x30 && (bytes[at] ?? 0) <= 0x39; at++)
      value = value * 10 + (bytes[at] as number) - 0x30;
    if (at === first || !isSpace(bytes[at] ?? 0))
      throw new FaceNetError(
        'image',
        `${source}: a PNM header has width, height and maximum, got ${numbers.length} numbers. Get the file again.`,
      );
    numbers.push(value);
  }
  const [width = 0, height = 0, maximum = 0] = numbers;
  if (width < 1 || height < 1 || maximum < 1 || maximum > 65535) {
    throw new FaceNetError(
      'image',
      `${source}: a PNM has pixels and a maximum of 1 to 65535, got ${width} x ${height}, ${maximum}. Save it anew.`,
    );
  }
  return { width, height, channels: bytes[1] === 0x35 ? 1 : 3, maximum, start: at + 1 };
}

/** RGBA, alpha 255; values are scaled by 255 / maximum and rounded. @throws FaceNetError 'image' when truncated. */
export function decodePnm(bytes: Uint8Array, source: string): { data: Uint8Array; width: number; height: number } {
  const { width, height, channels, maximum, start } = readPnmHeader(bytes, source);
  const sampleBytes = maximum > 255 ? 2 : 1;
  const need = width * height * channels * sampleBytes;
  if (bytes.length - start < need)
    throw new FaceNetError(
      'image',
      `${source}: truncated PNM: ${need} bytes of samples, got ${bytes.length - start}. Get the file again.`,
    );
  const data = new Uint8Array(width * height * 4);
  const sample = (index: number): number => {
    const raw =
      sampleBytes === 1
        ? (bytes[start + index] as number)
        : ((bytes[start + index * 2] as number) << 8) | (bytes[start + index * 2 + 1] as number);
    return maximum === 255 ? raw : Math.round((Math.min(raw, maximum) * 255) / maximum);
  };
  for (let i = 0, to = 0; i < width * height; i++, to += 4) {
    for (let c = 0; c < 3; c++) data[to + c] = sample(channels === 1 ? i : i * 3 + c);
    data[to + 3] = 255;
  }
  return { data, width, height };
}
