import type { Value } from '../../src/graph/graph.ts';
import type { Operator } from '../../src/graph/operator.ts';

/** Arrays of one step by name: slots before it, the gradient, settings by name, gradientScale. */
export interface UpdateStep {
  readonly slots: Readonly<Record<string, number>>;
  readonly gradient: number;
  readonly settings: Readonly<Record<string, number>>;
}

/**
 * The float64 meaning of an operator that updates parameters in place (its test is test/optimisers.test.ts; the conformance test knows inputs and
 * outputs, not slots).
 */
export interface UpdateSpec {
  readonly operator: Operator;
  /** Parameters it updates; the first is the one its result is assigned to. */
  readonly slots: readonly string[];
  /** Builds the update; `values` holds slots, gradient, settings, and gradientScale if the case has one. */
  build(values: Readonly<Record<string, Value>>): Value;
  /** New values of the slots of one element; the gradient is scaled already. */
  step(step: UpdateStep): Readonly<Record<string, number>>;
  /** Roundings of a step, as units of 2^-24 of the largest value. */
  readonly roundings: number;
}
