import { add } from '../../src/ops/add.ts';
import { concat, concatOperator } from '../../src/ops/concat.ts';
import { relu } from '../../src/ops/relu.ts';
import type { OperatorSpec } from './operator-spec.ts';

const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
const UNIT = 2 ** -24;

export const spec: OperatorSpec = {
  operator: concatOperator,
  inputs: names,
  // `written`: parts are results, which a plan lets be written in place; otherwise they are inputs, which must be copied.
  build(inputs, { written = false, twice = false }) {
    const parts = names.flatMap((name) => inputs[name] ?? []);
    if (twice) return concat([...parts, parts[0]!]);
    const y = concat(written ? parts.map((part) => relu(part)) : parts);
    return written ? add(y, y) : y;
  },
  forward(inputs, shapes, { written = false, twice = false }, outputShape) {
    const parts = names.filter((name) => inputs[name]);
    if (twice) parts.push(parts[0]!);
    const columns = outputShape[outputShape.length - 1]!;
    const y = new Float64Array(outputShape.reduce((a, b) => a * b));
    for (let r = 0; r < y.length / columns; r++) {
      let column = r * columns;
      for (const name of parts) {
        const width = shapes[name]![shapes[name]!.length - 1]!;
        for (const v of inputs[name]!.subarray(r * width, (r + 1) * width))
          y[column++] = written ? 2 * Math.max(v, 0) : v;
      }
    }
    return y;
  },
  gradient(inputs, dy, shapes, { written = false, twice = false }, outputShape) {
    const parts = names.filter((name) => inputs[name]);
    if (twice) parts.push(parts[0]!);
    const columns = outputShape[outputShape.length - 1]!;
    const gradients: Record<string, Float64Array> = {};
    for (const name of parts) gradients[name] = new Float64Array(inputs[name]!.length);
    for (let r = 0; r < dy.length / columns; r++) {
      let column = r * columns;
      for (const name of parts) {
        const width = shapes[name]![shapes[name]!.length - 1]!;
        for (let i = r * width; i < (r + 1) * width; i++) {
          const d = dy[column++]!;
          gradients[name]![i]! += written ? (inputs[name]![i]! > 0 ? 2 * d : 0) : d;
        }
      }
    }
    return gradients;
  },
  // Values are moved; a part that occurs twice has its two gradients added: one rounding.
  bound: (_, __, { twice = false }) => (twice ? UNIT : 0),
  cases: [
    { why: 'one part', shapes: { a: [2, 3] } },
    { why: 'odd widths, copied', shapes: { a: [3, 2, 2, 5], b: [3, 2, 2, 1], c: [3, 2, 2, 7] } },
    { why: 'all eight parts', shapes: Object.fromEntries(names.map((name, i) => [name, [2, i + 1]])) },
    {
      why: 'parts written in place',
      shapes: { a: [2, 3, 3, 8], b: [2, 3, 3, 4], c: [2, 3, 3, 12], d: [2, 3, 3, 4] },
      options: { written: true },
    },
    { why: 'odd parts written in place', shapes: { a: [3, 5], b: [3, 2] }, options: { written: true } },
    { why: 'the same part twice', shapes: { a: [3, 5], b: [3, 2] }, options: { twice: true } },
    { why: 'parts that are channel ranges', shapes: { a: [3, 4], b: [3, 6] }, slices: ['a', 'b'] },
  ],
};
