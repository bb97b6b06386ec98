import type { Value } from '../graph/graph.ts';
import { globalAveragePool } from '../ops/globalAveragePool.ts';
import {
  type ConcatOrder,
  convUnit,
  halve,
  type InceptionRow,
  inception,
  linearUnit,
  norm,
  plainNames,
  type Style,
} from './blocks.ts';
import { type BuildOptions, widened } from './network.ts';

/** What distinguishes the paper's Inception networks from each other. */
export interface Trunk {
  /** Channels of conv1 (7x7, stride 2) and of the two convolutions of inception (2). Default 64, 64, 192. */
  readonly stem?: readonly [conv1: number, reduce: number, conv2: number];
  readonly rows: readonly InceptionRow[];
  readonly order: ConcatOrder;
  /** Whether convolutions are followed by batch norm unless the caller decides. */
  readonly batchNorm: boolean;
  /** Outputs of a fully connected layer with ReLU that takes the place of the average pool. */
  readonly hidden?: number;
}

/**
 * Table 2 from top to bottom: conv1, pool, norm, inception (2), norm, pool, the rows, average pool, fully connected.
 * x [N, H, W, 3] -> [N, dimensions]. @throws 'input' when a pool without padding does not fit the picture.
 */
export function inceptionTrunk(x: Value, trunk: Trunk, options: BuildOptions): Value {
  const { batchNorm = trunk.batchNorm, bias = true, dimensions = 128 } = options;
  const style: Style = { names: plainNames, bias, norm: batchNorm ? 'batch' : 'none', epsilon: 1e-5, options };
  const [conv1, reduce, conv2] = (trunk.stem ?? [64, 64, 192]).map((channels) => widened(channels, options)) as [
    number,
    number,
    number,
  ];

  let y = convUnit(x, 'conv1', conv1, { kernel: 7, stride: 2, padding: 3 }, style);
  y = norm(halve(y, 'pool1'), 'norm1', options);
  y = convUnit(y, 'inception2/3x3reduce', reduce, { kernel: 1 }, style);
  y = convUnit(y, 'inception2/3x3', conv2, { kernel: 3, padding: 1 }, style);
  y = halve(norm(y, 'norm2', options), 'pool2');
  for (const row of trunk.rows) y = inception(y, row, trunk.order, style);
  if (trunk.hidden)
    return linearUnit(linearUnit(y, 'hidden', widened(trunk.hidden, options), 'relu'), 'embedding', dimensions);
  return linearUnit(
    x.graph.scope('average', () => globalAveragePool(y)),
    'embedding',
    dimensions,
  );
}
