import { describe, expect, test } from 'vitest';
import { Philox, philox4x32 } from '../src/graph/philox.ts';

describe('Philox4x32-10', () => {
  // kat_vectors of Random123, the authors' library.
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])('published vector %#', (counter, key, expected) => {
    expect(philox4x32(counter, key)).toEqual(expected);
  });

  test('words come in the order of the counter, streams differ', () => {
    const generator = new Philox(2 ** 32 * 7 + 5, 3);
    const words = Array.from({ length: 8 }, () => generator.uint32());
    expect(words).toEqual([...philox4x32([0, 0, 3, 0], [5, 7]), ...philox4x32([1, 0, 3, 0], [5, 7])]);
    expect(new Philox(5, 4).uint32()).not.toBe(new Philox(5, 3).uint32());
  });

  test('goes on from a state after any number of words', () => {
    for (let k = 0; k < 10; k++) {
      const whole = new Philox(11);
      for (let i = 0; i < k; i++) whole.uint32();
      const resumed = Philox.from(JSON.parse(JSON.stringify(whole.state)));
      const next = Array.from({ length: 9 }, () => whole.uint32());
      expect(Array.from({ length: 9 }, () => resumed.uint32())).toEqual(next);
    }
  });

  test('uniform: on the grid of 2^-24, mean and variance of a uniform law', () => {
    const generator = new Philox(1);
    let sum = 0;
    let squares = 0;
    let onGrid = 0;
    for (let i = 0; i < 100_000; i++) {
      const u = generator.uniform();
      if (u >= 0 && u < 1 && Number.isInteger(u * 2 ** 24)) onGrid++;
      sum += u;
      squares += (u - 0.5) ** 2;
    }
    expect(onGrid).toBe(100_000);
    expect(Math.abs(sum / 100_000 - 0.5)).toBeLessThan(5 / Math.sqrt(12 * 100_000));
    expect(squares / 100_000).toBeCloseTo(1 / 12, 2);
  });

  test('below and shuffle: every value, equally often', () => {
    const generator = new Philox(2);
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[generator.below(7)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    expect(generator.shuffle([0, 1, 2, 3, 4, 5, 6, 7]).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const orders = new Set<string>();
    for (let i = 0; i < 200; i++) orders.add(generator.shuffle(['a', 'b', 'c']).join(''));
    expect(orders.size).toBe(6);
    expect(generator.below(4294967296)).toBeLessThan(4294967296);
  });

  test('seeds, streams, ranges and states that are none are refused', () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => new Philox(seed)).toThrow(/seed/);
    expect(() => new Philox(1, -1)).toThrow(/stream/);
    for (const n of [0, -3, 1.5, 2 ** 33]) expect(() => new Philox(1).below(n)).toThrow(/below/);
    expect(() => Philox.from({ key: [1, 0], stream: 0, block: -1, used: 0 })).toThrow(/damaged/);
  });
});
