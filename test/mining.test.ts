// on: none swiftshader
// area: training
// Miners, triplet loss and its gradient on the collected cases (test/cases/loss.json, mining.json), and on a batch of the paper's kind.
import { afterAll, describe, expect, test } from 'vitest';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { philox4x32 } from '../src/graph/philox.ts';
import { add } from '../src/ops/add.ts';
import { l2Normalize } from '../src/ops/l2Normalize.ts';
import { pairwiseDistance } from '../src/ops/pairwiseDistance.ts';
import { type TripletLossOptions, tripletLoss, tripletSummary } from '../src/ops/tripletLoss.ts';
import { type SelectionRule, tripletSelection } from '../src/ops/tripletSelection.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { backends, title } from './backends.ts';
import lossCases from './cases/loss.json' with { type: 'json' };
import miningCases from './cases/mining.json' with { type: 'json' };
import { uniform, worstError } from './numeric.ts';

const opened = await backends();
afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

type Triplet = readonly number[];

interface Batch {
  readonly embeddings: readonly (readonly number[])[];
  readonly labels: readonly number[];
  readonly margin?: number;
}
interface Mining extends TripletLossOptions {
  readonly rule?: SelectionRule;
  /** Triplets given instead of mined. */
  readonly triplets?: readonly Triplet[];
  readonly key?: readonly number[];
  readonly squared?: boolean;
  readonly normalise?: boolean;
}

const codes = { none: -1, noPair: -2, everyNegative: -3, everySemiHard: -4 };

/** Runs distances, selection, loss and the gradient by the embeddings. */
async function mine(backend: Backend, { embeddings, labels, margin = 0.2 }: Batch, options: Mining) {
  const graph = new Graph();
  const count = embeddings.length;
  const x = graph.input('x', [count, embeddings[0]!.length]);
  const people = graph.input('labels', [count], 'i32');
  const given: Record<string, ArrayBufferView> = {
    x: Float32Array.from(embeddings.flat()),
    labels: Int32Array.from(labels),
  };
  const e = options.normalise ? l2Normalize(x) : x;
  const distances = pairwiseDistance(e, e, { squared: options.squared ?? true });
  let choice: Value;
  if (options.triplets) {
    const given = new Int32Array(count * count).fill(codes.noPair);
    for (const [a, p, n] of options.triplets) given[a! * count + p!] = n!;
    choice = graph.constant(given, [count, count]);
  } else {
    const key = options.key && graph.input('key', [4], 'i32');
    if (options.key) given.key = Int32Array.from(options.key);
    choice = tripletSelection(distances, people, { rule: options.rule ?? 'semi-hard', margin, key });
  }
  const { loss, summary } = tripletLoss(distances, people, choice, { margin, ...options });
  const [dx] = gradients(loss, [x], graph.constant(Float32Array.of(1), [1]), add);
  const store = new Store(backend);
  const plan = await Plan.create(graph, { distances, choice, loss, summary, dx: dx! }, backend, store, {
    batchSize: 1,
  });
  const result = await plan.run(given);
  plan.dispose();
  store.dispose();
  const indices = new Int32Array(result.choice!.buffer, result.choice!.byteOffset, count * count);
  const total = (name: keyof typeof tripletSummary) => result.summary![tripletSummary[name]]!;
  return {
    distances: result.distances!,
    choice: indices,
    loss: result.loss![0]!,
    total,
    dx: result.dx!,
    triplets: listed(indices, labels, result.distances!, margin),
  };
}

/** The triplets that a choice stands for, in order. */
function listed(choice: Int32Array, labels: readonly number[], distances: Float32Array, margin: number): number[][] {
  const count = labels.length;
  const list: number[][] = [];
  for (let a = 0; a < count; a++) {
    for (let p = 0; p < count; p++) {
      const code = choice[a * count + p]!;
      if (code >= 0) list.push([a, p, code]);
      if (code > codes.everyNegative) continue;
      for (let n = 0; n < count; n++) {
        const [near, far] = [distances[a * count + p]!, distances[a * count + n]!];
        if (
          labels[n] !== labels[a] &&
          (code === codes.everyNegative || (far > near && far < Math.fround(near + margin)))
        )
          list.push([a, p, n]);
      }
    }
  }
  return list;
}

/** Largest |actual - expected|; NaN never passes. */
function expectClose(actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(actual[i]! - value), `value ${i}: ${actual[i]} for ${value}`).toBeLessThanOrEqual(tolerance);
  });
}

const byId = (file: { cases: readonly { id: string }[] }, id: string) =>
  file.cases.find((item) => item.id === id) as never;

for (const backend of opened) {
  describe(`loss on ${title(backend)}`, () => {
    for (const id of ['LM-01a', 'LM-01b', 'LM-01c']) {
      const given = byId(lossCases, id) as Batch & {
        triplets: Triplet[];
        hinges: number[];
        gradient: number[][];
        absTolerance: number;
        what: string;
      };
      test(`${id}: ${given.what}`, async () => {
        const result = await mine(
          backend,
          { ...given, labels: [0, 0, 1] },
          { triplets: given.triplets, reduction: 'sum', squared: id !== 'LM-01c' },
        );
        expectClose([result.loss], given.hinges, given.absTolerance);
        expectClose(result.dx, given.gradient.flat(), given.absTolerance);
      });
    }

    test('LM-01d: through L2 normalisation', async () => {
      const given = byId(lossCases, 'LM-01d') as {
        beforeNormalise: number[][];
        triplets: Triplet[];
        margin: number;
        hinges: number[];
        gradientBeforeNormalise: number[][];
        absTolerance: number;
      };
      const result = await mine(
        backend,
        { embeddings: given.beforeNormalise, labels: [0, 0, 1], margin: given.margin },
        { triplets: given.triplets, reduction: 'sum', normalise: true },
      );
      expectClose([result.loss], given.hinges, given.absTolerance);
      expectClose(result.dx, given.gradientBeforeNormalise.flat(), given.absTolerance);
    });

    for (const id of ['LM-02', 'LM-03', 'LM-06']) {
      const given = byId(lossCases, id) as Batch & {
        what: string;
        reductions: Record<string, number>;
        absTolerance: number;
      };
      test(`${id}: ${given.what}`, async () => {
        for (const [reduction, name] of [
          ['sum', 'sum'],
          ['mean', 'meanOverTriplets'],
          ['active-mean', 'meanOverActive'],
        ] as const) {
          const result = await mine(backend, given, { rule: 'batch-all', reduction });
          expectClose([result.loss], [given.reductions[name]!], given.absTolerance);
          expect(result.total('loss')).toBe(result.loss);
          expect([result.total('triplets'), result.total('active')]).toEqual([
            given.reductions.triplets,
            given.reductions.active,
          ]);
          expect([...result.dx].map(Math.abs)).toEqual(given.embeddings.flat().map(() => 0));
        }
        const pairs = given.labels
          .flatMap((label, a) => given.labels.map((other, p) => a !== p && label === other))
          .filter(Boolean).length;
        const result = await mine(backend, given, { rule: 'semi-hard' });
        expect([result.total('pairs'), result.total('strangers')]).toEqual([
          pairs,
          given.labels.length * (given.labels.length - 1) - pairs,
        ]);
      });
    }

    test('LM-06: collapse, soft margin and selections', async () => {
      const given = byId(lossCases, 'LM-06') as Batch & {
        softMarginPerTriplet: number;
        randomViolatorCandidates: [number, number, number[]][];
      };
      expectClose(
        [(await mine(backend, given, { rule: 'batch-all', reduction: 'mean', softMargin: true })).loss],
        [given.softMarginPerTriplet],
        1e-6,
      );
      for (const rule of ['semi-hard', 'semi-hard-all'] as const)
        expect((await mine(backend, given, { rule })).triplets).toEqual([]);
      const drawn = await mine(backend, given, { rule: 'random-violator', key: [1, 2, 3, 4] });
      expect(drawn.triplets.map(([a, p]) => [a, p])).toEqual(given.randomViolatorCandidates.map(([a, p]) => [a, p]));
      expect([drawn.total('meanPositive'), drawn.total('meanNegative')]).toEqual([0, 0]);
    });

    for (const id of ['LM-09a', 'LM-09b']) {
      const given = byId(lossCases, id) as {
        embeddings: number[][];
        D01: number;
        absTolerance?: number;
        relTolerance?: number;
        what: string;
      };
      test(`${id}: ${given.what}`, async () => {
        const { distances } = await mine(
          backend,
          { embeddings: given.embeddings, labels: [0, 1, 2] },
          { rule: 'batch-all' },
        );
        expectClose([distances[1]!], [given.D01], given.absTolerance ?? given.relTolerance! * given.D01);
        expect([distances[0], distances[2], distances[4], distances[8]]).toEqual([0, 0, 0, 0]);
        expect(distances[3]).toBe(distances[1]);
      });
    }
  });

  describe(`miners on ${title(backend)}`, () => {
    const given = byId(miningCases, 'LM-04') as Batch & Record<string, never>;
    const lists: [SelectionRule, string][] = [
      ['semi-hard', 'semiHardClosest'],
      ['semi-hard-all', 'semiHardAll'],
      ['semi-hard-or-easiest', 'closestBeyondElseFarthest'],
      ['batch-hard', 'batchHard'],
    ];
    for (const [rule, name] of lists) {
      test(`LM-04: ${rule}`, async () => {
        expect((await mine(backend, given, { rule })).triplets).toEqual(given[name]);
      });
    }

    test('LM-04: losses, and the gradient of every semi-hard triplet', async () => {
      for (const [rule, name] of [
        ['semi-hard-all', 'lossSemiHardAll'],
        ['batch-all', 'lossBatchAll'],
        ['semi-hard-or-easiest', 'lossClosestBeyondElseFarthest'],
      ] as const) {
        const expected = given[name] as Record<string, number>;
        for (const [reduction, key] of [
          ['sum', 'sum'],
          ['mean', 'meanOverTriplets'],
          ['active-mean', 'meanOverActive'],
        ] as const) {
          const result = await mine(backend, given, { rule, reduction });
          expectClose([result.loss], [expected[key]!], given.absTolerance as number);
          expect([result.total('triplets'), result.total('active')]).toEqual([expected.triplets, expected.active]);
        }
      }
      const { dx } = await mine(backend, given, { rule: 'semi-hard-all', reduction: 'sum' });
      expectClose(dx, (given.gradientSemiHardAllSum as number[][]).flat(), given.absTolerance as number);
    });

    test('LM-04: a random violator is one of the candidates, the one that Philox names, and pairs without any are skipped', async () => {
      const candidates = given.randomViolatorCandidatesForUnorderedPairs as [number, number, number[]][];
      for (const step of [0, 1, 2]) {
        const key = [20261125, -7, step, 11];
        const expected = candidates.flatMap(([a, p, list]) => {
          const word = philox4x32([step, a, p, 11], [20261125, -7])[0];
          return list.length > 0 ? [[a, p, list[Math.floor((word * list.length) / 2 ** 32)]!]] : [];
        });
        expect((await mine(backend, given, { rule: 'random-violator', key })).triplets).toEqual(expected);
      }
    });

    test('LM-07: labels as a column are refused by their shape', async () => {
      const graph = new Graph();
      const distances = graph.input('d', [6, 6]);
      expect(() => tripletSelection(distances, graph.input('labels', [6, 1], 'i32'))).toThrow(
        /labels must be \[6\], got \[6, 1\]/,
      );
      expect(() => tripletSelection(distances, graph.input('floats', [6]))).toThrow(/labels must be i32, got f32/);
      expect(() => tripletSelection(distances, graph.input('fine', [6], 'i32'), { rule: 'random' })).toThrow(
        /needs a key/,
      );
    });

    test('LM-11: labels beyond 2^24 stay different people', async () => {
      const large = byId(miningCases, 'LM-11') as Batch & {
        triplets: Triplet[];
        hinges: number[];
        absTolerance: number;
      };
      const result = await mine(backend, large, { rule: 'batch-all', reduction: 'sum' });
      expect(result.triplets).toEqual(large.triplets);
      expectClose([result.loss], [large.hinges.reduce((a, b) => a + b)], large.absTolerance);
    });

    // 45 people x 40 images, the paper's batch, on plain wasm; 9 x 20 elsewhere (all of it in the slow tier): the closest semi-hard negative is float64's, unless float32 cannot tell the two apart.
    test('a batch of people: selection, loss and gradient against float64', { timeout: 120_000 }, async () => {
      const random = uniform(5);
      const whole = process.env.FACENET_TIER === 'all' || title(backend) === 'wasm';
      const [people, each, columns] = whole ? [45, 40, 128] : [9, 20, 128];
      const labels = Array.from({ length: people * each }, (_, i) => Math.floor(i / each));
      const centres = Array.from({ length: people }, () => Array.from({ length: columns }, random));
      const embeddings = labels.map((label) => {
        const raw = centres[label]!.map((value) => value + 2.5 * random());
        const norm = Math.hypot(...raw);
        return raw.map((value) => Math.fround(value / norm));
      });
      const margin = 0.2;
      const count = labels.length;
      const d = embeddings.map((a) =>
        embeddings.map((b) => a.reduce((sum, value, c) => sum + (value - b[c]!) ** 2, 0)),
      );
      const result = await mine(backend, { embeddings, labels, margin }, { rule: 'semi-hard', reduction: 'sum' });
      // Each distance: (128 + 4) roundings of at most 2^-24 of its value, below 4.
      const bound = 4 * 132 * 2 ** -24;
      let [different, pairs, strayed, loss] = [0, 0, 0, 0];
      const gradient = embeddings.map((row) => row.map(() => 0));
      for (let a = 0; a < count; a++) {
        for (let p = 0; p < count; p++) {
          const chosen = result.choice[a * count + p]!;
          if (a === p || labels[a] !== labels[p]) {
            if (chosen !== codes.noPair) strayed++;
            continue;
          }
          pairs++;
          const fits = (n: number) =>
            labels[n] !== labels[a] && d[a]![n]! > d[a]![p]! && d[a]![n]! < d[a]![p]! + margin;
          let expected = -1;
          for (let n = 0; n < count; n++) if (fits(n) && (expected < 0 || d[a]![n]! < d[a]![expected]!)) expected = n;
          if (chosen !== expected) {
            different++;
            const value = (n: number) => (n < 0 ? d[a]![p]! + margin : d[a]![n]!);
            const gap = Math.min(
              Math.abs(value(chosen) - value(expected)),
              Math.abs(value(expected) - d[a]![p]!),
              Math.abs(value(chosen) - d[a]![p]!),
            );
            expect(gap, `pair ${a}, ${p}: ${chosen} for ${expected}`).toBeLessThanOrEqual(2 * bound);
          }
          if (chosen < 0) continue;
          loss += d[a]![p]! - d[a]![chosen]! + margin;
          for (let c = 0; c < columns; c++) {
            const [ea, ep, en] = [embeddings[a]![c]!, embeddings[p]![c]!, embeddings[chosen]![c]!];
            gradient[a]![c]! += 2 * (en - ep);
            gradient[p]![c]! += 2 * (ep - ea);
            gradient[chosen]![c]! += 2 * (ea - en);
          }
        }
      }
      expect(pairs).toBe(people * each * (each - 1));
      expect(strayed, 'choices where there is no pair').toBe(0);
      console.log(`${title(backend)}: ${different} of ${pairs} pairs got another negative than in float64`);
      expect(different).toBeLessThan(pairs / 1000);
      expect(result.total('triplets')).toBeGreaterThan(pairs / 2);
      expect(Math.abs(result.loss - loss)).toBeLessThanOrEqual(pairs * 2 * bound);
      // The weights are whole numbers; each of the `count` terms is rounded in the difference, the product and the sum.
      expect(worstError(result.dx, gradient.flat())).toBeLessThanOrEqual((count + 5) * 2 ** -24);
    });
  });
}
