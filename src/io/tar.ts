import { FaceNetError } from '../errors.ts';

/** A file in a tar archive. */
export interface TarEntry {
  readonly path: string;
  /** Where its bytes begin in the archive, and how many there are. */
  readonly offset: number;
  readonly bytes: number;
}

const BLOCK = 512;
/** Longest name of an extended header that is read. */
const LONGEST_NAME = 65_536;
const text = new TextDecoder();

/**
 * The files of a tar archive (POSIX ustar and pax, GNU long names), without their bytes: links, folders and devices are left out. `read`
 * gives bytes of the archive, fewer where it ends.
 * @throws FaceNetError 'input' for what is no tar archive, a damaged header, or an archive that ends inside a file.
 */
export async function* tarEntries(
  read: (offset: number, bytes: number) => Promise<Uint8Array>,
  length: number,
  source: string,
): AsyncGenerator<TarEntry> {
  let longName: string | undefined;
  for (let at = 0; at < length; ) {
    const header = await read(at, BLOCK);
    if (header.length === BLOCK && header.every((byte) => byte === 0)) return;
    if (at === 0 && header[0] === 0x1f && header[1] === 0x8b)
      throw new FaceNetError('input', `${source}: a tar archive that is not compressed, got gzip. Unpack it first.`);
    if (header.length < BLOCK || !checksumHolds(header)) {
      throw new FaceNetError(
        'input',
        `${source}: a tar archive has a whole header at byte ${at}, got ${at === 0 ? 'another format' : 'damaged bytes'}.`,
      );
    }
    const bytes = numberAt(header, 124, 12);
    const end = at + BLOCK + bytes;
    if (!(Number.isSafeInteger(bytes) && bytes >= 0 && end <= length)) {
      throw new FaceNetError(
        'input',
        `${source}: the archive must hold ${bytes} bytes of ${nameAt(header)} from byte ${at + BLOCK} on, got ${length - at - BLOCK}. It was cut off.`,
      );
    }
    const kind = String.fromCharCode(header[156] as number);
    if (kind === 'x' || kind === 'L') {
      if (bytes > LONGEST_NAME)
        throw new FaceNetError('input', `${source}: names may have ${LONGEST_NAME} bytes, got ${bytes}.`);
      const body = text.decode(await read(at + BLOCK, bytes));
      longName = kind === 'L' ? body.replace(/\0+$/, '') : (paxPath(body) ?? longName);
    } else {
      if (kind === '0' || kind === '\0' || kind === '7')
        yield { path: longName ?? nameAt(header), offset: at + BLOCK, bytes };
      if (kind !== 'g') longName = undefined;
    }
    at = Math.ceil(end / BLOCK) * BLOCK;
  }
}

function checksumHolds(header: Uint8Array): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : (header[i] as number);
  return sum === numberAt(header, 148, 8);
}

/** An octal number, or a big-endian one where the first bit is set. */
function numberAt(header: Uint8Array, start: number, length: number): number {
  const field = header.subarray(start, start + length);
  if (((field[0] as number) & 0x80) !== 0)
    return field.reduce((value, byte, i) => value * 256 + (i === 0 ? byte & 0x7f : byte), 0);
  const digits = stringAt(header, start, length).trim();
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

function stringAt(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return text.decode(end < 0 ? field : field.subarray(0, end));
}

function nameAt(header: Uint8Array): string {
  const prefix = stringAt(header, 257, 5) === 'ustar' ? stringAt(header, 345, 155) : '';
  const name = stringAt(header, 0, 100);
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Records of a pax header are "length key=value\n". */
function paxPath(body: string): string | undefined {
  return /(?:^|\n)\d+ path=([^\n]*)\n/.exec(body)?.[1];
}
