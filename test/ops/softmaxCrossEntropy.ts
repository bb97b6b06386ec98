import { softmaxCrossEntropy, softmaxCrossEntropyOperator } from '../../src/ops/softmaxCrossEntropy.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

function reference({ logits, labels }: Tensors, columns: number) {
  const slopes = new Float64Array(logits!.length);
  const classed = [...labels!].filter((label) => label >= 0 && label < columns).length;
  let loss = 0;
  labels!.forEach((label, r) => {
    if (label < 0 || label >= columns) return;
    const row = logits!.subarray(r * columns, (r + 1) * columns);
    const largest = Math.max(...row);
    const sum = row.reduce((total, value) => total + Math.exp(value - largest), 0);
    loss += (Math.log(sum) + largest - row[label]!) / classed;
    row.forEach((value, c) => {
      slopes[r * columns + c] = (Math.exp(value - largest) / sum - Number(c === label)) / classed;
    });
  });
  return { loss, slopes };
}

export const spec: OperatorSpec = {
  operator: softmaxCrossEntropyOperator,
  inputs: ['logits', 'labels'],
  integers: ['labels'],
  build: ({ logits, labels }) => softmaxCrossEntropy(logits!, labels!).loss,
  forward: (inputs, shapes) => Float64Array.of(reference(inputs, shapes.logits![1]!).loss),
  gradient: (inputs, dy, shapes) => ({
    logits: reference(inputs, shapes.logits![1]!).slopes.map((slope) => slope * dy[0]!),
  }),
  // Exponentials: (3 + 2 |x|) units, the difference x one more of |x|, summed over columns / 256 a branch and 8 levels, then the rows
  // likewise; ln: 8 units absolute. |x| weighted by exp(x) is small except near 0: 24 units for it. Relative to `magnitude`.
  bound: (_, shapes) => (shapes.logits![1]! / 4 + shapes.logits![0]! + 8 + 8 + 24) * UNIT,
  magnitude: (what, { logits, labels }, dy) =>
    what === 'y'
      ? 1 + Math.max(...logits!.map(Math.abs))
      : Math.abs(dy[0]!) / Math.max(1, [...labels!].filter((label) => label >= 0).length),
  cases: [
    { why: 'one class: loss 0', shapes: { logits: [1, 1], labels: [1] }, fill: { labels: () => 0 } },
    { why: 'odd sizes', shapes: { logits: [5, 7], labels: [5] }, fill: { labels: (i) => (3 * i) % 7 } },
    {
      why: 'more classes than the tree is wide',
      shapes: { logits: [3, 521], labels: [3] },
      fill: { labels: (i) => [0, 520, 256][i]! },
    },
    {
      why: 'more rows than the tree is wide',
      shapes: { logits: [261, 3], labels: [261] },
      fill: { labels: (i) => i % 3 },
    },
    {
      why: 'large logits',
      shapes: { logits: [4, 6], labels: [4] },
      fill: { logits: (i, uniform) => 64 * uniform() + 1000 * (i % 2), labels: (i) => i },
    },
    {
      why: 'rows without a class count nowhere',
      shapes: { logits: [6, 5], labels: [6] },
      fill: { labels: (i) => [4, -1, 5, 0, 77, -9][i]! },
    },
    { why: 'no row has a class: 0, not 0/0', shapes: { logits: [3, 4], labels: [3] }, fill: { labels: () => -1 } },
    { why: 'a channel range', shapes: { logits: [3, 8], labels: [3] }, fill: { labels: (i) => i }, slices: ['logits'] },
  ],
};
