import { FaceNetError } from '../errors.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { Philox } from '../graph/philox.ts';
import { type Shape, size } from '../graph/shape.ts';
import { add } from '../ops/add.ts';
import { avgPool } from '../ops/avgPool.ts';
import { batchNormTraining } from '../ops/batchNorm.ts';
import { channelPad } from '../ops/channelPad.ts';
import { concat } from '../ops/concat.ts';
import { conv2d } from '../ops/conv2d.ts';
import { cosineMargin } from '../ops/cosineMargin.ts';
import { depthwiseConv2d } from '../ops/depthwiseConv2d.ts';
import { distillation } from '../ops/distillation.ts';
import { globalAveragePool } from '../ops/globalAveragePool.ts';
import { l2Normalize } from '../ops/l2Normalize.ts';
import { l2Pool } from '../ops/l2Pool.ts';
import { linear } from '../ops/linear.ts';
import { lrn } from '../ops/lrn.ts';
import { maxout } from '../ops/maxout.ts';
import { maxPool } from '../ops/maxPool.ts';
import { pairwiseDistance } from '../ops/pairwiseDistance.ts';
import { prelu } from '../ops/prelu.ts';
import { relu } from '../ops/relu.ts';
import { scaleShift } from '../ops/scaleShift.ts';
import { softmaxCrossEntropy } from '../ops/softmaxCrossEntropy.ts';
import { tripletLoss } from '../ops/tripletLoss.ts';
import { Plan } from '../plan/plan.ts';
import type { Backend } from '../plan/runner.ts';
import { Store } from '../plan/store.ts';
import { knownGradients } from './known-gradients.ts';

/*
 * Before the first step each operator that the step uses is given one small problem whose gradient is known, on the device that will train. A
 * driver that computes one gradient as zeros, or wrongly, would otherwise show as a run that learns badly.
 *
 * A gradient is compared by its length and its sums with two seeded patterns of signs: three numbers instead of thousands, which a wrong
 * element changes. They are in known-gradients.ts, and test/gradient-probe.test.ts holds them against float64.
 */

/** A small problem of one operator. */
export interface GradientCase {
  /** What is said when its gradient is wrong. */
  readonly title: string;
  readonly operator: string;
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Attributes of the builder. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Inputs that are whole numbers, with their values. */
  readonly integers?: Readonly<Record<string, readonly number[]>>;
  /** Factor and shift of inputs that are not uniform in [-1, 1). */
  readonly ranges?: Readonly<Record<string, readonly [factor: number, shift: number]>>;
  build(inputs: Readonly<Record<string, Value>>, options: never): Value;
}

/** Relative difference of a known number above which a gradient is wrong: far beyond any order of float32 sums here. */
const TOLERANCE = 1e-3;

const image: Shape = [2, 7, 6, 8];

export const gradientCases: readonly GradientCase[] = [
  convolution('1 x 1', [2, 6, 5, 16], [1, 1, 16, 8], {}),
  convolution('3 x 3', [1, 12, 12, 8], [3, 3, 8, 16], { padding: 1 }),
  convolution('3 x 3, stride 2', [2, 9, 8, 8], [3, 3, 8, 12], { stride: 2, padding: 1 }),
  convolution('5 x 5', [1, 12, 12, 8], [5, 5, 8, 8], { padding: 2 }),
  convolution('7 x 7, stride 2, of pictures', [1, 17, 16, 3], [7, 7, 3, 8], { stride: 2, padding: 3 }),
  {
    title: 'depthwiseConv2d',
    operator: 'depthwiseConv2d',
    shapes: { x: image, weight: [3, 3, 8] },
    options: { padding: 1 },
    build: ({ x, weight }, options) => depthwiseConv2d(x!, weight!, options),
  },
  {
    title: 'linear',
    operator: 'linear',
    shapes: { x: [5, 24], weight: [24, 16], bias: [16] },
    build: ({ x, weight, bias }) => linear(x!, weight!, { bias: bias! }),
  },
  {
    title: 'batchNorm in training form',
    operator: 'batchNorm',
    shapes: { x: image, gamma: [8], beta: [8] },
    build: ({ x, gamma, beta }) => batchNormTraining(x!, { gamma: gamma!, beta: beta! }).y,
  },
  window('maxPool', 'stride 2', { size: 3, stride: 2, padding: 1 }, maxPool),
  window('maxPool', 'stride 1', { size: 3, stride: 1, padding: 1 }, maxPool),
  window('l2Pool', 'stride 1', { size: 3, stride: 1, padding: 1 }, l2Pool),
  window('avgPool', 'stride 2', { size: 3, stride: 2, padding: 1 }, avgPool),
  unary('globalAveragePool', image, globalAveragePool),
  unary('lrn', image, (x) => lrn(x, { alpha: 0.5 })),
  unary('relu', image, relu),
  unary('maxout', [5, 16], (x) => maxout(x, { pieces: 2 })),
  unary('l2Normalize', [5, 16], (x) => l2Normalize(x)),
  unary('scaleShift', [5, 16], (x) => scaleShift(x, { scale: 3 })),
  unary('channelPad', image, (x) => channelPad(x, { channels: 12, bottom: 1, right: 1 })),
  {
    title: 'prelu',
    operator: 'prelu',
    shapes: { x: image, slope: [8] },
    build: ({ x, slope }) => prelu(x!, slope!),
  },
  { title: 'add', operator: 'add', shapes: { a: image, b: image }, build: ({ a, b }) => add(a!, b!) },
  {
    title: 'concat',
    operator: 'concat',
    shapes: { a: [2, 3, 2, 8], b: [2, 3, 2, 4] },
    build: ({ a, b }) => concat([a!, b!]),
  },
  {
    title: 'pairwiseDistance',
    operator: 'pairwiseDistance',
    shapes: { a: [6, 16] },
    build: ({ a }) => pairwiseDistance(a!),
  },
  {
    title: 'tripletLoss',
    operator: 'tripletLoss',
    shapes: { distances: [5, 5], labels: [5], choice: [5, 5] },
    integers: {
      labels: [1, 1, 2, 2, 2],
      choice: [-2, 3, -2, -2, -2, 2, -2, -2, -2, -2, -2, -2, -2, 1, -1, -2, -2, 0, -2, 1, -2, -2, 1, 0, -2],
    },
    ranges: { distances: [0.2, 1] },
    build: ({ distances, labels, choice }) => tripletLoss(distances!, labels!, choice!).loss,
  },
  {
    title: 'softmaxCrossEntropy',
    operator: 'softmaxCrossEntropy',
    shapes: { logits: [5, 7], labels: [5] },
    integers: { labels: [3, 0, 6, 6, 1] },
    build: ({ logits, labels }) => softmaxCrossEntropy(logits!, labels!).loss,
  },
  {
    title: 'cosineMargin',
    operator: 'cosineMargin',
    shapes: { x: [5, 8], weight: [7, 8], labels: [5] },
    integers: { labels: [3, 0, 6, 6, 1] },
    ranges: { x: [0.3, 0] },
    build: ({ x, weight, labels }) => cosineMargin(x!, weight!, labels!),
  },
  {
    title: 'distillation',
    operator: 'distillation',
    shapes: { x: [5, 8], teacher: [5, 8] },
    build: ({ x, teacher }) => distillation(x!, teacher!),
  },
];

function convolution(title: string, x: Shape, weight: Shape, options: object): GradientCase {
  return {
    title: `conv2d ${title}`,
    operator: 'conv2d',
    shapes: { x, weight, bias: [weight[3] as number] },
    options: options as Record<string, unknown>,
    build: ({ x, weight, bias }, options) => conv2d(x!, weight!, { ...(options as object), bias: bias! }),
  };
}

function window(
  operator: string,
  title: string,
  options: object,
  build: (x: Value, options: never) => Value,
): GradientCase {
  return {
    title: `${operator} ${title}`,
    operator,
    shapes: { x: image },
    options: options as Record<string, unknown>,
    build: ({ x }, options) => build(x!, options),
  };
}

function unary(operator: string, x: Shape, build: (x: Value) => Value): GradientCase {
  return { title: operator, operator, shapes: { x }, build: (inputs) => build(inputs.x!) };
}

/** Values of a case's inputs, and of the gradient that arrives (of `length` elements): the same wherever they are made. */
export function gradientInputs(test: GradientCase): {
  readonly inputs: Readonly<Record<string, Float32Array | Int32Array>>;
  readonly differentiable: readonly string[];
  arriving(length: number): Float32Array;
} {
  const own = gradientCases.findIndex(({ title }) => title === test.title);
  const values = (stream: number, length: number, [factor, shift]: readonly [number, number] = [1, 0]) => {
    const random = new Philox(own, stream);
    return Float32Array.from({ length }, () => factor * (2 * random.uniform() - 1) + shift);
  };
  const names = Object.keys(test.shapes);
  const integers = test.integers ?? {};
  return {
    inputs: Object.fromEntries(
      names.map((name, index) => [
        name,
        integers[name]
          ? Int32Array.from(integers[name])
          : values(index + 1, size(test.shapes[name] as Shape), test.ranges?.[name]),
      ]),
    ),
    differentiable: names.filter((name) => !integers[name] && name !== 'teacher'),
    arriving: (length) => values(0, length),
  };
}

/** The three numbers a gradient is known by: its length, and its sums with two patterns of signs. */
export function fingerprintOf(gradient: ArrayLike<number>): [length: number, first: number, second: number] {
  const random = new Philox(0x516e);
  const sums = [0, 0, 0] as [number, number, number];
  for (let i = 0; i < gradient.length; i++) {
    const value = gradient[i] as number;
    const bits = random.uint32();
    sums[0] += value * value;
    sums[1] += (bits & 1) === 1 ? value : -value;
    sums[2] += (bits & 2) === 2 ? value : -value;
  }
  return [Math.sqrt(sums[0]), sums[1], sums[2]];
}

/**
 * Computes the known gradients of `operators` on a device, but of those in `passed`, and adds them there.
 * @throws 'device' naming the operator, the input and both numbers when one is wrong.
 */
export async function checkGradients(
  backend: Backend,
  operators: ReadonlySet<string>,
  passed: Set<string>,
): Promise<void> {
  const cases = gradientCases.filter(({ operator }) => operators.has(operator) && !passed.has(operator));
  if (cases.length === 0) return;
  const graph = new Graph();
  const given: Record<string, ArrayBufferView> = {};
  const outputs: Record<string, Value> = {};
  for (const test of cases) {
    const { inputs, differentiable, arriving } = gradientInputs(test);
    const values: Record<string, Value> = {};
    const at = (name: string) => `${test.title}: ${name}`;
    for (const [name, data] of Object.entries(inputs)) {
      values[name] = graph.input(at(name), test.shapes[name] as Shape, data instanceof Int32Array ? 'i32' : 'f32');
      given[at(name)] = data;
    }
    const y = test.build(values, (test.options ?? {}) as never);
    given[at('arriving')] = arriving(size(y.shape));
    const wanted = differentiable.map((name) => values[name] as Value);
    const found = gradients(y, wanted, graph.input(at('arriving'), y.shape), add);
    differentiable.forEach((name, index) => {
      outputs[at(name)] = found[index] as Value;
    });
  }
  const store = new Store(backend);
  try {
    // Not fused: each operator by itself, so that the name that is said is the right one.
    const plan = await Plan.create(graph, outputs, backend, store, { batchSize: 1, fuse: false });
    try {
      compare(cases, await plan.run(given));
    } finally {
      plan.dispose();
    }
  } finally {
    store.dispose();
  }
  for (const { operator } of cases) passed.add(operator);
}

function compare(cases: readonly GradientCase[], results: Readonly<Record<string, Float32Array>>): void {
  for (const { title } of cases) {
    for (const [name, expected] of Object.entries(knownGradients[title] ?? {})) {
      const found = fingerprintOf(results[`${title}: ${name}`] as Float32Array);
      const wrong = expected.findIndex(
        (value, i) => !(Math.abs((found[i] as number) - value) <= TOLERANCE * expected[0]),
      );
      if (wrong < 0) continue;
      const dead = found[0] === 0 ? ' It is 0 everywhere.' : '';
      throw new FaceNetError(
        'device',
        `train: the gradient of ${title} for ${name} must have length ${expected[0]} and sums ${expected[1]}, ${expected[2]} in a known problem, got ${found.map((value) => Number(value.toPrecision(6))).join(', ')}.${dead} This device computes it wrongly: take another backend or driver.`,
      );
    }
  }
}
