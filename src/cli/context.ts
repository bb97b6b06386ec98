import type { Readable } from 'node:stream';
import { type CreateOptions, FaceNetGPU } from '../node.ts';
import { Detection, type DetectionFlags } from './detection.ts';
import { type FaceList, readFaceList } from './face-list.ts';
import type { ReadingOptions } from './face-reader.ts';
import type { Terminal } from './terminal.ts';

/** Options before or behind the command, as commander gives them. */
export interface GlobalOptions {
  readonly model: string;
  readonly backend: 'auto' | 'webgpu' | 'wasm';
  readonly threads?: number;
  readonly batch?: number;
  readonly precision?: 'f32' | 'f16';
  readonly tune?: boolean;
}

/** Options of the commands that read photos. */
export interface PhotoOptions extends DetectionFlags {
  readonly landmarks?: string;
  readonly aligned?: boolean;
  readonly decoder?: 'exact' | 'sharp';
  readonly skipBad?: boolean;
}

/** What a command works with. */
export class Context {
  readonly terminal: Terminal;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  readonly stdin: Readable;
  readonly #options: GlobalOptions;
  #detection: Detection | undefined;

  constructor(options: GlobalOptions, terminal: Terminal, signal: AbortSignal, stdin: Readable) {
    this.#options = options;
    this.terminal = terminal;
    this.signal = signal;
    this.stdin = stdin;
  }

  /** What --model says. */
  get modelName(): string {
    return this.#options.model;
  }

  /** What --batch says. */
  get batch(): number | undefined {
    return this.#options.batch;
  }

  /** What the options say about the device. */
  get computing(): Pick<CreateOptions, 'backend' | 'threads'> {
    const { backend, threads } = this.#options;
    return { backend, ...(threads !== undefined && { threads }) };
  }

  /** What --precision says. */
  get precision(): 'f32' | 'f16' {
    return this.#options.precision ?? 'f32';
  }

  /** Opens the model (default: that of --model), calls `use`, and disposes of the model whatever happens. */
  async withModel<T>(
    use: (net: FaceNetGPU) => Promise<T>,
    model: CreateOptions['model'] = this.#options.model,
  ): Promise<T> {
    const { backend, threads, batch, precision, tune } = this.#options;
    const options: CreateOptions = {
      model,
      backend,
      signal: this.signal,
      ...(threads !== undefined && { threads }),
      ...(batch !== undefined && { batchSize: batch }),
      ...(precision !== undefined && { precision }),
      ...(tune && { tune }),
    };
    const net = await FaceNetGPU.create(options);
    try {
      return await use(net);
    } finally {
      await this.#detection?.close();
      await net.dispose();
    }
  }

  /** What finds faces; withModel() closes it before the model whose device it may share. */
  detection(flags: DetectionFlags): Detection {
    this.#detection = new Detection(flags, { ...this.computing, signal: this.signal });
    return this.#detection;
  }

  /** How photos are read, by the options of the command. */
  async reading({
    landmarks,
    aligned = false,
    decoder,
    skipBad = false,
    ...flags
  }: PhotoOptions): Promise<ReadingOptions> {
    const list: FaceList | undefined = landmarks === undefined ? undefined : await readFaceList(landmarks);
    const detection = flags.detect || flags.detector !== undefined ? this.detection(flags) : undefined;
    return { aligned, skipBad, ...(list && { list }), ...(detection && { detection }), ...(decoder && { decoder }) };
  }
}

/** Numbers of a vector with the nine digits that bring a float32 back. */
export function digits(vector: Float32Array): number[] {
  return Array.from(vector, (value) => Number(value.toPrecision(9)));
}
