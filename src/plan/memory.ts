import type { DType } from '../graph/operator.ts';
import { type Shape, size } from '../graph/shape.ts';
import type { Backend } from './runner.ts';
import type { DeviceBuffer } from './step.ts';

/** Bytes every tensor and binding starts at a multiple of. */
export const ALIGNMENT = 256;

export const align = (bytes: number, to = ALIGNMENT): number => Math.ceil(bytes / to) * to;

export const bytesPerElement = (dtype: DType): number => (dtype === 'u8' ? 1 : 4);

/** Share of the largest buffer that a tensor, or a part of one, takes at most: kernels' layouts add padding and a block of zeros. */
const PART_SHARE = 7 / 8;

/**
 * How the columns of an f32 tensor are dealt out to buffers of at most `limit` bytes: one width where it fits with room for a kernel's layout of it. Parts are as equal as
 * whole tiles allow: multiples of 64 columns, of 4 where a part has fewer. A tensor with fewer than two dimensions, or of so many rows
 * that no four columns fit, stays whole: it is refused where it is allocated.
 */
export function partWidths(shape: Shape, limit: number): number[] {
  const columns = shape[shape.length - 1] ?? 1;
  const bytes = size(shape) * 4;
  if (bytes <= PART_SHARE * limit || shape.length < 2) return [columns];
  const fits = (PART_SHARE * limit) / (bytes / columns);
  const unit = fits >= 64 ? 64 : 4;
  const most = Math.floor(fits / unit) * unit;
  if (most === 0) return [columns];
  const width = align(Math.ceil(columns / Math.ceil(columns / most)), unit);
  const widths: number[] = [];
  for (let start = 0; start < columns; start += width) widths.push(Math.min(width, columns - start));
  return widths;
}

interface Slot {
  bytes: number;
  freeFrom: number;
  buffer?: DeviceBuffer;
}

/** A place for one tensor: which slot; the buffer exists once the layout is committed. */
export interface Placement {
  readonly slot: number;
}

/**
 * Memory by lifetime: tensors whose lives do not meet share a slot. Slots are separate buffers, since WebGPU refuses one
 * buffer read and written in the same dispatch. Requests come in order of the step that first writes the tensor.
 */
export class Lifetimes {
  readonly #slots: Slot[] = [];

  /** Reserves `bytes` from step `first` to step `last` (both inclusive). */
  place(bytes: number, first: number, last: number): Placement {
    const need = align(bytes);
    let best = -1;
    for (let i = 0; i < this.#slots.length; i++) {
      const slot = this.#slots[i] as Slot;
      if (slot.freeFrom > first) continue;
      const chosen = this.#slots[best];
      if (!chosen || better(slot.bytes, chosen.bytes, need)) best = i;
    }
    if (best < 0) best = this.#slots.push({ bytes: 0, freeFrom: 0 }) - 1;
    const slot = this.#slots[best] as Slot;
    slot.bytes = Math.max(slot.bytes, need);
    slot.freeFrom = last + 1;
    return { slot: best };
  }

  /** Bytes of all slots: what `commit` will allocate. */
  get bytes(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.bytes, 0);
  }

  commit(backend: Backend, label: string): DeviceBuffer[] {
    const made: DeviceBuffer[] = [];
    try {
      for (const [i, slot] of this.#slots.entries()) made.push(backend.allocate(slot.bytes, `${label} slot ${i}`));
      return made;
    } catch (error) {
      for (const buffer of made) backend.free(buffer);
      throw error;
    }
  }
}

/** The smallest slot that is large enough, else the largest there is. */
function better(candidate: number, chosen: number, need: number): boolean {
  if (candidate >= need) return chosen < need || candidate < chosen;
  return chosen < need && candidate > chosen;
}
