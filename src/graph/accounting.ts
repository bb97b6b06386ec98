import { entryOf, type Graph, namedInputs, type Value } from './graph.ts';
import { inputName } from './operator.ts';
import { BATCH, resolve, type Shape, size } from './shape.ts';

/**
 * One operation of a graph as a layer table shows it, for a batch of one. `name` is the scope in which it was made, or the
 * operator's name where there was none.
 */
export interface Layer {
  readonly name: string;
  readonly operator: string;
  readonly entry: string;
  /** Shape without the batch. */
  readonly output: Shape;
  readonly kernel?: readonly [height: number, width: number];
  readonly stride?: readonly [y: number, x: number];
  /** Learnt numbers that appear here for the first time. */
  readonly parameters: number;
  /** Running means and variances that appear here for the first time: stored with the weights, not learnt. */
  readonly statistics: number;
  /** For one image. */
  readonly multiplyAdds: number;
}

/** Sums over a graph. Published parameter counts are `parameters`: they leave out running statistics. */
export interface Cost {
  readonly parameters: number;
  readonly statistics: number;
  readonly multiplyAdds: number;
}

/** How a parameter is used: the input name under which the first operation reads it ('weight', 'bias', 'gamma', 'mean', ...). */
export function parameterRoles(graph: Graph): Map<Value, string> {
  const roles = new Map<Value, string>();
  for (const value of graph.values) {
    if (value.kind !== 'operation') continue;
    for (const [name, input] of Object.entries(namedInputs(value))) {
      if (input.kind === 'parameter' && !roles.has(input)) roles.set(input, name);
    }
  }
  return roles;
}

/** Whether a role is that of running statistics (read, or averaged into), which are updated but not learnt. */
export const isStatistic = (role: string): boolean => role === 'mean' || role === 'variance' || role === 'running';

/** The graph's operations in order of execution, with what each costs. */
export function layers(graph: Graph): Layer[] {
  const roles = parameterRoles(graph);
  const counted = new Set<Value>();
  return graph.values
    .filter((value) => value.kind === 'operation')
    .map((value) => {
      let parameters = 0;
      let statistics = 0;
      for (const input of value.inputs) {
        if (input?.kind !== 'parameter' || counted.has(input)) continue;
        counted.add(input);
        if (isStatistic(roles.get(input) as string)) statistics += size(input.shape);
        else parameters += size(input.shape);
      }
      const operator = value.operator?.name as string;
      const label = value.entry === 'forward' ? operator : `${operator}.${value.entry}`;
      const scope = value.name.endsWith(`/${label}`) ? value.name.slice(0, -label.length - 1) : value.name;
      const geometry = windowOf(value);
      return {
        name: scope,
        operator,
        entry: value.entry as string,
        output: value.shape[0] === BATCH ? value.shape.slice(1) : value.shape,
        ...geometry,
        parameters,
        statistics,
        multiplyAdds: multiplyAdds(value, 1),
      };
    });
}

/** Sums of a list of layers. */
export function cost(list: readonly Layer[]): Cost {
  const sum = (pick: (layer: Layer) => number) => list.reduce((total, layer) => total + pick(layer), 0);
  return {
    parameters: sum((l) => l.parameters),
    statistics: sum((l) => l.statistics),
    multiplyAdds: sum((l) => l.multiplyAdds),
  };
}

/** Layers whose names begin with the same segment ('inception3a'), in order: the rows of a published table. */
export function blocks(list: readonly Layer[]): Map<string, Layer[]> {
  const groups = new Map<string, Layer[]>();
  for (const layer of list) {
    const name = layer.name.split('/')[0] as string;
    groups.set(name, [...(groups.get(name) ?? []), layer]);
  }
  return groups;
}

/** Multiply-adds of one operation for a batch; 0 for operators that do not count any. */
export function multiplyAdds(value: Value, batch: number): number {
  const entry = entryOf(value);
  if (!entry.multiplyAdds) return 0;
  const shapes: Record<string, Shape> = { [entry.output]: resolve(value.shape, batch) };
  entry.inputs.forEach((declared, index) => {
    const input = value.inputs[index];
    if (input) shapes[inputName(declared)] = resolve(input.shape, batch);
  });
  return entry.multiplyAdds(shapes, value.attributes);
}

/** Bytes of activations: `total` if all are kept (training), `peak` if each lives from its step to its last reader (inference). */
export interface ActivationMemory {
  readonly total: number;
  readonly peak: number;
}

/**
 * Activation memory of a graph as it stands, inputs included, parameters and constants not. Plans need less: they fuse
 * operations and let the parts of a concat be written in place.
 */
export function activationMemory(graph: Graph, outputs: readonly Value[], batch: number): ActivationMemory {
  const bytes = (value: Value) => size(resolve(value.shape, batch)) * (value.dtype === 'u8' ? 1 : 4);
  const isActivation = (value: Value) => value.kind === 'operation' || value.kind === 'input';
  const lastReader = new Map<Value, number>();
  for (const value of graph.values) {
    for (const input of value.inputs) if (input) lastReader.set(input, value.id);
  }
  for (const value of [...outputs, ...graph.assignments.map((assignment) => assignment.value)]) {
    lastReader.set(value, graph.values.length);
  }
  let total = 0;
  let live = 0;
  let peak = 0;
  const leaving = new Map<number, number>();
  for (const value of graph.values) {
    if (isActivation(value)) {
      const own = bytes(value);
      total += own;
      live += own;
      const last = lastReader.get(value) ?? value.id;
      leaving.set(last, (leaving.get(last) ?? 0) + own);
    }
    peak = Math.max(peak, live);
    live -= leaving.get(value.id) ?? 0;
  }
  return { total, peak };
}

/** Kernel and stride of convolutions and pools, by the attributes and inputs they have in common. */
function windowOf(value: Value): Pick<Layer, 'kernel' | 'stride'> {
  const { sizeY, sizeX, strideY, strideX } = value.attributes;
  const weight = value.entry === 'forward' ? namedInputs(value).weight : undefined;
  if (typeof strideY !== 'number' || typeof strideX !== 'number') return {};
  if (typeof sizeY === 'number' && typeof sizeX === 'number')
    return { kernel: [sizeY, sizeX], stride: [strideY, strideX] };
  if (weight?.shape.length !== 4) return {};
  return { kernel: [weight.shape[0] as number, weight.shape[1] as number], stride: [strideY, strideX] };
}
