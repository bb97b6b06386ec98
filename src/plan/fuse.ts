import { Graph, namedInputs, type Value } from '../graph/graph.ts';
import { foldBatchNorm } from '../ops/foldBatchNorm.ts';
import { copyValue, scoped } from './copying.ts';

/** Operators whose epilogue takes a bias and an activation; conv2d also takes a residual. */
const EPILOGUES: Readonly<Record<string, readonly string[]>> = { conv2d: ['bias', 'residual'], linear: ['bias'] };

/** A convolution or linear layer that is still taking in what follows it. Its inputs are values of the new graph. */
interface Pending {
  readonly source: Value;
  readonly inputs: Readonly<Record<string, Value | undefined>>;
  readonly activation: string;
}

/**
 * The same outputs from a graph with fewer, larger operations:
 * batch norm in inference form goes into the weights and bias of the convolution or linear layer before it; an addition and a ReLU
 * behind a convolution go into its epilogue. Only where the value in between has no other reader. The weights are folded by
 * operations on parameters, which the plan computes once; a graph that assigns parameters keeps its batch norms.
 */
export function optimise(
  graph: Graph,
  outputs: readonly Value[],
  fuse: boolean,
): { graph: Graph; outputs: readonly Value[] } {
  if (!fuse) return { graph, outputs };
  const live = reachable(graph, outputs);
  const readers = new Map<Value, number>();
  for (const value of live)
    for (const input of value.inputs) if (input) readers.set(input, (readers.get(input) ?? 0) + 1);
  for (const value of [...outputs, ...graph.assignments.map((assignment) => assignment.value)])
    readers.set(value, (readers.get(value) ?? 0) + 1);
  const fixed = new Set<Value>();
  for (const value of live) {
    const leaf = value.kind === 'parameter' || value.kind === 'constant';
    if (leaf || (value.kind === 'operation' && value.inputs.every((input) => !input || fixed.has(input))))
      fixed.add(value);
  }
  const foldable = graph.assignments.length === 0;

  const made = new Graph();
  const copies = new Map<Value, Value>();
  const pending = new Map<Value, Pending>();
  const copy = (value: Value | undefined): Value | undefined => {
    if (!value) return undefined;
    const waiting = pending.get(value);
    if (waiting && !copies.has(value)) {
      const { source, inputs, activation } = waiting;
      copies.set(
        value,
        scoped(made, value, () =>
          made.apply(source.operator!, source.entry!, inputs, { ...source.attributes, activation }),
        ),
      );
    }
    return copies.get(value);
  };
  /** The pending layer that only `reader` reads, if it may still take something in. */
  const open = (input: Value | undefined): Pending | undefined => {
    const waiting = input && readers.get(input) === 1 ? pending.get(input) : undefined;
    return waiting?.activation === 'none' ? waiting : undefined;
  };

  for (const value of live) {
    const inputs = value.kind === 'operation' ? namedInputs(value) : {};
    const absorbed = value.kind === 'operation' && value.entry === 'forward' ? absorb(value, inputs) : undefined;
    if (absorbed) pending.set(value, absorbed);
    else copies.set(value, copyValue(made, value, copy));
  }

  function absorb(value: Value, inputs: Readonly<Record<string, Value>>): Pending | undefined {
    switch (value.operator?.name) {
      case 'conv2d':
      case 'linear':
        return {
          source: value,
          inputs: Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, copy(input)])),
          activation: value.attributes.activation as string,
        };
      case 'batchNorm': {
        const layer = open(inputs.x);
        const weight = layer && namedInputs(layer.source).weight;
        const statistics = ['mean', 'variance', 'gamma', 'beta'].map((name) => inputs[name]);
        if (
          !foldable ||
          !layer ||
          layer.inputs.residual ||
          !weight ||
          ![weight, ...statistics].every((input) => !input || fixed.has(input))
        )
          return undefined;
        if (layer.inputs.bias && !fixed.has(namedInputs(layer.source).bias as Value)) return undefined;
        const [mean, variance, gamma, beta] = statistics.map(copy);
        const folded = scoped(made, value, () =>
          foldBatchNorm(layer.inputs.weight as Value, layer.inputs.bias, {
            mean: mean as Value,
            variance: variance as Value,
            gamma,
            beta,
            epsilon: value.attributes.epsilon as number,
          }),
        );
        return { ...layer, inputs: { ...layer.inputs, ...folded } };
      }
      case 'add':
        for (const [mine, other] of [
          [inputs.a, inputs.b],
          [inputs.b, inputs.a],
        ]) {
          const layer = open(mine);
          if (
            layer &&
            mine !== other &&
            !layer.inputs.residual &&
            EPILOGUES[layer.source.operator!.name]?.includes('residual')
          ) {
            return { ...layer, inputs: { ...layer.inputs, residual: copy(other) } };
          }
        }
        return undefined;
      case 'relu': {
        const layer = open(inputs.x);
        return layer && { ...layer, activation: 'relu' };
      }
      default:
        return undefined;
    }
  }

  const copiedOutputs = outputs.map((value) => copy(value) as Value);
  for (const { slot, value } of graph.assignments) made.assign(copy(slot) as Value, copy(value) as Value);
  return { graph: made, outputs: copiedOutputs };
}

function reachable(graph: Graph, outputs: readonly Value[]): Value[] {
  const live = new Set<Value>();
  const open = [...outputs, ...graph.assignments.flatMap(({ slot, value }) => [slot, value])];
  for (let value = open.pop(); value; value = open.pop()) {
    if (live.has(value)) continue;
    live.add(value);
    for (const input of value.inputs) if (input) open.push(input);
  }
  return [...live].sort((a, b) => a.id - b.id);
}
