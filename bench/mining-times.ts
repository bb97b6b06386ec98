// Distances, selection, loss and gradient of a batch of 1,800 embeddings of 128 numbers (45 people x 40), by kernel. The same in Node and in a
// page (mining.ts).
import type { Opened } from '../src/backends/open.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph } from '../src/graph/graph.ts';
import { Philox } from '../src/graph/philox.ts';
import { add } from '../src/ops/add.ts';
import { pairwiseDistance } from '../src/ops/pairwiseDistance.ts';
import { tripletLoss, tripletSummary } from '../src/ops/tripletLoss.ts';
import { type SelectionRule, tripletSelection } from '../src/ops/tripletSelection.ts';
import { Plan } from '../src/plan/plan.ts';
import { Store } from '../src/plan/store.ts';
import { median } from './rounds.ts';

const [people, each, columns] = [45, 40, 128];
const count = people * each;

/** Unit vectors, the same ones always. */
function randomEmbeddings(): Float32Array {
  const random = new Philox(5, 1);
  const signed = () => 2 * random.uniform() - 1;
  const centres = Array.from({ length: people }, () => Array.from({ length: columns }, signed));
  const embeddings = new Float32Array(count * columns);
  for (let i = 0; i < count; i++) {
    const row = (centres[Math.floor(i / each)] as number[]).map((value) => value + 2.5 * signed());
    const norm = Math.hypot(...row);
    row.forEach((value, c) => {
      embeddings[i * columns + c] = value / norm;
    });
  }
  return embeddings;
}

/** Medians over `runs`, as lines for people. */
export async function miningTimes({ backend, why }: Opened, rule: SelectionRule, runs: number): Promise<string[]> {
  const embeddings = randomEmbeddings();
  const graph = new Graph();
  const x = graph.input('x', [count, columns]);
  const labels = graph.input('labels', [count], 'i32');
  const distances = pairwiseDistance(x);
  const key = graph.input('key', [4], 'i32');
  const choice = tripletSelection(distances, labels, { rule, key });
  const { loss, summary } = tripletLoss(distances, labels, choice);
  const [dx] = gradients(loss, [x], graph.constant(Float32Array.of(1), [1]), add);
  if (!dx) throw new Error('mining: no gradient.');
  const store = new Store(backend);
  const plan = await Plan.create(graph, { dx, summary }, backend, store, { batchSize: 1 });
  const all = {
    x: embeddings,
    labels: Int32Array.from({ length: count }, (_, i) => Math.floor(i / each)),
    key: Int32Array.of(1, 0, 0, 1),
  };
  const given = Object.fromEntries(Object.entries(all).filter(([name]) => plan.inputs.includes(name)));
  const found = (await plan.run(given, 1, ['summary'])).summary as Float32Array;
  const wall: number[] = [];
  const times: (readonly number[])[] = [];
  let timing = '';
  for (let run = 0; run < runs; run++) {
    const start = performance.now();
    await plan.run(given, 1, ['summary']);
    wall.push(performance.now() - start);
    const profile = await plan.profile();
    timing = profile.timing;
    times.push(profile.milliseconds);
  }
  const lines = [
    `${count} x ${columns}, ${rule}: ${found[tripletSummary.triplets]} triplets of ${found[tripletSummary.pairs]} pairs, ${found[tripletSummary.active]} active; ${why}; times by ${timing}`,
    `everything, wall clock, median of ${wall.length}: ${median(wall).toFixed(1)} ms`,
    ...plan.steps.map(({ operator, kernel }, index) => {
      const milliseconds = median(times.map((list) => list[index] as number));
      return `${milliseconds.toFixed(1).padStart(8)} ms  ${operator}.${kernel}`;
    }),
  ];
  plan.dispose();
  store.dispose();
  return lines;
}
