import { type CosineMarginOptions, cosineMargin, cosineMarginOperator } from '../../src/ops/cosineMargin.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

function reference({ x, weight, labels }: Tensors, columns: number, { scale = 24, margin = 0.2 }: CosineMarginOptions) {
  const classes = weight!.length / columns;
  const batch = labels!.length;
  const norms = Array.from({ length: classes }, (_, c) =>
    Math.sqrt(
      Math.max(
        weight!.subarray(c * columns, (c + 1) * columns).reduce((sum, w) => sum + w * w, 0),
        1e-10,
      ),
    ),
  );
  const unit = weight!.map((w, i) => w / norms[Math.floor(i / columns)]!);
  const y = new Float64Array(batch * classes);
  const slopes = new Float64Array(batch * classes);
  for (let n = 0; n < batch; n++) {
    for (let c = 0; c < classes; c++) {
      let cosine = 0;
      for (let k = 0; k < columns; k++) cosine += x![n * columns + k]! * unit[c * columns + k]!;
      let [value, slope] = [cosine, 1];
      if (labels![n] === c && cosine <= -Math.cos(margin)) value = cosine - margin * Math.sin(margin);
      else if (labels![n] === c) {
        const square = 1 - cosine * cosine;
        const sine = Math.sqrt(Math.max(square, 1e-6));
        value = cosine * Math.cos(margin) - sine * Math.sin(margin);
        slope = Math.cos(margin) + (square > 1e-6 ? (cosine / sine) * Math.sin(margin) : 0);
      }
      y[n * classes + c] = scale * value;
      slopes[n * classes + c] = scale * slope;
    }
  }
  return { y, slopes, unit, norms, classes, batch };
}

/** A unit row of four numbers, never parallel to a class: every squared sine stays above 0.05. */
const unitRow = (i: number) => [0.5, -0.5, 0.5, 0.5][(i + Math.floor(i / 4)) % 4]!;

export const spec: OperatorSpec = {
  operator: cosineMarginOperator,
  inputs: ['x', 'weight', 'labels'],
  integers: ['labels'],
  build: ({ x, weight, labels }, options) => cosineMargin(x!, weight!, labels!, options),
  forward: (inputs, shapes, options) => reference(inputs, shapes.x![1]!, options).y,
  gradient(inputs, dy, shapes, options) {
    const columns = shapes.x![1]!;
    const { slopes, unit, norms, classes, batch } = reference(inputs, columns, options);
    const x = new Float64Array(inputs.x!.length);
    const raw = new Float64Array(inputs.weight!.length);
    for (let n = 0; n < batch; n++) {
      for (let c = 0; c < classes; c++) {
        const slope = slopes[n * classes + c]! * dy[n * classes + c]!;
        for (let k = 0; k < columns; k++) {
          x[n * columns + k]! += slope * unit[c * columns + k]!;
          raw[c * columns + k]! += slope * inputs.x![n * columns + k]!;
        }
      }
    }
    const weight = raw.map((value, i) => {
      const c = Math.floor(i / columns);
      let inner = 0;
      for (let k = 0; k < columns; k++) inner += raw[c * columns + k]! * unit[c * columns + k]!;
      return (value - unit[i]! * inner) / norms[c]!;
    });
    return { x, weight };
  },
  // A cosine: `columns` products of unit vectors and the normalisation before, (columns + 10) units. The sine of the own class divides
  // it by at least 0.2, once in the value, three times in the slope. Then sums over classes or batch, and the projection of the weight.
  bound(what, shapes) {
    const [batch, columns] = shapes.x as [number, number];
    const cosine = columns + 10;
    if (what === 'y') return cosine * 6 * UNIT;
    return (125 * cosine + 2 * (what === 'dx' ? shapes.weight![0]! : batch) + columns) * UNIT;
  },
  magnitude(what, inputs, dy, shapes, options) {
    const columns = shapes.x![1]!;
    const { slopes, norms } = reference(inputs, columns, options);
    if (what === 'y') return (options.scale as number | undefined) ?? 24;
    const largest = Math.max(...slopes.map((slope, i) => Math.abs(slope * dy[i]!)));
    return what === 'dx' ? largest : largest / Math.min(...norms);
  },
  cases: [
    {
      why: 'one image, one class, one number',
      shapes: { x: [1, 1], weight: [1, 1], labels: [1] },
      fill: { x: () => 0.6, weight: () => 0.5, labels: () => 0 },
    },
    {
      why: 'odd sizes, some rows without a class',
      shapes: { x: [5, 4], weight: [7, 4], labels: [5] },
      fill: { x: unitRow, labels: (i) => [0, 6, -1, 3, 9][i]! },
    },
    {
      why: 'more classes than images',
      shapes: { x: [3, 4], weight: [67, 4], labels: [3] },
      fill: { x: unitRow, labels: (i) => 30 * i },
      options: { scale: 64, margin: 0.5 },
    },
    {
      why: 'no margin: plain cosines',
      shapes: { x: [6, 4], weight: [5, 4], labels: [6] },
      fill: { x: unitRow, labels: (i) => i % 5 },
      options: { margin: 0, scale: 1 },
    },
    {
      why: 'embeddings',
      shapes: { x: [9, 128], weight: [13, 128], labels: [9] },
      fill: { x: (i) => (i % 3 ? 1 : -1) / Math.sqrt(128), labels: (i) => i },
    },
    {
      why: 'opposite to its class: the line beyond pi - margin',
      shapes: { x: [2, 4], weight: [2, 4], labels: [2] },
      fill: { x: (i) => (i % 4 ? 0.1 : -0.985), weight: (i) => (i % 4 ? 0.05 : 1), labels: () => 1 },
      options: { margin: 0.4 },
    },
    {
      why: 'equal to its class: finite gradient',
      shapes: { x: [1, 4], weight: [3, 4], labels: [1] },
      fill: { x: () => 0.5, weight: (i) => (i < 4 ? 2 : i % 4 ? 1 : -1), labels: () => 0 },
    },
    {
      why: 'a zero class: cosine 0',
      shapes: { x: [2, 4], weight: [2, 4], labels: [2] },
      fill: { x: unitRow, weight: (i) => (i < 4 ? 0 : 1 + (i % 2)), labels: () => 1 },
    },
  ],
};
