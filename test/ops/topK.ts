import { slice } from '../../src/ops/slice.ts';
import { topK, topKBytes, topKOperator } from '../../src/ops/topK.ts';
import type { Case, OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

interface Options {
  readonly k: number;
  /** Which half of y is looked at: in one comparison the rows would hide what the distances are off by. */
  readonly part: 'distances' | 'rows';
}

const bytesOf = (words: Float64Array): Uint8Array => new Uint8Array(Int32Array.from(words).buffer);

/** The query, and the distance of each of its rows to each template. */
function distances(inputs: Tensors, shapes: Case['shapes'], q: number): number[] {
  const count = inputs.count![0]!;
  if (inputs.codes) {
    const width = shapes.codes![1]! * 4;
    const codes = new Int8Array(bytesOf(inputs.codes).buffer);
    const query = new Int16Array(bytesOf(inputs.words!).buffer).subarray(q * width, (q + 1) * width);
    return Array.from({ length: count }, (_, row) => {
      const dot = query.reduce((sum, value, i) => sum + value * codes[row * width + i]!, 0);
      return inputs.queryScale![2 * q + 1]! - inputs.queryScale![2 * q]! * inputs.scales![row]! * dot;
    });
  }
  const width = shapes.query![1]!;
  return Array.from({ length: count }, (_, row) => {
    let product = 0;
    for (let i = 0; i < width; i++) product += inputs.query![q * width + i]! * inputs.templates![row * width + i]!;
    return inputs.querySquares![q]! + inputs.squares![row]! - 2 * product;
  });
}

const parts = ['distances', 'rows'] as const;
/** A case for each half of the answer. */
const both = (test: Case): Case[] => parts.map((part) => ({ ...test, options: { ...test.options, part } }));
/** Small whole numbers: every distance is exact, and most of them are shared by many rows. */
const few = (_: number, uniform: () => number) => Math.round(1.2 * uniform());
const count = (rows: number) => ({ count: () => rows });
const codeWord = (_: number, uniform: () => number) => Math.floor(uniform() * 2 ** 31);

/** Templates of bytes: the query comes as whole numbers, two to a word. */
const bytesCase = (why: string, queries: number, width: number, rows: number, k: number, used: number): Case[] =>
  both({
    why: `bytes: ${why}`,
    shapes: {
      words: [queries, width / 2],
      queryScale: [queries, 2],
      codes: [rows, width / 4],
      scales: [rows],
      count: [1],
    },
    options: { k },
    fill: {
      words: codeWord,
      queryScale: (i) => (i % 2 === 0 ? 2 ** -30 : 2),
      codes: codeWord,
      scales: (_, uniform) => Math.fround(1 + uniform() / 2),
      ...count(used),
    },
  });

export const spec: OperatorSpec = {
  operator: topKOperator,
  inputs: ['query', 'querySquares', 'templates', 'squares', 'words', 'queryScale', 'codes', 'scales', 'count'],
  integers: ['words', 'codes', 'count'],
  build(values, options) {
    const { k, part } = options as unknown as Options;
    const { query, querySquares, templates, squares, words: packed, codes, queryScale, scales, count: used } = values;
    const y = codes
      ? topKBytes(packed!, queryScale!, codes, scales!, used!, { k })
      : topK(query!, querySquares!, templates!, squares!, used!, { k });
    return slice(y, { start: part === 'rows' ? k : 0, channels: k });
  },
  forward(inputs, shapes, options) {
    const { k, part } = options as unknown as Options;
    const answer: number[] = [];
    for (let q = 0; q < (shapes.words ?? shapes.query)![0]!; q++) {
      const all = distances(inputs, shapes, q);
      const order = [...all.keys()].sort((a, b) => all[a]! - all[b]! || a - b).slice(0, k);
      for (let i = 0; i < k; i++) answer.push(i < order.length ? (part === 'rows' ? order[i]! : all[order[i]!]!) : -1);
    }
    return Float64Array.from(answer);
  },
  // Distances: of sums, columns products and what is added to them; of bytes the scaling of an exact sum, three products and a difference, and
  // the scales are rounded. Rows: a wrong one is off by at least one of at most as many as there are.
  bound(_, shapes, options) {
    const { part } = options as unknown as Options;
    if (part === 'rows') return 0.5 / (shapes.templates ?? shapes.codes)![0]!;
    return shapes.codes ? 8 * UNIT : (shapes.query![1]! + 8) * UNIT;
  },
  magnitude(_what, inputs, _dy, shapes, options) {
    if ((options as unknown as Options).part === 'rows') return 0;
    const largest = (numbers: Float64Array) => numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (shapes.codes) return 2 * largest(inputs.queryScale!);
    const products = shapes.query![1]! * largest(inputs.query!) * largest(inputs.templates!);
    return largest(inputs.querySquares!) + largest(inputs.squares!) + 2 * products;
  },
  cases: [
    ...bytesCase('eight numbers', 1, 8, 3, 2, 3),
    ...bytesCase('embeddings', 3, 128, 41, 5, 38),
    ...bytesCase('parts and merges', 2, 16, 2100, 40, 2100),
    ...[
      { why: 'one row of one number', shapes: { query: [1, 1], templates: [1, 1], count: [1] }, k: 1, used: 1 },
      { why: 'more asked for than there are', shapes: { query: [2, 3], templates: [7, 3], count: [1] }, k: 9, used: 7 },
      { why: 'nothing in use', shapes: { query: [1, 3], templates: [5, 3], count: [1] }, k: 2, used: 0 },
      {
        why: 'room to grow is not searched',
        shapes: { query: [3, 6], templates: [40, 6], count: [1] },
        k: 5,
        used: 22,
      },
      { why: 'embeddings', shapes: { query: [2, 128], templates: [37, 128], count: [1] }, k: 5, used: 37 },
      { why: 'a part and one row', shapes: { query: [2, 5], templates: [1025, 5], count: [1] }, k: 3, used: 1025 },
      {
        why: 'ties: the lower row first, over parts and merges',
        shapes: { query: [2, 3], templates: [2500, 3], count: [1] },
        k: 256,
        used: 2311,
        fill: { query: few, querySquares: few, templates: few, squares: few },
      },
      { why: 'merges of merges', shapes: { query: [1, 2], templates: [9000, 2], count: [1] }, k: 200, used: 9000 },
      {
        why: 'an odd number of queries, rows and columns',
        shapes: { query: [5, 131], templates: [71, 131], count: [1] },
        k: 4,
        used: 67,
      },
    ].flatMap(({ k, used, fill, shapes, ...test }) =>
      both({
        ...test,
        shapes: {
          query: shapes.query!,
          querySquares: [shapes.query![0]!],
          templates: shapes.templates!,
          squares: [shapes.templates![0]!],
          count: [1],
        },
        options: { k },
        fill: { ...fill, ...count(used) },
      }),
    ),
  ],
};
