// What page and worker say to each other. A call has a number; everything that belongs to it (progress, abort, questions back, the reply)
// carries that number. A stream is a call whose values are fetched one by one.
//
//   page -> worker   call    create, or a method of the object; `values` fetches the next value of stream `args[0]`, `end` ends it
//                    abort   the call's AbortSignal fired
//                    answer  to a question of the worker
//   worker -> page   reply   value or error of a call, and the object's state where it changed
//                    progress
//                    ask     the next item of an iterable of the page's, picture i of its data set, a file of its cache
//                    lost    onDeviceLost
//
// Plain data goes by structured clone. What one side made for the other alone is transferred, not copied.
import { FaceNetError, type FaceNetErrorCode } from '../errors.ts';
import type { ModelCard, Progress } from '../facenet-gpu.ts';

/** One end of the line. */
export interface Port {
  post(message: unknown, transfer: readonly Transferable[]): void;
}

/** An error as data: structured clone would lose class and code. */
export interface ErrorData {
  readonly code: FaceNetErrorCode | undefined;
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly index: number | undefined;
  readonly cause: ErrorData | { readonly value: unknown } | undefined;
}

/** What of the object a page can see without asking. */
export interface State {
  readonly backend: 'webgpu' | 'wasm';
  readonly why: string;
  readonly dimensions: number;
  readonly fingerprint: string;
  readonly former: readonly string[];
  readonly model: ModelCard;
}

export type ToWorker =
  | { readonly call: number; readonly method: string; readonly args: readonly unknown[] }
  | { readonly abort: number; readonly reason: ErrorData }
  | { readonly answer: number; readonly value?: unknown; readonly error?: ErrorData };

export type FromWorker =
  | { readonly reply: number; readonly value?: unknown; readonly error?: ErrorData; readonly state?: State }
  | { readonly progress: number; readonly value: Progress }
  | { readonly ask: number; readonly of: number; readonly what: string; readonly args: readonly unknown[] }
  | { readonly lost: { readonly reason: string; readonly recovered: boolean } };

/** Deepest chain of causes that is told. */
const MAX_CAUSES = 8;

/** An error, or whatever else was thrown, as data. */
export function errorData(error: unknown, depth = 0): ErrorData {
  const { name = 'Error', message = String(error), stack, cause } = (error ?? {}) as Partial<Error>;
  return {
    code: error instanceof FaceNetError ? error.code : undefined,
    name,
    message,
    stack,
    index: error instanceof FaceNetError ? error.index : undefined,
    cause:
      cause === undefined || depth >= MAX_CAUSES
        ? undefined
        : cause instanceof Error || (typeof DOMException === 'function' && cause instanceof DOMException)
          ? errorData(cause, depth + 1)
          : { value: typeof cause === 'object' ? String(cause) : cause },
  };
}

/** The error that `data` tells of: a FaceNetError where it was one. */
export function errorFrom(data: ErrorData): Error {
  const { code, name, message, stack, index, cause } = data;
  const inner = cause === undefined ? undefined : 'value' in cause ? cause.value : errorFrom(cause);
  if (code !== undefined) {
    const error = new FaceNetError(code, message, {
      ...(inner !== undefined && { cause: inner }),
      ...(index !== undefined && { index }),
    });
    if (stack !== undefined) error.stack = stack;
    return error;
  }
  const error = new Error(message, inner === undefined ? undefined : { cause: inner });
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
