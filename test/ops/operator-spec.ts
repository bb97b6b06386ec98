import type { Graph, Value } from '../../src/graph/graph.ts';
import type { Attributes, Operator } from '../../src/graph/operator.ts';
import type { Shape } from '../../src/graph/shape.ts';

/** Float64 tensors by name. */
export type Tensors = Readonly<Record<string, Float64Array>>;

/** One case: input shapes, attributes of the builder, and why it is here. */
export interface Case {
  /** Why this case exists: 'one element', 'not a multiple of any tile', 'the branch below epsilon'. */
  readonly why: string;
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Handed to `build` and to the references. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Values of inputs; default: seeded uniform in (-1, 1), exactly representable in f32. */
  readonly fill?: Readonly<Record<string, (index: number, uniform: () => number) => number>>;
  /** Inputs placed as channel ranges of a wider tensor (row stride larger than columns): tests `<tensor>Stride` and `<tensor>Offset`. */
  readonly slices?: readonly string[];
  /** Kept out of the slow software adapters and the browser. */
  readonly large?: boolean;
}

/** The float64 meaning of an operator, and the cases it is held to. Written for clarity alone; never shipped. */
export interface OperatorSpec {
  readonly operator: Operator;
  /** Input tensors in order; integer inputs are listed in `integers`. */
  readonly inputs: readonly string[];
  readonly integers?: readonly string[];
  /** Those of the integers that are bytes (u8) rather than i32. */
  readonly bytes?: readonly string[];
  /** Inputs whose gradient is tested; default: all that are not integers. [] for operators without gradient. */
  readonly differentiable?: readonly string[];
  /** Builds the operator from values through its public builder (so the attributes' defaults are tested as well). */
  build(inputs: Readonly<Record<string, Value>>, options: Readonly<Record<string, unknown>>, graph: Graph): Value;
  /** y in float64. `outputShape` is what the definition's shape rule said. */
  forward(
    inputs: Tensors,
    shapes: Readonly<Record<string, Shape>>,
    options: Readonly<Record<string, unknown>>,
    outputShape: Shape,
  ): Float64Array;
  /** Gradients of <y, dy> in float64, by input name, for every differentiable input. Checked by central differences of `forward`. */
  gradient?(
    inputs: Tensors,
    dy: Float64Array,
    shapes: Readonly<Record<string, Shape>>,
    options: Readonly<Record<string, unknown>>,
    outputShape: Shape,
  ): Record<string, Float64Array>;
  /**
   * Allowed error, as a fraction of the largest expected value: a formula in the reduction length and 2^-24 with its reason in
   * a comment. `what` is 'y' or 'd' + input name.
   */
  bound(
    what: string,
    shapes: Readonly<Record<string, Shape>>,
    options: Readonly<Record<string, unknown>>,
    outputShape: Shape,
  ): number;
  /**
   * Size of the terms that are summed, where cancellation may leave results far below them: errors are relative to the larger of
   * this and the largest expected value. Default 0.
   */
  magnitude?(
    what: string,
    inputs: Tensors,
    dy: Float64Array,
    shapes: Readonly<Record<string, Shape>>,
    options: Readonly<Record<string, unknown>>,
  ): number;
  readonly cases: readonly Case[];
  /** Attributes type check only. */
  readonly attributes?: Attributes;
}
