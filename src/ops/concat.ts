import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type KernelStep } from '../graph/operator.ts';
import { columns, equal, rows, type Shape, size, text } from '../graph/shape.ts';
import { slice } from './slice.ts';

/** Names of the parts, in order; an inception block has four. */
const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const;

const forward: Entry<Attributes> = {
  inputs: names.map((name, index) => (index === 0 ? name : `${name}?`)),
  output: 'y',
  strided: [...names, 'y'],
  shape(parts) {
    const [first, ...others] = Object.values(parts) as [Shape, ...Shape[]];
    for (const [index, other] of others.entries()) {
      if (!equal(other.slice(0, -1), first.slice(0, -1))) {
        throw new FaceNetError(
          'input',
          `concat: parts[${index + 1}] must be ${text(first)} up to its channels, got ${text(other)}.`,
        );
      }
    }
    return [...first.slice(0, -1), others.reduce((sum, other) => sum + columns(other), columns(first))];
  },
  params: ({ y }) => ({ rows: rows(y as Shape), columns: columns(y as Shape), start: 0 }),
  launch: ({ y }) => ({ invocations: size(y as Shape) }),
  // Only where the plan cannot let the parts be written in place: one copy into its channel range for each part.
  lower(shapes) {
    const steps: KernelStep[] = [];
    let start = 0;
    for (const name of names) {
      const part = shapes[name];
      if (!part) continue;
      steps.push({
        kernel: 'forward',
        tensors: { x: name, y: 'y' },
        params: { rows: rows(part), columns: columns(part), start },
        launch: { invocations: size(part) },
      });
      start += columns(part);
    }
    return { steps };
  },
  gradient({ dy, inputs, needs }) {
    const gradients: Record<string, Value | undefined> = {};
    let start = 0;
    for (const name of names) {
      const part = inputs[name];
      if (!part) continue;
      const channels = columns(part.shape);
      gradients[name] = needs(name) ? slice(dy, { start, channels }) : undefined;
      start += channels;
    }
    return gradients;
  },
};

export const concatOperator = defineOperator({
  name: 'concat',
  params: { rows: 'u32', columns: 'u32', start: 'u32' },
  entries: { forward },
});

/**
 * Channels of all parts, one behind the other: parts [..., c0], [..., c1], ... -> y [..., c0 + c1 + ...]. One to eight parts.
 *
 * Plans let the parts be written where they belong: then no kernel runs. @throws 'input' when parts differ in other sizes.
 */
export function concat(parts: readonly Value[]): Value {
  const [first] = parts;
  if (!first || parts.length > names.length) {
    throw new FaceNetError('input', `concat: must be given 1 to ${names.length} parts, got ${parts.length}.`);
  }
  return first.graph.apply(
    concatOperator,
    'forward',
    Object.fromEntries(parts.map((part, index) => [names[index], part])),
  );
}
