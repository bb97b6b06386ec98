import { philox4x32 } from '../../src/graph/philox.ts';
import { tripletLoss } from '../../src/ops/tripletLoss.ts';
import { type SelectionRule, tripletSelection, tripletSelectionOperator } from '../../src/ops/tripletSelection.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';
import { reference } from './tripletLoss.ts';

const UNIT = 2 ** -24;

interface Options {
  readonly rule?: SelectionRule;
  readonly margin?: number;
}

/** The choice of each pair, by the words of the rule. */
function select({ distances, labels, key }: Tensors, { rule = 'semi-hard', margin = 0.2 }: Options): Float64Array {
  const count = labels!.length;
  const choice = new Float64Array(count * count).fill(-2);
  const d = (a: number, j: number) => distances![a * count + j]!;
  const all = Array.from({ length: count }, (_, i) => i);
  const best = (list: readonly number[], less: (i: number, j: number) => boolean) =>
    list.reduce((x, y) => (x < 0 || less(y, x) ? y : x), -1);
  for (const a of all) {
    const negatives = all.filter((n) => labels![n] !== labels![a]);
    const positives = all.filter((p) => p !== a && labels![p] === labels![a]);
    const closest = (list: readonly number[]) => best(list, (i, j) => d(a, i) < d(a, j));
    const farthest = (list: readonly number[]) => best(list, (i, j) => d(a, i) > d(a, j));
    for (const p of positives) {
      const beyond = negatives.filter((n) => d(a, n) > d(a, p));
      const within = negatives.filter((n) => d(a, n) < d(a, p) + margin);
      const semiHard = beyond.filter((n) => within.includes(n));
      const draw = (list: readonly number[]) => {
        const [word] = philox4x32([key![2]!, a, p, key![3]!], [key![0]!, key![1]!]);
        return list[Math.floor((word * list.length) / 2 ** 32)] ?? -1;
      };
      choice[a * count + p] = {
        'semi-hard': () => closest(semiHard),
        'semi-hard-random': () => draw(semiHard),
        'semi-hard-all': () => -4,
        'semi-hard-or-easiest': () => (beyond.length > 0 ? closest(beyond) : farthest(negatives)),
        'random-violator': () => (a < p ? draw(within) : -2),
        random: () => draw(negatives),
        'batch-hard': () => (p === farthest(positives) ? closest(negatives) : -2),
        'batch-all': () => -3,
      }[rule]();
    }
  }
  return choice;
}

const spread = (_: number, uniform: () => number) => uniform() + 1;
const key = (i: number) => [-1234567, 89, 4000000000 | 0, 7][i]!;
const rules: readonly SelectionRule[] = [
  'semi-hard',
  'semi-hard-random',
  'semi-hard-all',
  'semi-hard-or-easiest',
  'random-violator',
  'random',
  'batch-hard',
  'batch-all',
];

/**
 * The choice is an integer matrix; what is compared is the sum of the hinges of the chosen triplets, and its gradient by the distances, which
 * counts for every pair how often it was chosen. The wide margin makes every triplet active but a few. Single choices: test/mining.test.ts.
 */
export const spec: OperatorSpec = {
  operator: tripletSelectionOperator,
  inputs: ['distances', 'labels', 'key'],
  integers: ['labels', 'key'],
  build: ({ distances, labels, key: numbers }, options) =>
    tripletLoss(distances!, labels!, tripletSelection(distances!, labels!, { ...options, key: numbers }), {
      margin: options.margin as number,
      reduction: 'sum',
    }).loss,
  forward: (inputs, _, options) =>
    Float64Array.of(
      reference({ ...inputs, choice: select(inputs, options) }, { margin: options.margin as number, reduction: 'sum' })
        .loss,
    ),
  gradient: (inputs, dy, _, options) => ({
    distances: reference(
      { ...inputs, choice: select(inputs, options) },
      { margin: options.margin as number, reduction: 'sum' },
    ).slopes.map((slope) => slope * dy[0]!),
  }),
  // As tripletLoss; a wrong choice is an error of a whole count.
  bound: (what, shapes, { margin }) => ((what === 'y' ? 6 / (margin as number) : 4) + 2 * shapes.labels![0]!) * UNIT,
  cases: [
    ...rules.map((rule) => ({
      why: `${rule}, three people`,
      shapes: { distances: [17, 17], labels: [17], key: [4] },
      options: { rule, margin: 0.7 },
      fill: { distances: spread, labels: (i: number) => (i * i) % 3, key },
    })),
    ...rules.map((rule) => ({
      why: `${rule}, one person: no negative`,
      shapes: { distances: [5, 5], labels: [5], key: [4] },
      options: { rule, margin: 0.7 },
      fill: { distances: spread, labels: () => 3, key },
    })),
    ...rules.map((rule) => ({
      why: `${rule}, collapse: all distances 0`,
      shapes: { distances: [6, 6], labels: [6], key: [4] },
      options: { rule, margin: 0.2 },
      fill: { distances: () => 0, labels: (i: number) => i % 2, key },
    })),
    {
      why: 'one image',
      shapes: { distances: [1, 1], labels: [1] },
      options: { margin: 0.2 },
      fill: { distances: spread },
    },
    ...(['semi-hard', 'random', 'batch-hard'] as const).map((rule) => ({
      why: `${rule}, many positives in each round`,
      shapes: { distances: [131, 131], labels: [131], key: [4] },
      options: { rule, margin: 0.1 },
      fill: { distances: spread, labels: (i: number) => i % 2, key },
    })),
    {
      why: 'semi-hard, candidates handed round in fours',
      shapes: { distances: [132, 132], labels: [132], key: [4] },
      options: { rule: 'semi-hard', margin: 0.1 },
      fill: { distances: spread, labels: (i: number) => i % 2, key },
    },
  ],
};
