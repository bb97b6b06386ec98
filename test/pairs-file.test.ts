// area: fuzz
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FaceNetError } from '../src/errors.ts';
import { readLfwPairs, readPairs, readPairsCsv } from '../src/evaluate.ts';
import { Philox } from '../src/graph/philox.ts';

const small = '2\t2\nA\t1\t4\nB_C\t12\t3\nA\t1\tB_C\t2\nD\t7\tA\t1\nE\t1\t2\nE\t1\t3\nE\t1\tF\t1\nF\t1\tA\t1\n';

describe('LFW pairs', () => {
  test('folds, kinds, paths and people', () => {
    const { pairs, folds, pattern } = readLfwPairs(small);
    expect(folds).toBe(2);
    expect(pattern).toBe('name/name_0001.jpg');
    expect(pairs).toHaveLength(8);
    expect(pairs[1]).toEqual({
      a: 'B_C/B_C_0012.jpg',
      b: 'B_C/B_C_0003.jpg',
      same: true,
      fold: 0,
      people: ['B_C', 'B_C'],
    });
    expect(pairs[3]).toEqual({ a: 'D/D_0007.jpg', b: 'A/A_0001.jpg', same: false, fold: 0, people: ['D', 'A'] });
    expect(pairs.map(({ same }) => same)).toEqual([true, true, false, false, true, true, false, false]);
    expect(pairs.map(({ fold }) => fold)).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test('line ends of other systems, a byte order mark, blanks for tabs, another suffix, a header of one number', () => {
    const expected = readLfwPairs(small, '.png');
    for (const text of [
      small.replaceAll('\n', '\r\n'),
      small.replaceAll('\n', '\r'),
      `\ufeff${small}`,
      small.replaceAll('\t', ' '),
      small.trimEnd(),
      `${small}\n\n`,
    ]) {
      expect(readPairs(text, '.png')).toEqual(expected);
    }
    expect(readPairs('1\nA\t1\t2\nA\t1\tB\t1').folds).toBe(1);
  });

  test.each([
    ['', 1],
    ['x\t300\n', 1],
    ['0\t5\n', 1],
    ['-1\t5\n', 1],
    ['1\t2\t3\n', 1],
    ['1e1\t300', 1],
    ['1\t1\nA\t1\t2\nA\t1\t2', 3],
    ['1\t1\nA\t1\tB\t2\nA\t1\tB\t2', 2],
    ['1\t1\nA\t1\tx\nA\t1\tB\t2', 2],
    ['1\t1\nA\t1\t10000\nA\t1\tB\t2', 2],
    ['1\t1\n..\t1\t2\nA\t1\tB\t2', 2],
    ['1\t1\na/b\t1\t2\nA\t1\tB\t2', 2],
    ['1\t1\nA\t1\t2\nA\t1\tB\\C\t2', 3],
  ])('%j is refused with its line', (text, line) => {
    expect(() => readLfwPairs(text)).toThrow(expect.objectContaining({ code: 'input', index: line }));
  });

  test('a cut file says how many pairs are missing', () => {
    expect(() => readLfwPairs(small.slice(0, -8))).toThrow(/2 x 2 x 2 = 8 pairs after the first line, got 7/);
    expect(() => readLfwPairs('999999999\t999999999\n')).toThrow(/got 0/);
  });
});

describe('CSV pairs', () => {
  test('with and without heading, fold and group; quotes, tabs, words for same', () => {
    expect(readPairs('file_x,file_y,same\na.jpg,b.jpg,1\nc.jpg,d.jpg,0\n').pairs).toEqual([
      { a: 'a.jpg', b: 'b.jpg', same: true },
      { a: 'c.jpg', b: 'd.jpg', same: false },
    ]);
    const { pairs, folds } = readPairs('"a, ""x"".jpg",b,TRUE,0,old\r\nc,"d\ne",false,2,\r\n');
    expect(pairs).toEqual([
      { a: 'a, "x".jpg', b: 'b', same: true, fold: 0, group: 'old' },
      { a: 'c', b: 'd\ne', same: false, fold: 2 },
    ]);
    expect(folds).toBe(3);
    expect(readPairs('a\tb, c\t1').pairs).toEqual([{ a: 'a', b: 'b, c', same: true }]);
    expect(readPairs('\ufeffa,b,1\n\n').pairs).toHaveLength(1);
    expect(readPairs('a,b,1,,__proto__').pairs[0]).toEqual({ a: 'a', b: 'b', same: true, group: '__proto__' });
  });

  test.each([
    ['a,b,1\na,b\n', 2],
    ['a,b,1\na,b,2\n', 2],
    ['a,b,1\n"a,b,1\n', 2],
    ['a,b,1\n"a"b,c,1\n', 2],
    ['a,b,1\n,b,1', 2],
    ['a,b,1,x', 1],
    ['a,b,1,-1', 1],
    ['a,b,1,10000', 1],
    ['"a\nb",c,1\nx,y,z\n', 3],
    ['a,b,1\na,b,1,2,3,4', 2],
  ])('%j is refused with its line', (text, line) => {
    expect(() => readPairsCsv(text)).toThrow(expect.objectContaining({ code: 'input', index: line }));
  });

  test('no pair, folds for some only', () => {
    expect(() => readPairsCsv('a,b,same\n')).toThrow(/at least one pair/);
    expect(() => readPairsCsv('')).toThrow(FaceNetError);
    expect(() => readPairsCsv('a,b,1,0\nc,d,0\n')).toThrow(/1 of 2/);
  });
});

test('20,000 mutated files: a list or a typed error, at once', () => {
  const random = new Philox(29);
  const seeds = [small, 'a,b,same\n"x ""y""",b,1,0,g\nc,d,0,1,h\n'];
  const alphabet = '\t\n\r,"0123456789-abZ_.\0\ufeff/\\ ';
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const characters = [...seeds[i % 2]!];
    for (let k = random.below(4) + 1; k > 0; k--) {
      const at = random.below(characters.length);
      const replacement = alphabet[random.below(alphabet.length)]!;
      characters.splice(at, random.below(3), ...(random.below(2) === 0 ? [replacement] : []));
    }
    try {
      const { pairs } = readPairs(characters.join(''));
      read++;
      if (
        pairs.length === 0 ||
        pairs.some(({ a, b, same }) => typeof a !== 'string' || typeof b !== 'string' || typeof same !== 'boolean')
      )
        throw new Error('a pair is malformed');
    } catch (error) {
      if (!(error instanceof FaceNetError) || error.code !== 'input')
        throw new Error(`seed 29, file ${i}: ${JSON.stringify(characters.join(''))}`, { cause: error });
    }
  }
  expect(read).toBeGreaterThan(500);
  expect(read).toBeLessThan(19_500);
});

const lfw = join(process.env.FACENET_SHARED ?? '../shared', 'data/lfw');
if (!existsSync(lfw))
  console.warn(`SKIPPED: the LFW lists are absent: ${lfw}. Set FACENET_SHARED to the folder that holds data/lfw.`);
test.skipIf(!existsSync(lfw)).each([
  ['pairs.txt', 10, 6000],
  ['pairs-eval.txt', 3, 1800],
  ['pairs-train.txt', 6, 3600],
  ['pairsDevTrain.txt', 1, 2200],
  ['pairsDevTest.txt', 1, 1000],
])('LFW file %s', (name, folds, count) => {
  const list = readPairs(readFileSync(join(lfw, name), 'utf8'));
  expect(list.folds).toBe(folds);
  expect(list.pairs).toHaveLength(count);
  expect(list.pairs.filter(({ same }) => same)).toHaveLength(count / 2);
  expect(list.pairs.every(({ people }, i) => (people![0] === people![1]) === list.pairs[i]!.same)).toBe(true);
});
