// area: operators
// The float64 references themselves: every gradient against central differences of its forward function, and every operator with all
// of its four files. Touches no backend.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Graph, type Value } from '../src/graph/graph.ts';
import type { Operator } from '../src/graph/operator.ts';
import { size } from '../src/graph/shape.ts';
import { uniform } from './numeric.ts';
import type { Case, OperatorSpec } from './ops/operator-spec.ts';
import type { UpdateSpec } from './ops/update-spec.ts';

/** Operators that update parameters in place have `updateSpecs` instead (test/optimisers.test.ts). */
const specs = import.meta.glob<{ spec?: OperatorSpec; updateSpecs?: readonly UpdateSpec[] }>('./ops/*.ts', {
  eager: true,
});
const definitions = import.meta.glob<Record<string, unknown>>('../src/ops/*.ts', { eager: true });
const stem = (path: string) => path.replace(/^.*\//, '').replace(/\..*$/, '');

/** Input elements up to which a case is differentiated, and elements of one input that are: each costs two forward passes. */
const SMALL = 600;
const TRIED = 100;
/** f is piecewise smooth with slopes and curvatures of order 1: the central difference is off by about h^2 + 1e-16 / h. */
const STEP = 1e-5;
const TOLERANCE = 1e-7;
/** One-sided slopes of smooth places differ by h times the curvature; at a kink (a maximum's tie, a zero of ReLU) by the jump. */
const KINK = 1e-3;

const isOperator = (value: unknown): value is Operator =>
  typeof value === 'object' && value !== null && 'entries' in value && 'params' in value && 'name' in value;

function inputsOf(spec: OperatorSpec, { shapes, fill }: Case): Record<string, Float64Array> {
  const inputs: Record<string, Float64Array> = {};
  for (const [index, name] of spec.inputs.entries()) {
    const shape = shapes[name];
    if (!shape) continue;
    const random = uniform(index + 1);
    const integer = spec.integers?.includes(name) ?? false;
    const otherwise = () => (integer ? Math.floor((random() + 1) * 4) : random());
    inputs[name] = Float64Array.from({ length: size(shape) }, (_, i) => fill?.[name]?.(i, random) ?? otherwise());
  }
  return inputs;
}

/** Shape of y by the definition's rule. */
function outputShape(spec: OperatorSpec, { shapes, options = {} }: Case): readonly number[] {
  const graph = new Graph();
  const values: Record<string, Value> = {};
  for (const name of spec.inputs) {
    const shape = shapes[name];
    const integer = spec.integers?.includes(name) ?? false;
    if (shape) values[name] = graph.input(name, shape, integer ? (spec.bytes?.includes(name) ? 'u8' : 'i32') : 'f32');
  }
  return spec.build(values, options, graph).shape;
}

const small = (testCase: Case) => Object.values(testCase.shapes).reduce((sum, shape) => sum + size(shape), 0) <= SMALL;

describe('references', () => {
  for (const { spec } of Object.values(specs)) {
    if (!spec) continue;
    const differentiable = spec.differentiable ?? spec.inputs.filter((name) => !spec.integers?.includes(name));
    if (!spec.gradient || differentiable.length === 0) continue;
    test(`${spec.operator.name}: gradients are central differences of forward`, () => {
      const seen = new Set<string>();
      let smooth = 0;
      let kinks = 0;
      for (const testCase of spec.cases.filter(small)) {
        const { shapes, options = {} } = testCase;
        const inputs = inputsOf(spec, testCase);
        const shape = outputShape(spec, testCase);
        const random = uniform(99);
        const dy = Float64Array.from({ length: size(shape) }, () => random());
        const loss = () =>
          spec.forward(inputs, shapes, options, shape).reduce((sum, v, i) => sum + v * (dy[i] as number), 0);
        const gradients = spec.gradient?.(inputs, dy, shapes, options, shape) ?? {};
        const here = loss();
        for (const name of differentiable) {
          const x = inputs[name];
          if (!x) continue;
          seen.add(name);
          const gradient = gradients[name] as Float64Array;
          expect(gradient?.length, `${testCase.why}: d${name}`).toBe(x.length);
          const scale = gradient.reduce((a, v) => Math.max(a, Math.abs(v)), 1);
          for (let k = 0; k < Math.min(x.length, TRIED); k++) {
            const i = Math.floor((k * x.length) / Math.min(x.length, TRIED));
            const value = x[i] as number;
            const at = (offset: number) => {
              x[i] = value + offset;
              const result = loss();
              x[i] = value;
              return result;
            };
            const after = at(STEP);
            const before = at(-STEP);
            const where = `${testCase.why}: d${name}[${i}] is ${gradient[i]}, one-sided slopes ${(here - before) / STEP} and ${(after - here) / STEP}`;
            expect(Number.isFinite(gradient[i]), where).toBe(true);
            if (!(Math.abs(after - 2 * here + before) / STEP <= KINK * scale)) {
              kinks++;
              continue;
            }
            let slope = (after - before) / (2 * STEP);
            if (Math.abs((gradient[i] as number) - slope) > TOLERANCE * scale) {
              const wide = (at(2 * STEP) - at(-2 * STEP)) / (4 * STEP);
              if (Math.abs(slope - wide) > KINK * scale) {
                kinks++; // a jump: the slope depends on h
                continue;
              }
              slope = (4 * slope - wide) / 3; // strongly curved (a variance near 0): off by h^4 only
            }
            smooth++;
            expect(Math.abs((gradient[i] as number) - slope), where).toBeLessThanOrEqual(TOLERANCE * scale);
          }
        }
      }
      // At a kink or jump the gradient is a matter of definition: counted, and told.
      if (kinks > 0) console.log(`${spec.operator.name}: ${kinks} of ${kinks + smooth} elements lie at a kink`);
      expect(kinks).toBeLessThan(smooth);
      expect([...seen].sort(), 'inputs that some small case differentiates').toEqual([...differentiable].sort());
    });
  }
});

// Among equal values the first takes the gradient: as if each were a hair larger than those behind it.
describe('ties', () => {
  for (const name of ['maxPool', 'maxout']) {
    test(`${name}: the first of equal maxima`, () => {
      const spec = specs[`./ops/${name}.ts`]?.spec as OperatorSpec;
      const tied = spec.cases.filter(({ fill }) => fill?.x);
      expect(tied.length).toBeGreaterThan(0);
      for (const testCase of tied) {
        const { shapes, options = {} } = testCase;
        const { x } = inputsOf(spec, testCase) as { x: Float64Array };
        const shape = outputShape(spec, testCase);
        const random = uniform(99);
        const dy = Float64Array.from({ length: size(shape) }, () => random());
        const gradient = (values: Float64Array) => spec.gradient?.({ x: values }, dy, shapes, options, shape).x;
        expect(gradient(x), testCase.why).toEqual(gradient(x.map((v, i) => v - i * 1e-9)));
      }
    });
  }
});

describe('every operator has four files', () => {
  const root = new URL('../', import.meta.url);
  const operators = Object.keys(definitions).map(stem).sort();
  const listed = (folder: string, matches: RegExp) =>
    readdirSync(new URL(folder, root))
      .filter((name) => matches.test(name))
      .map(stem);
  // A shader for a family (conv2d.subgroups.wgsl) has the stem of its operator.
  const shaders = [...new Set(listed('shaders', /\.wgsl$/))].sort();
  // Files of asm/ that export no kernel named after themselves (vector.ts, barrier.ts) are shared code.
  const exportsKernel = (name: string) => {
    const kernel = `${name}[A-Z]\\w*\\([^)]*thread: u32, threads: u32,?\\s*\\)`;
    return new RegExp(`^export function ${kernel}`, 'm').test(readFileSync(new URL(`asm/${name}.ts`, root), 'utf8'));
  };
  const twins = listed('asm', /^(?!.*\.(d|generated)\.ts$).*\.ts$/)
    .filter(exportsKernel)
    .sort();
  const specified = Object.entries(specs)
    .filter(([, { spec, updateSpecs }]) => spec ?? updateSpecs)
    .map(([path]) => stem(path))
    .sort();

  test('shaders', () => expect(shaders).toEqual(operators));
  test('twins', () => expect(twins).toEqual(operators));
  test('references', () => expect(specified).toEqual(operators));
  test('definitions and references are of the operator their file is named after', () => {
    for (const [path, module] of Object.entries(definitions)) {
      expect(
        Object.values(module)
          .filter(isOperator)
          .map(({ name }) => name),
        path,
      ).toEqual([stem(path)]);
    }
    for (const [path, { spec }] of Object.entries(specs)) if (spec) expect(spec.operator.name, path).toBe(stem(path));
  });
  test('every spec has cases', () => {
    for (const [path, { spec }] of Object.entries(specs)) if (spec) expect(spec.cases.length, path).toBeGreaterThan(0);
  });
});
