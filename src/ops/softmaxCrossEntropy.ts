import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Lowering, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape } from '../graph/shape.ts';

/** What stands where in `summary`. */
export const crossEntropySummary = {
  /** Mean loss of the rows that have a class. */
  loss: 0,
  /** Rows that have a class, and how many of them gave it the largest logit. */
  rows: 1,
  correct: 2,
  /** 1 / rows, or 0 without any. */
  factor: 3,
} as const;

const SUMMARY = 4;

const params = ({ logits }: Shapes) => ({ rows: rows(logits as Shape), columns: columns(logits as Shape) });
const launch = ({ logits }: Shapes) => ({ workgroups: [rows(logits as Shape)] as const });

const summary: Entry<Attributes> = {
  inputs: ['logits', 'labels'],
  output: 'summary',
  strided: ['logits'],
  shape({ logits, labels }) {
    requireRank('softmaxCrossEntropy', 'logits', logits as Shape, 2);
    requireEqual('softmaxCrossEntropy', 'labels', labels as Shape, [(logits as Shape)[0] as number]);
    return [SUMMARY];
  },
  params,
  launch,
  lower: (shapes): Lowering => ({
    steps: [
      {
        kernel: 'rowLosses',
        tensors: { logits: 'logits', labels: 'labels', perRow: 'perRow' },
        launch: launch(shapes),
      },
      { kernel: 'combine', tensors: { perRow: 'perRow', result: 'summary' }, launch: { workgroups: [1] } },
    ],
    scratch: { perRow: SUMMARY * rows(shapes.logits as Shape) },
  }),
};

/** The first number of the summary; logits and labels are there for the gradient. */
const forward: Entry<Attributes> = {
  inputs: ['summary', 'logits', 'labels'],
  output: 'y',
  shape: () => [1],
  params,
  launch: () => ({ invocations: 1 }),
  lower: () => ({
    steps: [{ kernel: 'forward', tensors: { summary: 'summary', result: 'y' }, launch: { workgroups: [1] } }],
  }),
  gradient: ({ y, dy, inputs: { summary: totals, logits, labels } }) => ({
    logits: y.graph.apply(softmaxCrossEntropyOperator, 'inputGradient', { logits, labels, summary: totals, dy }),
  }),
};

/** dlogits = (softmax(logits) - 1 at the label) * dy / rows; 0 in rows without a class. */
const inputGradient: Entry<Attributes> = {
  inputs: ['logits', 'labels', 'summary', 'dy'],
  output: 'dlogits',
  strided: ['logits', 'dlogits'],
  shape: ({ logits }) => logits as Shape,
  params,
  launch,
};

export const softmaxCrossEntropyOperator = defineOperator({
  name: 'softmaxCrossEntropy',
  params: { rows: 'u32', columns: 'u32' },
  entries: { summary, forward, inputGradient },
});

/**
 * Cross entropy of softmax(logits) with one class a row, averaged over the rows that have one.
 *
 * logits [N, C], labels i32 [N] -> loss [1] and `summary` [4] (`crossEntropySummary`). A label below 0 or from C on means: no class;
 * such rows count nowhere and get gradient 0. Without any class the loss is 0. The row's maximum is subtracted first, so large finite
 * logits do not overflow. @throws 'input' when shapes do not fit.
 */
export function softmaxCrossEntropy(logits: Value, labels: Value): { loss: Value; summary: Value } {
  if (labels.dtype !== 'i32')
    throw new FaceNetError('input', `softmaxCrossEntropy: labels must be i32, got ${labels.dtype}.`);
  const totals = logits.graph.apply(softmaxCrossEntropyOperator, 'summary', { logits, labels });
  return {
    loss: logits.graph.apply(softmaxCrossEntropyOperator, 'forward', { summary: totals, logits, labels }),
    summary: totals,
  };
}
