import { FaceNetError } from '../errors.ts';

/**
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four
 * pseudo-random 32-bit words from a counter of four words and a key of two. Pure integers, so the same on every machine.
 */
export function philox4x32(counter: ArrayLike<number>, key: ArrayLike<number>): [number, number, number, number] {
  let c0 = counter[0]! >>> 0;
  let c1 = counter[1]! >>> 0;
  let c2 = counter[2]! >>> 0;
  let c3 = counter[3]! >>> 0;
  let k0 = key[0]! >>> 0;
  let k1 = key[1]! >>> 0;
  for (let round = 0; round < 10; round++) {
    const high0 = highWord(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = highWord(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The upper 32 bits of a product of two unsigned 32-bit words. */
function highWord(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16); // below 2^33
  const cross = a0 * b1 + (middle % 65536); // below 2^32
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}

/** Where a generator stands: enough to go on with the same numbers. `used` words of the block at `block` are spent. */
export interface PhiloxState {
  readonly key: readonly [number, number];
  readonly stream: number;
  readonly block: number;
  readonly used: number;
}

/**
 * A sequence of random numbers. `seed` (a whole number from 0 to 2^53 - 1) is the key; different `stream`s (32 bits) of one
 * seed never overlap, so each purpose (sampling, augmentation, ...) takes its own. Words come in the order of the
 * counter [block low, block high, stream, 0].
 */
export class Philox {
  readonly #key: readonly [number, number];
  readonly #stream: number;
  #block: number;
  #used: number;
  #words: readonly number[];

  constructor(seed: number, stream = 0) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new FaceNetError('input', `seed: must be a whole number from 0 to 2^53 - 1, got ${seed}. Choose another.`);
    }
    if (!Number.isInteger(stream) || stream < 0 || stream > 0xffffffff) {
      throw new FaceNetError(
        'input',
        `random stream: must be a whole number from 0 to 2^32 - 1, got ${stream}. Choose another.`,
      );
    }
    this.#key = [seed % 4294967296, Math.floor(seed / 4294967296)];
    this.#stream = stream;
    this.#block = 0;
    this.#used = 4;
    this.#words = [];
  }

  /** Goes on where `state` was taken. */
  static from(state: PhiloxState): Philox {
    const generator = new Philox(state.key[1] * 4294967296 + state.key[0], state.stream);
    if (!Number.isSafeInteger(state.block) || state.block < 0 || ![0, 1, 2, 3, 4].includes(state.used)) {
      throw new FaceNetError(
        'input',
        `random state: must hold a block number and 0 to 4 used words, got ${state.block} and ${state.used}. The state is damaged.`,
      );
    }
    generator.#block = state.block;
    generator.#used = state.used;
    if (state.used < 4) generator.#words = generator.#fetch(state.block - 1);
    return generator;
  }

  get state(): PhiloxState {
    return { key: this.#key, stream: this.#stream, block: this.#block, used: this.#used };
  }

  /** The next 32 random bits, as an unsigned number. */
  uint32(): number {
    if (this.#used === 4) {
      this.#words = this.#fetch(this.#block++);
      this.#used = 0;
    }
    return this.#words[this.#used++]!;
  }

  /** Uniform in [0, 1) on the grid of 2^-24, exact in float32. */
  uniform(): number {
    return (this.uint32() >>> 8) * 2 ** -24;
  }

  /** A whole number from 0 to n - 1, every one equally likely (words that would favour small numbers are dropped). n up to 2^32. */
  below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 4294967296) {
      throw new FaceNetError(
        'input',
        `random number below n: n must be 1 to 2^32, got ${n}. Nothing can be drawn from an empty range.`,
      );
    }
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const word = this.uint32();
      if (word < limit) return word % n;
    }
  }

  /** Shuffles in place (Fisher-Yates from the end) and returns the same list. */
  shuffle<List extends { length: number; [index: number]: unknown }>(list: List): List {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
  }

  #fetch(block: number): readonly number[] {
    return philox4x32([block % 4294967296, Math.floor(block / 4294967296), this.#stream, 0], this.#key);
  }
}
