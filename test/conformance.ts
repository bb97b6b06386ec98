// Every operator, forward and backward, against its float64 meaning, on one backend. Nothing here knows an operator; run by vitest in
// Node (conformance.test.ts) and in a page (conformance.browser.ts).

import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import { add } from '../src/ops/add.ts';
import { slice } from '../src/ops/slice.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { uniform, worstError } from './numeric.ts';
import type { Case, OperatorSpec } from './ops/operator-spec.ts';

export const specs = Object.values(import.meta.glob<{ spec?: OperatorSpec }>('./ops/*.ts', { eager: true })).flatMap(
  ({ spec }) => (spec ? [spec] : []),
);

/** One tensor's error and what was allowed. */
export interface Outcome {
  readonly what: string;
  readonly error: number;
  readonly bound: number;
  /** What was computed. */
  readonly values: Float32Array;
}

/** Channels of foreign data left and right of an input that is tested as a channel range. */
const MARGIN = 4;

export function caseTitle({ why, shapes, options, slices }: Case): string {
  const parts = Object.entries(shapes).map(([name, shape]) => `${name} ${shape.join('x')}`);
  return `${why} (${parts.join(', ')}${options ? ` ${JSON.stringify(options)}` : ''}${slices ? ` ranges: ${slices.join(', ')}` : ''})`;
}

/** A case as a plan, with what goes in and what its float64 meaning is given. */
export async function planCase(backend: Backend, spec: OperatorSpec, test: Case) {
  const options = test.options ?? {};
  const graph = new Graph();
  const values: Record<string, Value> = {};
  const expectedInputs: Record<string, Float64Array> = {};
  const given: Record<string, ArrayBufferView> = {};
  for (const [index, name] of spec.inputs.entries()) {
    const shape = test.shapes[name];
    if (!shape) continue;
    const random = uniform(index + 1);
    const fill = test.fill?.[name];
    const integer = spec.integers?.includes(name) ?? false;
    const numbers = Float64Array.from({ length: size(shape) }, (_, i) =>
      fill ? fill(i, random) : integer ? Math.floor((random() + 1) * 4) : Math.fround(random()),
    );
    expectedInputs[name] = integer ? numbers : Float64Array.from(numbers, Math.fround);
    const dtype = integer ? (spec.bytes?.includes(name) ? 'u8' : 'i32') : 'f32';
    const typed =
      dtype === 'u8'
        ? Uint8Array.from(numbers)
        : dtype === 'i32'
          ? Int32Array.from(numbers)
          : Float32Array.from(numbers);
    if (test.slices?.includes(name)) {
      const { wide, data } = widen(shape, typed as Float32Array);
      values[name] = slice(graph.input(`${name} wide`, wide), {
        start: MARGIN,
        channels: shape[shape.length - 1] as number,
      });
      given[`${name} wide`] = data;
    } else {
      values[name] = graph.input(name, shape, dtype);
      given[name] = typed;
    }
  }
  const y = spec.build(values, options, graph);
  const outputs: Record<string, Value> = { y };
  const random = uniform(99);
  const dy = Float32Array.from({ length: size(y.shape) }, () => random());
  const differentiable = spec.gradient
    ? (spec.differentiable ?? spec.inputs.filter((name) => !spec.integers?.includes(name))).filter(
        (name) => test.shapes[name],
      )
    : [];
  if (differentiable.length > 0) {
    const seed = graph.input('dy', y.shape);
    given.dy = dy;
    gradients(
      y,
      differentiable.map((name) => values[name] as Value),
      seed,
      add,
    ).forEach((gradient, index) => {
      if (!gradient) throw new Error(`${spec.operator.name}: no gradient for ${differentiable[index]}`);
      outputs[`d${differentiable[index]}`] = gradient;
    });
  }
  const store = new Store(backend);
  const plan = await Plan.create(graph, outputs, backend, store, { batchSize: 1, fuse: false });
  return { plan, store, y, dy, given, expectedInputs, differentiable, options };
}

/** Runs one case and returns the error of y and of every gradient. Throws what the library throws. */
export async function conform(backend: Backend, spec: OperatorSpec, test: Case): Promise<Outcome[]> {
  const { plan, store, y, dy, given, expectedInputs, differentiable, options } = await planCase(backend, spec, test);
  try {
    // Results start as NaN in every slot the plan has, so that an element no kernel writes cannot pass.
    plan.poison();
    const actual = await plan.run(given);
    const magnitude = (what: string) =>
      spec.magnitude?.(what, expectedInputs, Float64Array.from(dy), test.shapes, options) ?? 0;
    const outcomes: Outcome[] = [
      {
        what: 'y',
        error: worstError(
          actual.y as Float32Array,
          spec.forward(expectedInputs, test.shapes, options, y.shape),
          magnitude('y'),
        ),
        bound: spec.bound('y', test.shapes, options, y.shape),
        values: actual.y as Float32Array,
      },
    ];
    const expected = spec.gradient?.(expectedInputs, Float64Array.from(dy), test.shapes, options, y.shape) ?? {};
    for (const name of differentiable) {
      outcomes.push({
        what: `d${name}`,
        error: worstError(actual[`d${name}`] as Float32Array, expected[name] as Float64Array, magnitude(`d${name}`)),
        bound: spec.bound(`d${name}`, test.shapes, options, y.shape),
        values: actual[`d${name}`] as Float32Array,
      });
    }
    return outcomes;
  } finally {
    plan.dispose();
    store.dispose();
  }
}

function widen(shape: Shape, data: Float32Array): { wide: Shape; data: Float32Array } {
  const columns = shape[shape.length - 1] as number;
  const stride = columns + 2 * MARGIN;
  const rows = data.length / columns;
  const wide = new Float32Array(rows * stride).fill(1e3);
  for (let r = 0; r < rows; r++) wide.set(data.subarray(r * columns, (r + 1) * columns), r * stride + MARGIN);
  return { wide: [...shape.slice(0, -1), stride], data: wide };
}
