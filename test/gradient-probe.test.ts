// A device that computes one gradient wrongly is named before the first step. The numbers it is held to are those of the float64 oracles.
// area: training
// on: none lavapipe
import { afterAll, describe, expect, test } from 'vitest';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import type { Backend, Program } from '../src/plan/runner.ts';
import type { Step } from '../src/plan/step.ts';
import { checkGradients, fingerprintOf, gradientCases, gradientInputs } from '../src/train/gradient-probe.ts';
import { knownGradients } from '../src/train/known-gradients.ts';
import { Trainer } from '../src/train/trainer.ts';
import { backends, title } from './backends.ts';
import { specs } from './conformance.ts';
import { tinyModel, tinyPeople } from './training-net.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});
const operators = new Set(gradientCases.map(({ operator }) => operator));

/** Options that a case writes into its builder, for the oracle. */
const built: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  lrn: { alpha: 0.5 },
  maxout: { pieces: 2 },
  scaleShift: { scale: 3 },
  channelPad: { channels: 12, bottom: 1, right: 1 },
};

/** The three numbers of every gradient of a case, by its float64 oracle. */
function byOracle(test: (typeof gradientCases)[number]) {
  const spec = specs.find(({ operator }) => operator.name === test.operator)!;
  const { inputs, differentiable, arriving } = gradientInputs(test);
  const graph = new Graph();
  const values: Record<string, Value> = {};
  for (const [name, data] of Object.entries(inputs))
    values[name] = graph.input(name, test.shapes[name] as Shape, data instanceof Int32Array ? 'i32' : 'f32');
  const { shape } = test.build(values, (test.options ?? {}) as never);
  const exact = Object.fromEntries(Object.entries(inputs).map(([name, data]) => [name, Float64Array.from(data)]));
  const dy = Float64Array.from(arriving(size(shape)));
  const options = { ...test.options, ...built[test.title] };
  const found = spec.gradient!(exact, dy, test.shapes, options, shape);
  return Object.fromEntries(
    differentiable.map((name) => [name, fingerprintOf(found[name]!).map((value) => Number(value.toPrecision(7)))]),
  );
}

test('the known numbers are those of the float64 oracles', () => {
  const expected = Object.fromEntries(gradientCases.map((item) => [item.title, byOracle(item)]));
  expect(knownGradients, JSON.stringify(expected)).toEqual(expected);
});

test('every operator that can be differentiated has a known gradient', () => {
  const differentiable = specs
    .map(({ operator }) => operator)
    .filter(({ entries }) => Object.values(entries).some(({ gradient }) => gradient))
    .map(({ name }) => name);
  // In no network's or loss's path: ranges (their gradient is seen through concat), and what is used outside of training.
  expect(differentiable.filter((name) => !operators.has(name)).sort()).toEqual([
    'copy',
    'resize',
    'slice',
    'softmax',
    'sumOfSquares',
  ]);
});

/** A backend that leaves a kernel out, so that its result stays as the memory was, or writes NaN there first. */
function faulty(backend: Backend, kernel: string, fill?: number): Backend {
  return new Proxy(backend, {
    get(target, name) {
      if (name === 'prepare') {
        return (steps: readonly Step[]): Promise<Program> => {
          const kept = steps.filter((step) => {
            if (`${step.operator}.${step.kernel}` !== kernel) return true;
            for (const ref of Object.values(step.tensors))
              if (
                ref &&
                fill !== undefined &&
                /^d/.test(kernelOutput(step)) &&
                ref === step.tensors[kernelOutput(step)]
              )
                target.write(ref.buffer, ref.offset * 4, new Float32Array(ref.elements).fill(fill));
            return false;
          });
          return target.prepare(kept);
        };
      }
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
const kernelOutput = (step: Step): string =>
  Object.keys(step.tensors).find((name) => /^d[a-z]+$/.test(name) && name !== 'dy') ?? '';

for (const backend of opened) {
  describe(`gradient probe on ${title(backend)}`, () => {
    test('this device passes, once', async () => {
      const before = backend.counters();
      const passed = new Set<string>();
      await checkGradients(backend, operators, passed);
      expect(passed).toEqual(operators);
      const after = backend.counters();
      expect([after.buffers, after.bytes, after.programs]).toEqual([before.buffers, before.bytes, before.programs]);
      let prepared = 0;
      const counting = new Proxy(backend, {
        get(target, name) {
          if (name === 'prepare') prepared++;
          const value = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      await checkGradients(counting, operators, passed);
      expect(prepared).toBe(0);
    });

    test('every gradient kernel left out, or turned into NaN, is named', async () => {
      // Which kernels the cases run here, by operator.
      const kernels = new Set<string>();
      const seeing = new Proxy(backend, {
        get(target, name) {
          if (name === 'prepare') {
            return (steps: readonly Step[]) => {
              for (const step of steps) if (kernelOutput(step) !== '') kernels.add(`${step.operator}.${step.kernel}`);
              return target.prepare(steps);
            };
          }
          const value = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      await checkGradients(seeing, operators, new Set());
      expect(kernels.size).toBeGreaterThanOrEqual(20);
      for (const kernel of kernels) {
        const [operator] = kernel.split('.') as [string];
        for (const fill of [undefined, Number.NaN]) {
          const error = await checkGradients(faulty(backend, kernel, fill), new Set([operator]), new Set()).then(
            () => undefined,
            (cause: Error) => cause,
          );
          expect(error, `${kernel} ${fill}`).toMatchObject({ code: 'device' });
          expect(error?.message, kernel).toContain(`the gradient of ${operator}`);
        }
      }
    });

    test('a run on such a device ends before its first step', async () => {
      const model = tinyModel(faulty(backend, 'globalAveragePool.inputGradient'));
      const trainer = new Trainer(model, tinyPeople(6, 3), { steps: 3, people: 4, perPerson: 3, seed: 1 });
      await expect(trainer.run().next()).rejects.toThrow(/the gradient of globalAveragePool for x must have length/);
      expect(trainer.step).toBe(0);
      trainer.dispose();
      model.store.dispose();
    });
  });
}
