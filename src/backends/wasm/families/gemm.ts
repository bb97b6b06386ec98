// Sizes that the kernels of asm/gemm.ts and asm/direct.ts rely on. Each formula has its twin there.
import type { WasmAdapter } from '../wasm-backend.ts';

/** Columns of a packed matrix: panels of 12 and 8 with fused multiply-add, of 8 without (asm/gemm.ts, `packedColumns`). */
export function packedColumns(columns: number, { relaxed }: WasmAdapter): number {
  return relaxed ? Math.max(8, roundUp(columns, 4)) : roundUp(columns, 8);
}

/** Floats of the table of `rows` rows and of what the last panel needs (asm/gemm.ts, `tableFloats`). */
export function tableFloats(rows: number): number {
  return (rows + 3) * 3 + 208;
}

export const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Floats in a cache line: parts of scratch that different threads write start at multiples of it. */
export const LINE = 16;

/** A convolution as the kernels walk it: output lines of pixels, and what each reads. */
export interface Walk {
  readonly batch: number;
  /** Output lines of one image, and pixels of a line. */
  readonly lines: number;
  readonly pixels: number;
  /** Input lines from one output line to the next, and input lines that one output line reads. */
  readonly step: number;
  readonly reach: number;
  /** Floats of one line of the band: pixels of the padded input x channels. */
  readonly lineFloats: number;
  /** Whether the kernel may have to copy its input (padding, or pixels that are not contiguous). */
  readonly copies: boolean;
}

/** How many bytes of input a block of output pixels should read: it stays in a core's second cache while all panels pass. */
const BLOCK_BYTES = 256 * 1024;

/** Numbers that a kernel with bands takes, and the floats of scratch of all threads. None but the last depends on the batch. */
export function bands(
  walk: Walk,
  { threads }: WasmAdapter,
): { params: { blockPixels: number; bandStart: number; threadFloats: number }; floats: number } {
  const { batch, lines, pixels, step, reach, lineFloats, copies } = walk;
  const bytesPerPixel = (step * lineFloats * 4) / pixels;
  const blockPixels = Math.max(48, Math.min(1008, Math.floor(BLOCK_BYTES / bytesPerPixel / 12) * 12));
  // A block of n pixels touches at most (n - 2) / pixels + 2 lines, and lines touch images likewise.
  const mostLines = Math.min(Math.floor((blockPixels - 2) / pixels) + 2, batch * lines);
  const mostImages = Math.min(Math.floor(Math.max(0, mostLines - 2) / lines) + 2, batch);
  const band = copies ? (mostLines * step + mostImages * Math.max(0, reach - step)) * lineFloats : 0;
  const bandStart = roundUp(tableFloats(blockPixels), LINE);
  const threadFloats = bandStart + roundUp(band, LINE);
  return { params: { blockPixels, bandStart, threadFloats }, floats: threads * threadFloats };
}
