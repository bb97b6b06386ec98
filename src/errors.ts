/** What went wrong, for programs. A code never changes its meaning within a major version. */
export type FaceNetErrorCode =
  | 'input'
  | 'image'
  | 'no-face'
  | 'model'
  | 'mismatch'
  | 'not-calibrated'
  | 'device'
  | 'device-lost'
  | 'memory'
  | 'queue-full'
  | 'store'
  | 'disposed'
  | 'aborted'
  | 'internal';

/**
 * Thrown by everything in this library. The text reads "subject: rule, got value. remedy.";
 * `code` is for programs, `index` is the position of the offending item where there were several.
 */
export class FaceNetError extends Error {
  override readonly name = 'FaceNetError';
  readonly code: FaceNetErrorCode;
  readonly index?: number;

  constructor(code: FaceNetErrorCode, message: string, options: { cause?: unknown; index?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.index !== undefined) this.index = options.index;
  }
}
