import { Graph, namedInputs, type Value } from '../graph/graph.ts';
import type { Operator } from '../graph/operator.ts';
import { BATCH, columns } from '../graph/shape.ts';
import { add } from '../ops/add.ts';
import { concat } from '../ops/concat.ts';
import { slice } from '../ops/slice.ts';
import { sumOfSquares } from '../ops/sumOfSquares.ts';
import { copyValue, scoped } from './copying.ts';
import { partWidths } from './memory.ts';
import type { Store } from './store.ts';

/** Operators that do the same with every element: parts in, parts out. */
const ELEMENTWISE = new Set(['adagradUpdate', 'adamUpdate', 'sgdUpdate', 'emaUpdate', 'add', 'scaleShift']);
/** Most parts of one concat. */
const CONCAT = 8;

/**
 * The same graph on tensors that fit into buffers. Parameters that the store keeps in parts (ranges of columns), and gradients as large as
 * them, become one value a part; what reads them works part by part:
 *
 *     y = x W          columns of y from columns of W: the same sums in the same order, hence the same bits
 *     dW = x' dy       columns of dW from columns of dy: the same bits
 *     dx = dy W'       one product a part, then their sum: another order of sums
 *     updates, add     element by element; norms: one sum of squares behind the other
 *
 * Channel ranges of activations are views (plan.ts), so that neither cutting dy nor joining y takes a step. What else reads such a tensor
 * is given it whole, and then refused where memory is laid out.
 */
export function splitLarge(
  graph: Graph,
  outputs: readonly Value[],
  store: Store,
): { graph: Graph; outputs: readonly Value[] } {
  const made = new Graph();
  const wholes = new Map<Value, Value>();
  const parts = new Map<Value, readonly Value[]>();
  const whole = (value: Value): Value => {
    let found = wholes.get(value);
    if (!found) {
      found = scoped(made, value, () => joined(parts.get(value) as readonly Value[]));
      wholes.set(value, found);
    }
    return found;
  };

  for (const value of graph.values) {
    const split = value.kind === 'parameter' ? parameterParts(value) : operationParts(value);
    if (split) parts.set(value, split);
    else if (!wholes.has(value)) wholes.set(value, copyValue(made, value, whole));
  }
  for (const { slot, value } of graph.assignments) {
    const [slots, values] = [parts.get(slot), parts.get(value)];
    if (slots && values) slots.forEach((part, index) => made.assign(part, values[index] as Value));
    else made.assign(whole(slot), whole(value));
  }
  return { graph: made, outputs: outputs.map(whole) };

  function parameterParts(value: Value): readonly Value[] | undefined {
    const stored = store.parts(value.name);
    return stored.length > 1 ? stored.map(({ name, shape }) => made.parameter(name, shape)) : undefined;
  }

  function operationParts(value: Value): readonly Value[] | undefined {
    if (value.kind !== 'operation') return undefined;
    const { operator, entry, attributes } = value as Value & { operator: Operator; entry: string };
    const inputs = namedInputs(value);
    const apply = (given: Readonly<Record<string, Value | undefined>>) =>
      scoped(made, value, () => made.apply(operator, entry, given, attributes));
    if (operator.name === 'linear' && entry === 'weightGradient') {
      const widths = value.shape.includes(BATCH)
        ? [columns(value.shape)]
        : partWidths(value.shape, store.backend.maxBufferBytes);
      if (widths.length === 1) return undefined;
      const { x, dy } = inputs as { x: Value; dy: Value };
      return ranges(value, dy, widths).map((range) => apply({ x: whole(x), dy: range }));
    }
    const weights = inputs.weight && parts.get(inputs.weight);
    if ((operator.name === 'linear' || operator.name === 'halfLinear') && weights) {
      // Words of two halves are two columns of y.
      const each = operator.name === 'halfLinear' ? 2 : 1;
      const widths = weights.map((part) => each * columns(part.shape));
      if (entry === 'forward') {
        const { x, bias } = inputs as { x: Value; bias?: Value };
        const biases = bias ? ranges(value, bias, widths) : [];
        const columnsOfY = weights.map((weight, index) => apply({ x: whole(x), weight, bias: biases[index] }));
        wholes.set(
          value,
          scoped(made, value, () => joined(columnsOfY)),
        );
        return undefined;
      }
      if (entry === 'inputGradient') {
        const { dy } = inputs as { dy: Value };
        const terms = ranges(value, dy, widths).map((range, index) => apply({ dy: range, weight: weights[index] }));
        wholes.set(
          value,
          scoped(made, value, () => terms.reduce((sum, term) => add(sum, term))),
        );
        return undefined;
      }
    }
    if (operator.name === 'sumOfSquares' && entry === 'forward') {
      const squared = inputs.x && parts.get(inputs.x);
      if (!squared) return undefined;
      let before = inputs.before && whole(inputs.before);
      scoped(made, value, () => {
        for (const part of squared) before = sumOfSquares(part, before);
      });
      wholes.set(value, before as Value);
      return undefined;
    }
    const lists = Object.values(inputs).flatMap((input) => parts.get(input) ?? []);
    if (lists.length === 0 || !ELEMENTWISE.has(operator.name)) return undefined;
    const first = Object.values(inputs).find((input) => parts.has(input)) as Value;
    return (parts.get(first) as readonly Value[]).map((_, index) =>
      apply(
        Object.fromEntries(
          Object.entries(inputs).map(([name, input]) => [name, parts.get(input)?.[index] ?? whole(input)]),
        ),
      ),
    );
  }

  /** Consecutive channels of `tensor`, labelled as parts of `value`. */
  function ranges(value: Value, tensor: Value, widths: readonly number[]): Value[] {
    let start = 0;
    return widths.map((channels) => {
      const range = scoped(made, value, () => slice(whole(tensor), { start, channels }));
      start += channels;
      return range;
    });
  }
}

/** Parts side by side. */
function joined(parts: readonly Value[]): Value {
  if (parts.length <= CONCAT) return concat(parts);
  const groups: Value[] = [];
  for (let start = 0; start < parts.length; start += CONCAT) groups.push(joined(parts.slice(start, start + CONCAT)));
  return joined(groups);
}
