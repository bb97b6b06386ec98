import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type KernelStep, type Lowering } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape, text } from '../graph/shape.ts';

/** Rows that one workgroup, or one turn of a thread, searches; also the most candidates that are merged at once. */
const PART = 1024;

/** The largest k: four lists then still fit into one merge. */
export const largestK = PART / 4;

/** Rows are numbered by f32, which is exact up to here. */
export const mostRows = 2 ** 24;

interface TopK extends Attributes {
  readonly k: number;
}

/**
 * Scan, then merges until one list is left. Lists are [distance x k, row x k], as the output is; a place that is not filled holds the row -1.
 * Which rows are searched together cannot show in the answer: (distance, row) orders all rows, and the k first of parts hold the k first of all.
 */
function lower(
  scan: string,
  tensors: Readonly<Record<string, string>>,
  queries: number,
  capacity: number,
  k: number,
): Lowering {
  const steps: KernelStep[] = [];
  const scratch: Record<string, number> = {};
  let lists = Math.max(1, Math.ceil(capacity / PART));
  const place = (level: number) => {
    if (lists === 1) return 'y';
    scratch[`lists${level}`] = queries * lists * 2 * k;
    return `lists${level}`;
  };
  let from = place(0);
  steps.push({
    kernel: scan,
    tensors: { ...tensors, y: from },
    params: { inLists: 1, outLists: lists },
    launch: { workgroups: [lists, queries] },
  });
  for (let level = 1; lists > 1; level++) {
    const merged = lists;
    lists = Math.ceil(merged / Math.floor(PART / k));
    const to = place(level);
    steps.push({
      kernel: 'merge',
      tensors: { lists: from, y: to },
      params: { inLists: merged, outLists: lists },
      launch: { workgroups: [lists, queries] },
    });
    from = to;
  }
  return { steps, scratch };
}

function checkSearch(query: Shape, capacity: number, k: number, count: Shape): Shape {
  requireRank('topK', 'query', query, 2);
  requireEqual('topK', 'count', count, [1]);
  if (!(Number.isInteger(k) && k >= 1 && k <= largestK))
    throw new FaceNetError('input', `topK: k must be a whole number from 1 to ${largestK}, got ${k}.`);
  if (!(capacity >= 1 && capacity <= mostRows))
    throw new FaceNetError('input', `topK: there must be 1 to ${mostRows} rows to search, got ${capacity}.`);
  return [query[0] as number, 2 * k];
}

const forward: Entry<TopK> = {
  inputs: ['query', 'querySquares', 'templates', 'squares', 'count'],
  output: 'y',
  shape({ query, querySquares, templates, squares, count }, { k }) {
    requireRank('topK', 'templates', templates as Shape, 2);
    if (columns(query as Shape) !== columns(templates as Shape)) {
      throw new FaceNetError(
        'input',
        `topK: templates must have ${columns(query as Shape)} columns as query has, got ${text(templates as Shape)}.`,
      );
    }
    requireEqual('topK', 'querySquares', querySquares as Shape, [(query as Shape)[0] as number]);
    requireEqual('topK', 'squares', squares as Shape, [(templates as Shape)[0] as number]);
    return checkSearch(query as Shape, rows(templates as Shape), k, count as Shape);
  },
  params: ({ query, templates }, { k }) => ({
    queries: rows(query as Shape),
    columns: columns(templates as Shape),
    k,
    part: PART,
  }),
  launch: ({ query, templates }) => ({
    workgroups: [Math.ceil(rows(templates as Shape) / PART), rows(query as Shape)],
  }),
  lower: ({ query, templates }, { k }) =>
    lower(
      'scan',
      {
        query: 'query',
        querySquares: 'querySquares',
        templates: 'templates',
        squares: 'squares',
        count: 'count',
      },
      rows(query as Shape),
      rows(templates as Shape),
      k,
    ),
  multiplyAdds: ({ query, templates }) => rows(query as Shape) * rows(templates as Shape) * columns(templates as Shape),
};

const bytes: Entry<TopK> = {
  inputs: ['query', 'queryScale', 'codes', 'scales', 'count'],
  output: 'y',
  shape({ query, queryScale, codes, scales, count }, { k }) {
    requireRank('topK', 'codes', codes as Shape, 2);
    if (columns(codes as Shape) % 2 !== 0 || columns(query as Shape) !== 2 * columns(codes as Shape)) {
      throw new FaceNetError(
        'input',
        `topK: codes must have an even number of words and query twice as many, got ${text(codes as Shape)} and ${text(query as Shape)}.`,
      );
    }
    requireEqual('topK', 'queryScale', queryScale as Shape, [(query as Shape)[0] as number, 2]);
    requireEqual('topK', 'scales', scales as Shape, [(codes as Shape)[0] as number]);
    return checkSearch(query as Shape, rows(codes as Shape), k, count as Shape);
  },
  params: ({ query, codes }, { k }) => ({
    queries: rows(query as Shape),
    columns: columns(codes as Shape),
    k,
    part: PART,
  }),
  launch: ({ query, codes }) => ({ workgroups: [Math.ceil(rows(codes as Shape) / PART), rows(query as Shape)] }),
  lower: ({ query, codes }, { k }) =>
    lower(
      'scanBytes',
      { words: 'query', queryScale: 'queryScale', codes: 'codes', scales: 'scales', count: 'count' },
      rows(query as Shape),
      rows(codes as Shape),
      k,
    ),
  multiplyAdds: ({ query, codes }) => rows(query as Shape) * rows(codes as Shape) * 4 * columns(codes as Shape),
};

export const topKOperator = defineOperator({
  name: 'topK',
  params: { queries: 'u32', columns: 'u32', k: 'u32', part: 'u32', inLists: 'u32', outLists: 'u32' },
  entries: { forward, bytes },
});

/**
 * The k rows of `templates` nearest to each query, distances fused with the selection: query [Q, D], templates [N, D], count i32 [1] -> y [Q, 2 k].
 * querySquares [Q] and squares [N] are the sums of the squares of their rows, rounded once.
 *
 * y[q] holds k squared distances, nearest first, then the k rows they belong to; of equal distances the lower row first. Only the first `count`
 * rows are searched: the others are room to grow. Places beyond `count` hold distance -1 and row -1. A distance is |q|^2 + |t|^2 - 2 q.t in f32,
 * summed in one order for every row: equal rows have equal distances, and a distance is off by at most (D + 8) 2^-24 (|q| + |t|)^2, so that it
 * may be below 0 by as much. Memory O(Q k N / 1024). Not differentiable. @throws 'input' when shapes do not fit or k is beyond 256.
 */
export function topK(
  query: Value,
  querySquares: Value,
  templates: Value,
  squares: Value,
  count: Value,
  { k }: { k: number },
): Value {
  return query.graph.apply(topKOperator, 'forward', { query, querySquares, templates, squares, count }, { k });
}

/**
 * The same for templates of one byte a number, exact on integers: y = shift - factor * scale * (query . codes).
 *
 * query i32 [Q, W / 2]: whole numbers of 16 bits, two to a word; codes [N, W / 4]: four signed bytes to a word; W, the numbers of a row, is a
 * multiple of 8, padded with zeros. scales f32 [N]; queryScale f32 [Q, 2] holds factor and shift. The caller sees to it that no sum of
 * products leaves 32 bits. Rounded are the product with the scales and the difference: at most 5 * 2^-24 (|shift| + |factor scale sum|).
 */
export function topKBytes(
  query: Value,
  queryScale: Value,
  codes: Value,
  scales: Value,
  count: Value,
  { k }: { k: number },
): Value {
  return query.graph.apply(topKOperator, 'bytes', { query, queryScale, codes, scales, count }, { k });
}
