// on: none swiftshader
// area: training
// Updates of parameters in place: every optimiser against float64 over several steps, the collected cases, clipping.
import { afterAll, describe, expect, test } from 'vitest';
import { Graph, type Value } from '../src/graph/graph.ts';
import { type Shape, size } from '../src/graph/shape.ts';
import { SETTINGS, updateSettings } from '../src/ops/sgdUpdate.ts';
import { clipScale, sumOfSquares } from '../src/ops/sumOfSquares.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import optimiserCases from './cases/optimisers.json' with { type: 'json' };
import { uniform, worstError } from './numeric.ts';
import type { UpdateSpec } from './ops/update-spec.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

const specs = Object.values(
  import.meta.glob<{ updateSpecs?: readonly UpdateSpec[] }>('./ops/*.ts', { eager: true }),
).flatMap(({ updateSpecs }) => updateSpecs ?? []);
const byName = (name: string, slots: number) =>
  specs.find(({ operator, slots: own }) => operator.name === name && own.length === slots) as UpdateSpec;

type Settings = Partial<Record<keyof typeof updateSettings, number>>;

function settingsArray(settings: Settings): Float32Array {
  const array = new Float32Array(SETTINGS);
  for (const [name, at] of Object.entries(updateSettings)) array[at] = settings[name as keyof Settings] ?? 0;
  return array;
}

/** What float32 makes of the settings, by name. */
const rounded = (settings: Settings) =>
  Object.fromEntries(
    Object.keys(updateSettings).map((name) => [name, Math.fround(settings[name as keyof Settings] ?? 0)]),
  );

/** Runs steps on one parameter and returns its slots after each. */
async function run(
  backend: Backend,
  spec: UpdateSpec,
  shape: Shape,
  start: Readonly<Record<string, Float32Array>>,
  steps: readonly { gradient: Float32Array; settings: Settings; scale?: number }[],
) {
  const graph = new Graph();
  const store = new Store(backend);
  const values: Record<string, Value> = {
    gradient: graph.input('gradient', shape),
    settings: graph.input('settings', [SETTINGS]),
  };
  const scaled = steps[0]!.scale !== undefined;
  if (scaled) values.gradientScale = graph.input('gradientScale', [1]);
  for (const slot of spec.slots) {
    values[slot] = graph.parameter(slot, shape);
    store.set(slot, start[slot]!, shape);
  }
  graph.assign(values[spec.slots[0]!]!, spec.build(values));
  const plan = await Plan.create(graph, {}, backend, store, { batchSize: 1 });
  const after: Record<string, Float32Array>[] = [];
  for (const { gradient, settings, scale } of steps) {
    await plan.run({
      gradient,
      settings: settingsArray(settings),
      ...(scaled ? { gradientScale: Float32Array.of(scale!) } : {}),
    });
    after.push(Object.fromEntries(await store.read(spec.slots)));
  }
  plan.dispose();
  store.dispose();
  return after;
}

for (const backend of opened) {
  describe(title(backend), () => {
    for (const spec of specs) {
      for (const [shape, scale] of [
        [[1], undefined],
        [[3, 7, 11], 0.25],
        [[4099], undefined],
      ] as const) {
        test(`${spec.operator.name} of ${spec.slots.join(', ')} on [${shape.join(', ')}]${scale ? ', gradient scaled' : ''}`, async () => {
          const random = uniform(3);
          const numbers = () => Float32Array.from({ length: size(shape) }, random);
          // Second moments and accumulators are never negative.
          const start = Object.fromEntries(
            spec.slots.map((slot) => [slot, /accumulator|second/.test(slot) ? numbers().map(Math.abs) : numbers()]),
          );
          const steps = [1, 2, 3].map((step) => ({
            gradient: numbers(),
            settings: {
              learningRate: 0.05 / step,
              weightDecay: 0.01 * step,
              momentum: 0.9,
              secondMomentum: 0.999,
              epsilon: 1e-3,
              correction: 1 / (1 - 0.9 ** step),
              secondCorrection: 1 / (1 - 0.999 ** step),
              average: 0.75,
            },
            ...(scale && spec.operator.name !== 'emaUpdate' ? { scale } : {}),
          }));
          const actual = await run(backend, spec, shape, start, steps);
          let expected = Object.fromEntries(spec.slots.map((slot) => [slot, Float64Array.from(start[slot]!)]));
          steps.forEach((step, index) => {
            const next = Object.fromEntries(spec.slots.map((slot) => [slot, new Float64Array(size(shape))]));
            for (let i = 0; i < size(shape); i++) {
              const slots = Object.fromEntries(spec.slots.map((slot) => [slot, expected[slot]![i]!]));
              const result = spec.step({
                slots,
                gradient: step.gradient[i]! * (step.scale ?? 1),
                settings: rounded(step.settings),
              });
              for (const slot of spec.slots) next[slot]![i] = result[slot]!;
            }
            expected = next;
            for (const slot of spec.slots) {
              const error = worstError(actual[index]![slot]!, expected[slot]!);
              expect(error, `${slot} after step ${index + 1}`).toBeLessThanOrEqual(
                (index + 1) * spec.roundings * 2 ** -24,
              );
            }
          });
        });
      }
    }

    const given = optimiserCases.cases[0]!;
    const steps = (settings: (t: number) => Settings) =>
      given.gradients.map((gradient, i) => ({ gradient: Float32Array.of(gradient), settings: settings(i + 1) }));

    async function expectPath(
      spec: UpdateSpec,
      start: Record<string, number>,
      settings: (t: number) => Settings,
      parameter: readonly number[],
    ): Promise<void> {
      const arrays = Object.fromEntries(Object.entries(start).map(([name, value]) => [name, Float32Array.of(value)]));
      const path = (await run(backend, spec, [1], arrays, steps(settings))).map((slots) => slots.parameter![0]!);
      parameter.forEach((value, i) =>
        expect(Math.abs(path[i]! - value), `step ${i + 1}: ${path[i]}`).toBeLessThanOrEqual(given.absTolerance),
      );
    }

    test('TR-02: AdaGrad from an accumulator of 0, first gradient 0', async () => {
      const { epsilon, parameter } = given.adagradFromZero;
      await expectPath(
        byName('adagradUpdate', 2),
        { parameter: 1, accumulator: 0 },
        () => ({ learningRate: 0.05, epsilon }),
        parameter,
      );
    });

    test('TR-02: AdaGrad from 0.1 without epsilon', async () => {
      const { epsilon, initialAccumulator, parameter } = given.adagradFromTenth;
      await expectPath(
        byName('adagradUpdate', 2),
        { parameter: 1, accumulator: initialAccumulator },
        () => ({ learningRate: 0.05, epsilon }),
        parameter,
      );
    });

    test('TR-02: Adam', async () => {
      const { beta1, beta2, epsilon, parameter } = given.adam;
      const settings = (t: number) => ({
        learningRate: 0.05,
        momentum: beta1,
        secondMomentum: beta2,
        epsilon,
        correction: 1 / (1 - beta1 ** t),
        secondCorrection: 1 / (1 - beta2 ** t),
      });
      await expectPath(byName('adamUpdate', 3), { parameter: 1, moment: 0, secondMoment: 0 }, settings, parameter);
    });

    test('a gradient of 0 with nothing in the denominator moves nothing', async () => {
      const zero = [
        {
          gradient: new Float32Array(5),
          settings: { learningRate: 1, momentum: 0.9, secondMomentum: 0.999, correction: 10, secondCorrection: 1000 },
        },
      ];
      const start = {
        parameter: Float32Array.of(1, -2, 3, -4, 5),
        accumulator: new Float32Array(5),
        moment: new Float32Array(5),
        secondMoment: new Float32Array(5),
      };
      for (const spec of [byName('adagradUpdate', 2), byName('adamUpdate', 3)]) {
        const [after] = await run(backend, spec, [5], start, zero);
        expect([...after!.parameter!]).toEqual([1, -2, 3, -4, 5]);
      }
    });

    test('clipping: the norm over several tensors, and its factor', async () => {
      const graph = new Graph();
      const [a, b, limit] = [graph.input('a', [2]), graph.input('b', [3]), graph.input('limit', [1])];
      const total = sumOfSquares(b, sumOfSquares(a));
      const store = new Store(backend);
      const plan = await Plan.create(graph, { total, scale: clipScale(total, limit) }, backend, store, {
        batchSize: 1,
      });
      const at = async (most: number, factor = 1) => {
        const inputs = {
          a: Float32Array.of(1, 2).map((v) => v * factor),
          b: Float32Array.of(2, 4, 0).map((v) => v * factor),
          limit: Float32Array.of(most),
        };
        const { total: square, scale } = await plan.run(inputs);
        return [square![0], scale![0]];
      };
      // 1 + 4 + 4 + 16 = 5^2.
      expect(await at(10)).toEqual([25, 1]);
      expect(await at(5)).toEqual([25, 1]);
      expect(await at(0)).toEqual([25, 1]);
      expect(await at(2.5)).toEqual([25, 0.5]);
      expect(await at(1, 0)).toEqual([0, 1]);
      plan.dispose();
      store.dispose();
    });
  });
}
