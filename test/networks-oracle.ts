// Whole graphs in float64: each operation by the forward and gradient of its spec in test/ops, which share nothing with the kernels
// or with src/graph/gradients.ts.
import { type Graph, namedInputs, type Value } from '../src/graph/graph.ts';
import type { Attributes } from '../src/graph/operator.ts';
import { resolve, type Shape, size } from '../src/graph/shape.ts';
import type { OperatorSpec, Tensors } from './ops/operator-spec.ts';

const specs = new Map(
  Object.values(import.meta.glob<{ spec?: OperatorSpec }>('./ops/*.ts', { eager: true })).flatMap(({ spec }) =>
    spec ? [[spec.operator.name, spec] as const] : [],
  ),
);

/** Attributes of an operation as the options of its builder, which is what specs are given. */
function builderOptions(attributes: Attributes): Record<string, unknown> {
  const { sizeY, sizeX, strideY, strideX, padTop, padLeft, padBottom, padRight, ...others } = attributes;
  return {
    ...others,
    ...(sizeY !== undefined && { size: [sizeY, sizeX] }),
    ...(strideY !== undefined && { stride: [strideY, strideX] }),
    ...(padTop !== undefined && { padding: [padTop, padLeft, padBottom, padRight] }),
  };
}

interface Call {
  readonly spec: OperatorSpec;
  readonly inputs: Tensors;
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly options: Readonly<Record<string, unknown>>;
  readonly outputShape: Shape;
}

/** The spec's view of an operation. Batch norm in training form computes its own statistics. */
function call(value: Value, results: ReadonlyMap<Value, Float64Array>, batch: number): Call {
  const spec = specs.get(value.operator?.name as string);
  const training = value.operator?.name === 'batchNorm' && value.entry === 'normalise';
  if (!spec || (value.entry !== 'forward' && !training))
    throw new Error(`no float64 meaning of ${value.name} (${value.entry})`);
  const named = Object.entries(namedInputs(value)).filter(([name]) => !(training && name === 'statistics'));
  return {
    spec,
    inputs: Object.fromEntries(named.map(([name, input]) => [name, results.get(input) as Float64Array])),
    shapes: Object.fromEntries(named.map(([name, input]) => [name, resolve(input.shape, batch)])),
    options: builderOptions(value.attributes),
    outputShape: resolve(value.shape, batch),
  };
}

const isStatistics = (value: Value) => value.operator?.name === 'batchNorm' && value.entry === 'statistics';

/**
 * Every value up to the last of `outputs`, in float64. `given` holds inputs and parameters by name. The statistics of
 * training batch norm are left out: their reader computes them.
 */
export function evaluate(
  graph: Graph,
  outputs: readonly Value[],
  given: Readonly<Record<string, ArrayLike<number>>>,
  batch: number,
): Map<Value, Float64Array> {
  const results = new Map<Value, Float64Array>();
  const last = Math.max(...outputs.map((value) => value.id));
  for (const value of graph.values.slice(0, last + 1)) {
    if (isStatistics(value)) continue;
    let result: Float64Array;
    if (value.kind === 'operation') {
      const { spec, inputs, shapes, options, outputShape } = call(value, results, batch);
      result = spec.forward(inputs, shapes, options, outputShape);
    } else {
      const data = value.data ?? given[value.name];
      if (!data) throw new Error(`${value.kind} ${value.name} was not given`);
      result = Float64Array.from(data);
    }
    if (result.length !== size(resolve(value.shape, batch)))
      throw new Error(`${value.name}: ${result.length} elements for [${value.shape}]`);
    results.set(value, result);
  }
  return results;
}

/** Gradients of <y, dy> with respect to every value that y depends on, by walking back over `results` of `evaluate`. */
export function pullBack(
  graph: Graph,
  y: Value,
  dy: Float64Array,
  results: ReadonlyMap<Value, Float64Array>,
  batch: number,
): Map<Value, Float64Array> {
  const arrived = new Map<Value, Float64Array>([[y, dy]]);
  for (const value of graph.values.slice(0, y.id + 1).reverse()) {
    const gradient = arrived.get(value);
    if (!gradient || value.kind !== 'operation') continue;
    const { spec, inputs, shapes, options, outputShape } = call(value, results, batch);
    const produced = spec.gradient?.(inputs, gradient, shapes, options, outputShape);
    if (!produced) throw new Error(`no float64 gradient of ${value.name}`);
    for (const [name, input] of Object.entries(namedInputs(value))) {
      const part = produced[name];
      if (!part) continue;
      const sum = arrived.get(input);
      arrived.set(input, sum ? sum.map((v, i) => v + (part[i] as number)) : part);
    }
  }
  return arrived;
}
