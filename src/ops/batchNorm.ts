import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type KernelStep, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, rows, type Shape, size } from '../graph/shape.ts';

interface BatchNorm extends Attributes {
  readonly epsilon: number;
}
interface Grouped extends BatchNorm {
  /** Equal parts of the batch, each with statistics of its own. */
  readonly groups: number;
}
interface RunningAverage extends Attributes {
  readonly momentum: number;
  readonly factor: number;
  /** Row of the statistics: 0 mean, 1 variance. */
  readonly row: 0 | 1;
}

/** Rows summed one after the other by one invocation; partial results of chunks are then combined by a tree. Fixes the order of all sums. */
const CHUNK = 256;

const strided = ['x', 'y', 'dy', 'dx'];

/** Rows of each group, and the chunks they make. A batch of one image, with which plans count their steps, is one group. */
function grouped(x: Shape, groups: number) {
  const batch = x[0] as number;
  if (batch % groups !== 0 && batch !== 1) {
    throw new FaceNetError('input', `batchNorm: the batch must be a multiple of the ${groups} groups, got ${batch}.`);
  }
  const parts = batch === 1 ? 1 : groups;
  const each = rows(x) / parts;
  return { rows: each, groups: parts, columns: columns(x), chunks: Math.ceil(each / CHUNK) };
}

function checkEpsilon(epsilon: number): void {
  if (!(epsilon >= 0 && Number.isFinite(epsilon))) {
    throw new FaceNetError('input', `batchNorm: epsilon must be a number from 0, got ${epsilon}.`);
  }
}

const perChannel = (x: Shape, tensors: Shapes) => {
  for (const [name, shape] of Object.entries(tensors)) {
    if (shape) requireEqual('batchNorm', name, shape, [columns(x)]);
  }
};

const forward: Entry<BatchNorm> = {
  inputs: ['x', 'mean', 'variance', 'gamma?', 'beta?'],
  output: 'y',
  strided,
  shape({ x, ...tensors }, { epsilon }) {
    checkEpsilon(epsilon);
    perChannel(x as Shape, tensors);
    return x as Shape;
  },
  params: ({ x }, { epsilon }) => ({ ...grouped(x as Shape, 1), epsilon }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  gradient({ y, dy, inputs: { x, mean, variance, gamma, beta }, attributes: { epsilon }, needs }) {
    const attributes: Grouped = { epsilon, groups: 1 };
    const statistics = y.graph.apply(batchNormOperator, 'stack', { mean, variance }, attributes);
    return {
      x: needs('x')
        ? y.graph.apply(batchNormOperator, 'frozenInputGradient', { dy, statistics, gamma }, attributes)
        : undefined,
      ...parameterGradients({ x, dy, statistics, gamma, beta }, attributes, needs),
    };
  },
};

/** Mean and variance as one tensor of statistics, [2, C]. */
const stack: Entry<BatchNorm> = {
  inputs: ['mean', 'variance'],
  output: 'statistics',
  shape: ({ mean }) => [2, columns(mean as Shape)],
  params: ({ mean }, { epsilon }) => ({ rows: 1, groups: 1, chunks: 1, columns: columns(mean as Shape), epsilon }),
  launch: ({ mean }) => ({ invocations: columns(mean as Shape) }),
  lower: ({ mean }) => ({
    steps: [
      {
        kernel: 'stack',
        tensors: { mean: 'mean', variance: 'variance', result: 'statistics' },
        launch: { invocations: columns(mean as Shape) },
      },
    ],
  }),
};

/** dx = dy * gamma / sqrt(variance + epsilon): the statistics are constants. */
const frozenInputGradient: Entry<Grouped> = {
  inputs: ['dy', 'statistics', 'gamma?'],
  output: 'dx',
  strided,
  shape: ({ dy }) => dy as Shape,
  params: ({ dy }, { epsilon, groups }) => ({ ...grouped(dy as Shape, groups), epsilon }),
  launch: ({ dy }) => ({ invocations: size(dy as Shape) }),
};

/** Two kernels: one result for each chunk of rows, then their combination. */
function byChunks(first: string, second: string, inputs: readonly string[], output: string) {
  return (shapes: Shapes, { groups }: Grouped) => {
    const { columns: channels, chunks, groups: parts } = grouped(shapes.x as Shape, groups);
    const steps: KernelStep[] = [
      {
        kernel: first,
        tensors: Object.fromEntries([...inputs, 'partial'].map((name) => [name, name])),
        launch: { invocations: parts * chunks * channels },
      },
      {
        kernel: second,
        tensors: { partial: 'partial', result: output },
        launch: { workgroups: [parts * channels] },
      },
    ];
    return { steps, scratch: { partial: parts * chunks * 2 * channels } };
  };
}

/** [2 groups, C]: for each group the mean and the variance (the mean squared deviation: divided by the number, not by one less). */
const statistics: Entry<Grouped> = {
  inputs: ['x'],
  output: 'statistics',
  strided,
  shape({ x }, { groups, epsilon }) {
    checkEpsilon(epsilon);
    if (!(Number.isInteger(groups) && groups >= 1)) {
      throw new FaceNetError('input', `batchNorm: groups must be a whole number from 1, got ${groups}.`);
    }
    return [2 * groups, columns(x as Shape)];
  },
  params: ({ x }, { epsilon, groups }) => ({ ...grouped(x as Shape, groups), epsilon }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  lower: byChunks('chunkStatistics', 'statisticsOfChunks', ['x'], 'statistics'),
};

const normalise: Entry<Grouped> = {
  inputs: ['x', 'statistics', 'gamma', 'beta'],
  output: 'y',
  strided,
  shape({ x, gamma, beta }) {
    perChannel(x as Shape, { gamma, beta } as Shapes);
    return x as Shape;
  },
  params: ({ x }, { epsilon, groups }) => ({ ...grouped(x as Shape, groups), epsilon }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  // The gradient of x includes the way through the statistics, which therefore get none.
  gradient({ y, dy, inputs: { x, statistics: batch, gamma, beta }, attributes, needs }) {
    const sums = y.graph.apply(batchNormOperator, 'gradientSums', { x, statistics: batch, dy }, attributes);
    return {
      x: needs('x')
        ? y.graph.apply(batchNormOperator, 'inputGradient', { x, dy, statistics: batch, gamma, sums }, attributes)
        : undefined,
      ...parameterGradients({ x, dy, statistics: batch, gamma, beta, sums }, attributes, needs),
    };
  },
};

/** [2 groups, C]: for each group the sum of dy, and the sum of dy times the normalised x. */
const gradientSums: Entry<Grouped> = {
  inputs: ['x', 'statistics', 'dy'],
  output: 'sums',
  strided,
  shape({ x, dy, statistics: batch }) {
    requireEqual('batchNorm.gradientSums', 'dy', dy as Shape, x as Shape);
    return batch as Shape;
  },
  params: ({ x }, { epsilon, groups }) => ({ ...grouped(x as Shape, groups), epsilon }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
  lower: byChunks('chunkSums', 'sumsOfChunks', ['x', 'statistics', 'dy'], 'sums'),
};

/** dx = gamma / deviation * (dy - mean of dy - x normalised * mean of (dy * x normalised)), means over the group. */
const inputGradient: Entry<Grouped> = {
  inputs: ['x', 'dy', 'statistics', 'gamma', 'sums'],
  output: 'dx',
  strided,
  shape: ({ x }) => x as Shape,
  params: ({ x }, { epsilon, groups }) => ({ ...grouped(x as Shape, groups), epsilon }),
  launch: ({ x }) => ({ invocations: size(x as Shape) }),
};

/** Sum over groups of one row of the sums: dbeta (row 0) or dgamma (row 1). */
function parameterGradient(output: 'dgamma' | 'dbeta'): Entry<Grouped> {
  return {
    inputs: ['sums'],
    output,
    shape: ({ sums }) => [columns(sums as Shape)],
    params: ({ sums }, { epsilon, groups }) => ({
      rows: 1,
      groups,
      columns: columns(sums as Shape),
      chunks: 1,
      epsilon,
      row: output === 'dgamma' ? 1 : 0,
    }),
    launch: ({ sums }) => ({ invocations: columns(sums as Shape) }),
    lower: ({ sums }) => ({
      steps: [
        {
          kernel: 'parameterGradient',
          tensors: { sums: 'sums', result: output },
          launch: { invocations: columns(sums as Shape) },
        },
      ],
    }),
  };
}

/** running + momentum * (factor * batch - running), batch being the mean over groups of one row of the statistics. In place. */
const updateAverage: Entry<RunningAverage> = {
  inputs: ['running', 'statistics'],
  output: 'updated',
  inPlace: 'running',
  shape({ running, statistics: batch }) {
    requireEqual('batchNorm.runningAverage', 'running', running as Shape, [columns(batch as Shape)]);
    return running as Shape;
  },
  params: ({ statistics: batch }, { momentum, factor, row }) => ({
    groups: rows(batch as Shape) / 2,
    columns: columns(batch as Shape),
    momentum,
    factor,
    row,
  }),
  launch: ({ running }) => ({ invocations: size(running as Shape) }),
};

export const batchNormOperator = defineOperator({
  name: 'batchNorm',
  params: {
    rows: 'u32',
    columns: 'u32',
    groups: 'u32',
    chunks: 'u32',
    row: 'u32',
    epsilon: 'f32',
    momentum: 'f32',
    factor: 'f32',
  },
  entries: {
    forward,
    stack,
    frozenInputGradient,
    statistics,
    normalise,
    gradientSums,
    inputGradient,
    gammaGradient: parameterGradient('dgamma'),
    betaGradient: parameterGradient('dbeta'),
    runningAverage: updateAverage,
  },
});

function parameterGradients(
  values:
    | Record<'x' | 'dy' | 'statistics' | 'gamma' | 'beta' | 'sums', Value | undefined>
    | Record<string, Value | undefined>,
  attributes: Grouped,
  needs: (input: string) => boolean,
): { gamma?: Value | undefined; beta?: Value | undefined } {
  const { x, dy, statistics: batch, gamma, beta } = values;
  const wantsGamma = gamma !== undefined && needs('gamma');
  const wantsBeta = beta !== undefined && needs('beta');
  if (!wantsGamma && !wantsBeta) return {};
  const { graph } = dy as Value;
  const sums = values.sums ?? graph.apply(batchNormOperator, 'gradientSums', { x, statistics: batch, dy }, attributes);
  return {
    gamma: wantsGamma ? graph.apply(batchNormOperator, 'gammaGradient', { sums }, attributes) : undefined,
    beta: wantsBeta ? graph.apply(batchNormOperator, 'betaGradient', { sums }, attributes) : undefined,
  };
}

/** Statistics and parameters of an inference batch norm, each [C]. */
export interface BatchNormOptions {
  readonly mean: Value;
  readonly variance: Value;
  /** Default: 1. */
  readonly gamma?: Value | undefined;
  /** Default: 0. */
  readonly beta?: Value | undefined;
  /** Added to the variance. Belongs to the weights: 1e-5 and 1e-3 are not interchangeable. Default 1e-5. */
  readonly epsilon?: number;
}

/**
 * Batch normalisation with given statistics: y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, by channel.
 *
 * x [N, H, W, C] or [N, C] -> y of the same shape. Gradients exist for x, gamma and beta; mean and variance are constants. A
 * channel with variance + epsilon = 0 gives beta, and gradient 0.
 * Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015, algorithm 2. @throws 'input' when shapes do not fit.
 */
export function batchNorm(x: Value, { mean, variance, gamma, beta, epsilon = 1e-5 }: BatchNormOptions): Value {
  return x.graph.apply(batchNormOperator, 'forward', { x, mean, variance, gamma, beta }, { epsilon });
}

export interface BatchNormTrainingOptions {
  readonly gamma: Value;
  readonly beta: Value;
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** Equal parts of the batch that are normalised each on its own: a big batch then equals its micro-batches. Default 1. */
  readonly groups?: number;
}

/**
 * Batch normalisation with the statistics of the batch itself, for training.
 *
 * x [N, H, W, C] or [N, C] -> y of the same shape, and `statistics` [2 groups, C]: for each group the mean and the biased
 * variance, for runningAverage(). The gradient of x includes the way through the statistics. A constant channel gives beta.
 * Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015, algorithm 1. @throws 'input' when shapes do not fit; running it,
 * when the batch is no multiple of `groups`.
 */
export function batchNormTraining(
  x: Value,
  { gamma, beta, epsilon = 1e-5, groups = 1 }: BatchNormTrainingOptions,
): { y: Value; statistics: Value } {
  const attributes: Grouped = { epsilon, groups };
  const batch = x.graph.apply(batchNormOperator, 'statistics', { x }, attributes);
  return {
    y: x.graph.apply(batchNormOperator, 'normalise', { x, statistics: batch, gamma, beta }, attributes),
    statistics: batch,
  };
}

/**
 * The update of a running mean or variance [C]: (1 - momentum) * running + momentum * factor * (that row of `statistics`, averaged
 * over groups). In place: assign the result to `running`.
 *
 * `factor` 1 (default) keeps the biased variance; Torch's is the unbiased one: n / (n - 1) for n values a channel.
 */
export function runningAverage(
  running: Value,
  statistics: Value,
  { of, momentum = 0.1, factor = 1 }: { of: 'mean' | 'variance'; momentum?: number; factor?: number },
): Value {
  return running.graph.apply(
    batchNormOperator,
    'runningAverage',
    { running, statistics },
    { momentum, factor, row: of === 'mean' ? 0 : 1 },
  );
}
