// What passes that rewrite a graph share: values of one graph built again in another.
import { type Graph, namedInputs, type Value } from '../graph/graph.ts';

/** The value again in `made`, reading what `of` gives for its inputs. */
export function copyValue(made: Graph, value: Value, of: (input: Value) => Value | undefined): Value {
  switch (value.kind) {
    case 'input':
      return made.input(value.name, value.shape, value.dtype);
    case 'parameter':
      return made.parameter(value.name, value.shape);
    case 'constant':
      return made.constant(value.data as Float32Array, value.shape);
    default: {
      const inputs = Object.fromEntries(Object.entries(namedInputs(value)).map(([name, input]) => [name, of(input)]));
      return scoped(made, value, () => made.apply(value.operator!, value.entry!, inputs, value.attributes));
    }
  }
}

/** Builds under the original value's scope, so that labels stay. */
export function scoped<T>(graph: Graph, value: Value, build: () => T): T {
  const end = value.name.lastIndexOf('/');
  return end < 0 ? build() : graph.scope(value.name.slice(0, end), build);
}
