import type { Writable } from 'node:stream';
import { styleText } from 'node:util';
import { SingleBar } from 'cli-progress';
import { FaceNetError } from '../errors.ts';

/** Where the command writes. Standard output gets the answer and nothing else. */
export interface Streams {
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** How it writes. */
export interface OutputOptions {
  /** 'text' for people, 'json' one document, 'jsonl' one line per item as soon as it is ready. */
  readonly format: 'text' | 'json' | 'jsonl';
  /** No progress, warnings and timings. */
  readonly quiet: boolean;
  /** False: no colours, whatever the terminal can show. */
  readonly colour: boolean;
}

/** A running count on standard error. */
export interface Counter {
  update(done: number): void;
  stop(): void;
}

type Style = Parameters<typeof styleText>[0];

/** Answers on standard output; progress, warnings, timings and errors on standard error. */
export class Terminal {
  readonly format: OutputOptions['format'];
  /** Whether a person reads the answer. */
  readonly interactive: boolean;

  readonly #streams: Streams;
  readonly #quiet: boolean;
  readonly #coloured: boolean;
  #bar: SingleBar | undefined;

  constructor(streams: Streams, options: OutputOptions) {
    this.#streams = streams;
    this.format = options.format;
    this.interactive = streams.stdout.isTTY === true;
    this.#quiet = options.quiet;
    this.#coloured = options.colour && this.interactive;
  }

  /** A part of the answer, for people. */
  text(text: string): void {
    this.#streams.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  }

  /** The answer as one document, indented for people who look at it. */
  document(value: object): void {
    this.text(JSON.stringify(value, undefined, this.interactive ? 2 : undefined));
  }

  /** One item of the answer. */
  line(value: object): void {
    this.text(JSON.stringify(value));
  }

  /** Coloured text where the answer is read by a person; the text itself elsewhere. */
  style(style: Style, text: string): string {
    // Whether colours are wanted is decided already, for the stream that is written to.
    return this.#coloured ? styleText(style, text, { validateStream: false }) : text;
  }

  /** A remark, such as a timing. */
  note(text: string): void {
    if (!this.#quiet) this.#stderr(`${text}\n`);
  }

  warn(text: string): void {
    if (!this.#quiet) this.#stderr(`facenet: warning: ${text}\n`);
  }

  /** Says what went wrong: as text on standard error, and where JSON was asked for as part of the answer. */
  fail(error: unknown): void {
    const known = error instanceof FaceNetError;
    const text = known ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#stderr(known ? `facenet: ${text}\n` : `facenet: internal error, please report it.\n${text}\n`);
    if (this.format !== 'text') this.line({ schema: 'facenet/error@1', error: errorObject(error) });
  }

  /** A bar while people wait; nothing where standard error is no terminal. */
  counter(label: string, total: number): Counter {
    if (this.#quiet || this.#streams.stderr.isTTY !== true || total < 2) return { update: () => {}, stop: () => {} };
    const format = `${label} {bar} {value}/{total}  {eta_formatted}`;
    const bar = new SingleBar({
      format,
      stream: this.#streams.stderr,
      clearOnComplete: true,
      hideCursor: true,
      barsize: 30,
      barCompleteChar: '=',
      barIncompleteChar: ' ',
    });
    bar.start(total, 0);
    this.#bar = bar;
    return {
      update: (done) => bar.update(done),
      stop: () => {
        bar.stop();
        this.#bar = undefined;
      },
    };
  }

  #stderr(text: string): void {
    // A line between two states of a bar would stand in the middle of it.
    if (this.#bar) this.#streams.stderr.write('\r\u001b[K');
    this.#streams.stderr.write(text);
  }
}

/** An error as JSON carries it: the API's code, its text, and which item it was. */
export function errorObject(error: unknown): { code: string; message: string; index?: number } {
  if (!(error instanceof FaceNetError)) {
    return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
  }
  return { code: error.code, message: error.message, ...(error.index !== undefined && { index: error.index }) };
}

/** What was left out, with its reason as JSON carries it. */
export function withErrorObject<T extends { readonly error: unknown }>(item: T) {
  return { ...item, error: errorObject(item.error) };
}

/** A number with what is counted: 1 group, 2 groups. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** A name or label for a line of text: control characters (line ends, tabs, escape sequences) become visible escapes, so that no name moves a cursor or starts a line. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    const code = (character.codePointAt(0) as number).toString(16);
    return `\\u{${code}}`;
  });
}

/** Rows with aligned columns: numbers (columns in `right`) to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  '),
  );
  return lines.map((line) => `${line.trimEnd()}\n`).join('');
}
