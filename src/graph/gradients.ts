import { FaceNetError } from '../errors.ts';
import { entryOf, namedInputs, type Value } from './graph.ts';
import { text } from './shape.ts';

/** How two gradients of one value are summed; given by the caller, since the graph knows no operators. */
export type Sum = (a: Value, b: Value) => Value;

/**
 * Gradients of `y` with respect to `wrt`, appended to the graph as ordinary values: no tape, no second way to run.
 *
 * `seed` is the gradient that arrives at `y`, of y's shape. A value used k times sums its k gradients in the order of its
 * readers from last to first, so the sum is the same in every run. A value that `y` does not depend on gets undefined.
 *
 * @throws 'input' naming the operator when a path leads through one without a gradient rule.
 */
export function gradients(y: Value, wrt: readonly Value[], seed: Value, sum: Sum): (Value | undefined)[] {
  const graph = y.graph;
  if (text(seed.shape) !== text(y.shape)) {
    throw new FaceNetError(
      'input',
      `gradients: the seed must be ${text(y.shape)}, the shape of y, got ${text(seed.shape)}.`,
    );
  }
  const wanted = new Set<Value>(wrt);
  const depends = new Set<Value>();
  for (const value of graph.values.slice(0, y.id + 1)) {
    if (wanted.has(value) || value.inputs.some((input) => input && depends.has(input))) depends.add(value);
  }

  const arrived = new Map<Value, Value>([[y, seed]]);
  for (let id = y.id; id >= 0; id--) {
    const value = graph.values[id] as Value;
    const dy = arrived.get(value);
    if (!dy || !depends.has(value) || value.kind !== 'operation') continue;
    const entry = entryOf(value);
    const inputs = namedInputs(value);
    const needed = Object.keys(inputs).filter((name) => depends.has(inputs[name] as Value));
    if (needed.length === 0) continue;
    if (!entry.gradient) {
      throw new FaceNetError(
        'input',
        `gradients: every operator on the path must have a gradient, got ${value.operator?.name}.${value.entry} (${value.name}), which has none.`,
      );
    }
    const produced = graph.scope(`gradient of ${value.name}`, () =>
      entry.gradient?.({ y: value, dy, inputs, attributes: value.attributes, needs: (name) => needed.includes(name) }),
    );
    for (const name of needed) {
      const input = inputs[name] as Value;
      const gradient = produced?.[name];
      if (!gradient) continue;
      if (text(gradient.shape) !== text(input.shape)) {
        throw new FaceNetError(
          'internal',
          `gradients: ${value.name} gives ${name} the shape ${text(gradient.shape)}, not ${text(input.shape)}.`,
        );
      }
      const before = arrived.get(input);
      arrived.set(input, before ? sum(before, gradient) : gradient);
    }
  }
  return wrt.map((value) => arrived.get(value));
}
