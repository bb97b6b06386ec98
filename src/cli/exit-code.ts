import { FaceNetError, type FaceNetErrorCode } from '../errors.ts';

/** What the command's exit codes mean; part of its interface. */
export const exitCodes = {
  /** Done; of decisions: same, known. */
  done: 0,
  /** A decision: different, unknown. */
  different: 1,
  usage: 2,
  /** Unreadable image, no face, bad list of pairs. */
  input: 3,
  /** Model or gallery: wrong, corrupt, not calibrated. */
  model: 4,
  /** No usable backend, device lost, out of memory. */
  device: 5,
  /** Finished, but items were left out (--skip-bad). */
  skipped: 6,
  internal: 70,
  /** Ctrl-C. */
  interrupted: 130,
} as const;

const byErrorCode: Readonly<Record<FaceNetErrorCode, number>> = {
  input: exitCodes.input,
  image: exitCodes.input,
  'no-face': exitCodes.input,
  model: exitCodes.model,
  mismatch: exitCodes.model,
  'not-calibrated': exitCodes.model,
  store: exitCodes.model,
  device: exitCodes.device,
  'device-lost': exitCodes.device,
  memory: exitCodes.device,
  'queue-full': exitCodes.device,
  disposed: exitCodes.internal,
  aborted: exitCodes.interrupted,
  internal: exitCodes.internal,
};

/** The exit code of a failure; 70 for everything that is not a FaceNetError. */
export function exitCodeOf(error: unknown): number {
  return error instanceof FaceNetError ? byErrorCode[error.code] : exitCodes.internal;
}
