import type { Shape } from '../../src/graph/shape.ts';
import { linear, linearOperator } from '../../src/ops/linear.ts';
import type { OperatorSpec, Tensors } from './operator-spec.ts';

const UNIT = 2 ** -24;

function before({ x, weight, bias }: Tensors, [batch, outputs]: Shape): Float64Array {
  const features = weight!.length / outputs!;
  const y = new Float64Array(batch! * outputs!);
  for (let n = 0; n < batch!; n++)
    for (let o = 0; o < outputs!; o++) {
      let sum = bias ? bias[o]! : 0;
      for (let i = 0; i < features; i++) sum += x![n * features + i]! * weight![i * outputs! + o]!;
      y[n * outputs! + o] = sum;
    }
  return y;
}

const relu = (options: Readonly<Record<string, unknown>>) => options.activation === 'relu';

function terms(what: string, batch: number, [features, outputs]: Shape): number {
  return { y: features! + 1, dx: outputs!, dweight: batch, dbias: batch }[what] as number;
}

export const spec: OperatorSpec = {
  operator: linearOperator,
  inputs: ['x', 'weight', 'bias'],
  build: ({ x, weight, bias }, options) => linear(x!, weight!, { ...options, bias }),
  forward: (inputs, _, options, y) => before(inputs, y).map((v) => (relu(options) ? Math.max(v, 0) : v)),
  gradient(inputs, dy, _, options, y) {
    const { x, weight } = inputs as { x: Float64Array; weight: Float64Array };
    const [batch, outputs] = y as [number, number];
    const features = weight.length / outputs;
    const sums = before(inputs, y);
    const g = dy.map((v, i) => (relu(options) && sums[i]! <= 0 ? 0 : v));
    const dx = new Float64Array(x.length);
    const dweight = new Float64Array(weight.length);
    const dbias = new Float64Array(outputs);
    for (let n = 0; n < batch; n++)
      for (let o = 0; o < outputs; o++) {
        const d = g[n * outputs + o]!;
        dbias[o]! += d;
        for (let i = 0; i < features; i++) {
          dx[n * features + i]! += d * weight[i * outputs + o]!;
          dweight[i * outputs + o]! += d * x[n * features + i]!;
        }
      }
    return { x: dx, weight: dweight, bias: dbias };
  },
  // As conv2d: K roundings of random sign, four standard deviations, of partial sums as large as the largest result or sqrt(K) / 3.
  bound: (what, shapes, _, y) => (4 * Math.sqrt(terms(what, y[0]!, shapes.weight!)) + 4) * UNIT,
  magnitude: (what, _, __, shapes) => Math.sqrt(terms(what, shapes.x![0]!, shapes.weight!)) / 3,
  cases: [
    { why: 'one product', shapes: { x: [1, 1], weight: [1, 1] } },
    { why: 'the embedding layer of nn4.small2', shapes: { x: [2, 736], weight: [736, 128], bias: [128] } },
    {
      why: 'an image, flattened row by row',
      shapes: { x: [3, 3, 2, 8], weight: [48, 20], bias: [20] },
      options: { activation: 'relu' },
    },
    { why: 'primes', shapes: { x: [5, 7], weight: [7, 13], bias: [13] } },
    { why: 'primes, an image', shapes: { x: [2, 3, 5, 7], weight: [105, 3] }, options: { activation: 'relu' } },
    { why: 'no bias', shapes: { x: [2, 16], weight: [16, 4] } },
    { why: 'one output', shapes: { x: [9, 33], weight: [33, 1], bias: [1] } },
    { why: 'channel ranges of an image', shapes: { x: [2, 2, 3, 8], weight: [48, 8], bias: [8] }, slices: ['x'] },
    { why: 'channel ranges that no vec4 fits', shapes: { x: [2, 2, 3, 6], weight: [36, 5] }, slices: ['x'] },
    { why: 'rows inside wider rows', shapes: { x: [4, 12], weight: [12, 8], bias: [8] }, slices: ['x'] },
  ],
};
