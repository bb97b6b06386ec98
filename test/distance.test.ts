import { describe, expect, test } from 'vitest';
import {
  checkUnitVectors,
  distanceMatrix,
  distancesToRow,
  setDistance,
  squaredDistance,
  type VectorSet,
  vectorAt,
} from '../src/faces/distance.ts';
import { Philox } from '../src/graph/philox.ts';
import gallery from './cases/gallery.json' with { type: 'json' };
import loss from './cases/loss.json' with { type: 'json' };

function randomUnit(count: number, dimensions: number, seed: number): VectorSet {
  const random = new Philox(seed);
  const data = new Float32Array(count * dimensions);
  for (let row = 0; row < count; row++) {
    const values = Array.from({ length: dimensions }, () => random.uniform() - 0.5);
    const length = Math.hypot(...values);
    values.forEach((value, i) => {
      data[row * dimensions + i] = value / length;
    });
  }
  return { data, count, dimensions };
}

test('GA-04: ends of the range', () => {
  const ga04 = gallery.cases.find(({ id }) => id === 'GA-04')!;
  for (const { a, b, D } of ga04.pairs!) {
    const distance = squaredDistance(a, b);
    expect(Math.abs(distance - D)).toBeLessThanOrEqual(ga04.absTolerance!);
    expect(distance >= 0 && distance <= 4).toBe(true);
    expect(squaredDistance(a, a)).toBe(0);
  }
});

test('never above 4 for opposite vectors whose rounding is above', () => {
  const long = Math.fround(1 + 1e-6);
  expect(squaredDistance([long, 0], [-long, 0])).toBe(4);
  // Vectors that are not unit keep their distance.
  expect(squaredDistance([3, 0], [0, 4])).toBe(25);
});

test('LM-09: exactly 0 for equal rows, never negative, symmetric bit for bit', () => {
  for (const id of ['LM-09a', 'LM-09b']) {
    const { embeddings, D01 } = loss.cases.find((entry) => entry.id === id)! as unknown as {
      embeddings: [number[], number[], number[]];
      D01: number;
    };
    const [x, near, same] = embeddings.map((row) => new Float32Array(row)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    expect(Math.abs(squaredDistance(x, near) / D01 - 1)).toBeLessThan(1e-5);
    expect(Object.is(squaredDistance(x, near), squaredDistance(near, x))).toBe(true);
    expect(squaredDistance(x, same)).toBe(0);
  }
  const { data, count, dimensions } = randomUnit(30, 5, 3);
  for (let i = 0; i < dimensions; i++) data[i] = data[dimensions + i]!; // rows 0 and 1 equal
  data.copyWithin(2 * dimensions, 3 * dimensions, 4 * dimensions); // rows 2 and 3 nearly equal
  data[2 * dimensions] = Math.fround(data[3 * dimensions]! + 1e-7);
  const matrix = distanceMatrix({ data, count, dimensions });
  expect(matrix[1]).toBe(0);
  for (let i = 0; i < count; i++) {
    expect(matrix[i * count + i]).toBe(0);
    for (let j = 0; j < count; j++) {
      expect(matrix[i * count + j]! >= 0).toBe(true);
      expect(Object.is(matrix[i * count + j], matrix[j * count + i])).toBe(true);
    }
  }
});

test('blocks of four and single columns give the bits of squaredDistance()', () => {
  const a = randomUnit(3, 7, 1);
  const b = randomUnit(11, 7, 2);
  for (const [from, to] of [
    [0, 11],
    [1, 9],
    [5, 5],
    [10, 11],
  ] as const) {
    const out = new Float64Array(to - from);
    distancesToRow(a, 2, b, from, to, out);
    expect([...out]).toEqual(Array.from(out, (_, j) => squaredDistance(vectorAt(a, 2), vectorAt(b, from + j))));
  }
  expect(distanceMatrix(a, b)).toHaveLength(33);
  expect(distanceMatrix(a, b)[32]).toBe(squaredDistance(vectorAt(a, 2), vectorAt(b, 10)));
});

test('set distance is the mean over all pairs (YTF)', () => {
  const a: VectorSet = { data: new Float64Array([1, 0, 0, 1]), count: 2, dimensions: 2 };
  const b: VectorSet = { data: new Float64Array([0, 1, -1, 0, 0.6, 0.8]), count: 3, dimensions: 2 };
  // (1,0): 2, 4, 0.8; (0,1): 0, 2, 0.4.
  expect(setDistance(a, b)).toBeCloseTo((2 + 4 + 0.8 + 0 + 2 + 0.4) / 6, 12);
  expect(() => setDistance(a, { data: new Float64Array(), count: 0, dimensions: 2 })).toThrow(/hold a face/);
});

describe('refusals', () => {
  test.each([
    [
      [1, Number.NaN],
      [1, 0],
    ],
    [
      [1, 0],
      [Number.POSITIVE_INFINITY, 0],
    ],
  ])('%o: values that are not finite', (a, b) => {
    expect(() => squaredDistance(a, b)).toThrow(
      expect.objectContaining({ code: 'input', message: expect.stringMatching(/finite/) }),
    );
  });

  test('different lengths and dimensions', () => {
    expect(() => squaredDistance([1], [0.6, 0.8])).toThrow(
      expect.objectContaining({ code: 'mismatch', message: expect.stringMatching(/1 and 2/) }),
    );
    expect(() => squaredDistance([], [])).toThrow(/above 0/);
    expect(() => distanceMatrix(randomUnit(2, 3, 1), randomUnit(2, 4, 1))).toThrow(/3 and 4/);
  });

  test('rows that are no unit vectors, with the row', () => {
    for (const bad of [0, Number.NaN, Number.POSITIVE_INFINITY, 1.2]) {
      const set = randomUnit(3, 1, 1);
      set.data[2] = bad;
      expect(() => checkUnitVectors(set)).toThrow(expect.objectContaining({ code: 'input', index: 2 }));
    }
    expect(() => checkUnitVectors({ data: new Float32Array(5), count: 2, dimensions: 3 })).toThrow(/5 for 2 x 3/);
    checkUnitVectors({ data: new Float32Array(0), count: 0, dimensions: 128 });
  });

  test('a matrix above 64 MiB', () => {
    expect(() => distanceMatrix(randomUnit(3000, 1, 1))).toThrow(expect.objectContaining({ code: 'memory' }));
  });
});
