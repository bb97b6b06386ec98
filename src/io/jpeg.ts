/**
 * JPEG by libjpeg-turbo, compiled to WebAssembly (the .wasm of the package @cwasm/jpeg-turbo 0.1.3; this loader is ours). The same file in
 * every runtime gives the same bits: bit-equal with sharp and Chromium on the files compared. Damaged files run in a sandbox: the instance
 * is thrown away after every error.
 */
import { FaceNetError } from '../errors.ts';
import { type Orientation, readOrientation } from './exif.ts';

/** What a JPEG says before its pixels. */
export interface JpegHeader {
  readonly width: number;
  readonly height: number;
  /** 1 grey, 3 colour, 4 CMYK or YCCK. */
  readonly components: number;
  readonly orientation: Orientation;
  /** Number of scans; more than one in progressive and some sequential files. */
  readonly scans: number;
  /** False where the end-of-image marker is missing. */
  readonly complete: boolean;
}

interface TurboExports {
  readonly memory: WebAssembly.Memory;
  malloc(bytes: number): number;
  free(pointer: number): void;
  tjInitDecompress(): number;
  tjDestroy(handle: number): number;
  tjDecompressHeader3(
    handle: number,
    jpeg: number,
    bytes: number,
    width: number,
    height: number,
    subsampling: number,
    colourspace: number,
  ): number;
  tjDecompress2(
    handle: number,
    jpeg: number,
    bytes: number,
    to: number,
    width: number,
    pitch: number,
    height: number,
    format: number,
    flags: number,
  ): number;
}

/** TurboJPEG's TJPF_RGBA: alpha is written as 255. */
const RGBA = 7;
/** An instance whose memory has grown beyond this is not kept: WebAssembly memory never shrinks. */
const KEEP_BYTES = 64 << 20;
/** Time grows with scans x pixels; ordinary progressive files have about ten. */
const MAX_SCANS = 100;

/** True where the bytes begin as a JPEG does. */
export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/**
 * Walks the markers, without decoding.
 * @throws FaceNetError 'image' when there is no frame, or one that cannot be decoded here (CMYK, 12 bits, lossless).
 */
export function readJpegHeader(bytes: Uint8Array, source: string): JpegHeader {
  const refuse = (rule: string, got: string, remedy = 'Get the file again or save it anew'): FaceNetError =>
    new FaceNetError('image', `${source}: ${rule}, got ${got}. ${remedy}.`);
  let frame: { width: number; height: number; components: number } | undefined;
  let orientation: Orientation | undefined;
  let scans = 0;
  let complete = false;
  for (let at = 2; ; ) {
    // Entropy-coded data hold 0xff only before 0x00 and restart markers, so the next other pair is a marker.
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) break;
    const marker = bytes[at + 1] as number;
    if (marker === 0xd9) {
      complete = true;
      break;
    }
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0x00 || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    if (at + 4 > bytes.length) break;
    const length = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
    const content = bytes.subarray(at + 4, at + 2 + length);
    if (length < 2 || at + 2 + length > bytes.length) break;
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      if (frame !== undefined) throw refuse('a JPEG has one frame', 'two');
      if (content.length < 6) throw refuse('a JPEG frame names its size', `${content.length} bytes`);
      const [precision, h1, h0, w1, w0, components] = content as unknown as [
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      frame = { height: (h1 << 8) | h0, width: (w1 << 8) | w0, components };
      if (frame.width === 0 || frame.height === 0)
        throw refuse('a JPEG has at least one pixel', `${frame.width} x ${frame.height}`);
      if (components === 4)
        throw refuse('colours are grey, YCbCr or RGB', 'CMYK', 'Install sharp (npm i sharp) or convert it to RGB');
      if (components !== 1 && components !== 3) throw refuse('a JPEG has 1 or 3 components', `${components}`);
      if (precision !== 8 || marker === 0xc3 || (marker >= 0xc5 && marker !== 0xc9 && marker !== 0xca)) {
        throw refuse(
          'JPEG of 8 bits, sequential or progressive',
          `${precision} bits, process ${marker - 0xc0}`,
          'Convert it',
        );
      }
    } else if (marker === 0xe1 && orientation === undefined && isExif(content)) {
      orientation = readOrientation(content.subarray(6));
    } else if (marker === 0xda && ++scans > MAX_SCANS) {
      throw refuse(`at most ${MAX_SCANS} scans`, 'more', 'Save it anew');
    }
    at += 2 + length;
  }
  if (frame === undefined)
    throw refuse(complete ? 'a JPEG has a frame' : 'truncated JPEG: it ends before its frame', `${bytes.length} bytes`);
  return { ...frame, orientation: orientation ?? 1, scans, complete };
}

/** Number of colour components of the frame, or undefined where none is found: 4 is CMYK. Refuses nothing. */
export function readJpegComponents(bytes: Uint8Array): number | undefined {
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1] as number;
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) return bytes[at + 9];
    at += 2 + (((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number));
  }
  return undefined;
}

function isExif(content: Uint8Array): boolean {
  return (
    content[0] === 0x45 &&
    content[1] === 0x78 &&
    content[2] === 0x69 &&
    content[3] === 0x66 &&
    content[4] === 0 &&
    content[5] === 0
  );
}

/**
 * Decodes JPEG files, one after another. Keeps a compiled module and an instance of up to 64 MB; needs no end.
 */
export class JpegDecoder {
  readonly #module: WebAssembly.Module;
  #instance: TurboExports | undefined;

  /** @param module jpeg-turbo.wasm, compiled: `WebAssembly.compile(bytes)`. */
  constructor(module: WebAssembly.Module) {
    this.#module = module;
  }

  /**
   * Pixels as stored (not turned), RGBA, alpha 255; colour profiles are ignored. The caller has checked width x height.
   * @throws FaceNetError 'image' for truncated and damaged files, also where libjpeg-turbo merely warns; 'memory' when it has no room.
   */
  decode(
    bytes: Uint8Array,
    source: string,
  ): { data: Uint8Array; width: number; height: number; orientation: Orientation } {
    const header = readJpegHeader(bytes, source);
    const { width, height, orientation } = header;
    const damaged = (cause?: unknown): FaceNetError =>
      new FaceNetError(
        'image',
        `${source}: ${header.complete ? 'JPEG data are valid, got damaged ones' : 'truncated JPEG: it ends in an end-of-image marker, got none'}. Get the file again.`,
        { cause },
      );
    if (!header.complete) throw damaged();
    const noRoom = (bytesAsked: number): FaceNetError =>
      new FaceNetError('memory', `${source}: a JPEG needs ${bytesAsked} bytes, got none. Lower maxPixels.`);

    const turbo = this.#instance ?? this.#start();
    // Until this decode has ended well the instance is not trusted with another.
    this.#instance = undefined;
    let data: Uint8Array;
    try {
      const input = turbo.malloc(bytes.length);
      if (input === 0) throw noRoom(bytes.length);
      new Uint8Array(turbo.memory.buffer, input, bytes.length).set(bytes);
      const handle = turbo.tjInitDecompress();
      const fields = turbo.malloc(16);
      if (handle === 0 || fields === 0) throw noRoom(16);
      if (turbo.tjDecompressHeader3(handle, input, bytes.length, fields, fields + 4, fields + 8, fields + 12) !== 0)
        throw damaged();
      // Two readers of one header must agree before memory is sized by it.
      const [foundWidth, foundHeight] = new Int32Array(turbo.memory.buffer, fields, 2);
      if (foundWidth !== width || foundHeight !== height) throw damaged();
      const size = width * height * 4;
      const output = turbo.malloc(size);
      if (output === 0) throw noRoom(size);
      if (turbo.tjDecompress2(handle, input, bytes.length, output, width, width * 4, height, RGBA, 0) !== 0)
        throw damaged();
      // The memory may have grown while decoding: a view taken earlier would be empty.
      data = new Uint8Array(turbo.memory.buffer.slice(output, output + size));
      turbo.free(output);
      turbo.free(fields);
      turbo.tjDestroy(handle);
      turbo.free(input);
    } catch (cause) {
      if (cause instanceof FaceNetError) throw cause;
      throw damaged(cause);
    }
    if (turbo.memory.buffer.byteLength <= KEEP_BYTES) this.#instance = turbo;
    return { data, width, height, orientation };
  }

  /** A fresh instance. libjpeg leaves by longjmp on errors: here that is an exception, and the instance goes with it. */
  #start(): TurboExports {
    const leave = (): never => {
      throw new Error('libjpeg-turbo gave up');
    };
    const imports = {
      env: { setjmp: () => 0, longjmp: leave },
      wasi_snapshot_preview1: {
        environ_sizes_get: () => 0,
        environ_get: leave,
        proc_exit: leave,
        fd_close: leave,
        fd_seek: leave,
        fd_write: leave,
      },
    };
    return new WebAssembly.Instance(this.#module, imports).exports as unknown as TurboExports;
  }
}
