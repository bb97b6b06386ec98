// Does this device compute? Some GPUs give wrong numbers without any error (a phone whose gradients are all zero: tfjs #8590). Before it is
// trusted with a model, each device answers three small questions whose answers are known: a padded convolution, a reduction, and the
// gradient of the convolution's input. The answers come from plain loops over whole numbers, so that no order of a sum matters. Networks
// run the same kernels, so the questions compile next to nothing of their own; all other gradients answer before training
// (train/gradient-probe.ts).
import { FaceNetError } from '../errors.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph } from '../graph/graph.ts';
import { add } from '../ops/add.ts';
import { conv2d } from '../ops/conv2d.ts';
import { l2Normalize } from '../ops/l2Normalize.ts';
import { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import { Store } from '../plan/store.ts';

const [HEIGHT, WIDTH, CHANNELS, OUT, ROWS] = [5, 6, 8, 16, 3];
/** Largest error that is no fault, as a share of the largest answer. */
const TOLERANCE = 1e-4;

/** Whole numbers from -2 to 2, without a pattern that a wrong index would repeat. */
const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => (((i + seed) * 7919 + ((i * i) >> 3) * 104_729) % 5) - 2);

interface Question {
  readonly x: Float32Array;
  readonly weight: Float32Array;
  readonly dy: Float32Array;
  /** Of OUT numbers each, to be normalised. */
  readonly rows: Float32Array;
}

/** One value of x through one tap: to its outputs, and their gradients to its own. By itself, so that it is compiled soon. */
function addProducts(
  y: Float64Array,
  dx: Float64Array,
  { x, weight, dy }: Question,
  value: number,
  output: number,
  tap: number,
): void {
  const factor = x[value] as number;
  let gradient = 0;
  for (let out = 0; out < OUT; out++) {
    y[output + out] = (y[output + out] as number) + factor * (weight[tap + out] as number);
    gradient += (dy[output + out] as number) * (weight[tap + out] as number);
  }
  dx[value] = (dx[value] as number) + gradient;
}

/** What must come out, by the operator asked. */
function answers(question: Question): Readonly<Record<string, Float64Array>> {
  const y = new Float64Array(HEIGHT * WIDTH * OUT);
  const dx = new Float64Array(question.x.length);
  for (let row = 0; row < HEIGHT; row++)
    for (let column = 0; column < WIDTH; column++)
      for (let tap = 0; tap < 9; tap++) {
        const [r, c] = [row + Math.floor(tap / 3) - 1, column + (tap % 3) - 1];
        if (r < 0 || r >= HEIGHT || c < 0 || c >= WIDTH) continue;
        for (let channel = 0; channel < CHANNELS; channel++)
          addProducts(
            y,
            dx,
            question,
            (r * WIDTH + c) * CHANNELS + channel,
            (row * WIDTH + column) * OUT,
            (tap * CHANNELS + channel) * OUT,
          );
      }
  const normalised = Float64Array.from(question.rows);
  for (let start = 0; start < normalised.length; start += OUT) {
    const row = normalised.subarray(start, start + OUT);
    const length = Math.hypot(...row);
    row.forEach((value, i) => {
      row[i] = value / length;
    });
  }
  return { 'conv2d.forward': y, 'l2Normalize.forward': normalised, 'conv2d.inputGradient': dx };
}

/**
 * Lets a device compute what is known. Resolves for one that computes rightly.
 * @throws 'device' naming the operator that is wrong; what running throws ('device-lost', 'memory').
 */
export async function checkAnswers(backend: Backend): Promise<void> {
  const question: Question = {
    x: numbers(HEIGHT * WIDTH * CHANNELS, 1),
    weight: numbers(9 * CHANNELS * OUT, 2),
    dy: numbers(HEIGHT * WIDTH * OUT, 3),
    rows: numbers(ROWS * OUT, 4),
  };
  const graph = new Graph();
  const x = graph.input('x', [1, HEIGHT, WIDTH, CHANNELS]);
  const weight = graph.input('weight', [3, 3, CHANNELS, OUT]);
  const y = conv2d(x, weight, { padding: 1 });
  const [dx = y] = gradients(y, [x], graph.input('dy', y.shape), add);
  const outputs = {
    'conv2d.forward': y,
    'l2Normalize.forward': l2Normalize(graph.input('rows', [ROWS, OUT])),
    'conv2d.inputGradient': dx,
  };
  const store = new Store(backend);
  let plan: Plan | undefined;
  try {
    plan = await Plan.create(graph, outputs, backend, store, { batchSize: 1 });
    const found = await plan.run({ ...question });
    for (const [operator, expected] of Object.entries(answers(question))) {
      const actual = found[operator] as Float32Array;
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      // Written so that NaN is wrong.
      const at = expected.findIndex((value, i) => !(Math.abs((actual[i] as number) - value) <= TOLERANCE * largest));
      if (at < 0) continue;
      throw new FaceNetError(
        'device',
        `${backend.description}: ${operator} must give ${expected[at]} where the answer is known, got ${actual[at]}. Update the driver, or use backend: 'wasm'.`,
      );
    }
  } finally {
    plan?.dispose();
    store.dispose();
  }
}
