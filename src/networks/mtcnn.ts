/**
 * MTCNN: three small networks that find faces, from a coarse look at every place and size to five points.
 *
 * Source: Zhang, Zhang, Li and Qiao 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", in
 * the form that davidsandberg/facenet and facenet-pytorch use: RGB, (byte - 127.5) / 128, no padding, every pool rounded up.
 *
 * Weights are in our layout: convolutions [height, width, in, out] for upright images, dense layers [in, out] with `in` flattened row by
 * row, channels last. Both references flatten W, H, C (their weights come from column-major MATLAB): the converter turns the rows.
 */
import { FaceNetError } from '../errors.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { BATCH, text } from '../graph/shape.ts';
import { add } from '../ops/add.ts';
import { conv2d } from '../ops/conv2d.ts';
import { linear } from '../ops/linear.ts';
import { maxPool } from '../ops/maxPool.ts';
import { prelu } from '../ops/prelu.ts';
import { softmax } from '../ops/softmax.ts';

/** What the first layers expect of a byte: byte * scale + shift. */
export const MTCNN_PIXELS = { scale: 1 / 128, shift: -127.5 / 128 } as const;

/** Pixels that one cell of PNet sees, and from one cell to the next. */
export const PNET_CELL = 12;
export const PNET_STRIDE = 2;

/** Channels of PNet's first layer. */
const PNET_FIRST = 10;

/** Sides of the crops that RNet and ONet refine. */
export const RNET_SIZE = 24;
export const ONET_SIZE = 48;

/** Answers of one network: probabilities [..., 2] (the second is that of a face), offsets of the box's sides [..., 4] as shares of its size. */
export interface FaceHeads {
  readonly probabilities: Value;
  readonly offsets: Value;
}

function convolution(x: Value, name: string, kernel: number, channels: number): Value {
  const { graph } = x;
  return graph.scope(name, () =>
    conv2d(x, graph.parameter(`${name}/weight`, [kernel, kernel, x.shape[3] as number, channels]), {
      bias: graph.parameter(`${name}/bias`, [channels]),
    }),
  );
}

function dense(x: Value, name: string, outputs: number): Value {
  const { graph } = x;
  const inputs = x.shape.slice(1).reduce((a, b) => a * b, 1);
  return graph.scope(name, () =>
    linear(x, graph.parameter(`${name}/weight`, [inputs, outputs]), {
      bias: graph.parameter(`${name}/bias`, [outputs]),
    }),
  );
}

function slope(x: Value, name: string): Value {
  const { graph } = x;
  return graph.scope(name, () => prelu(x, graph.parameter(`${name}/slope`, [x.shape[x.shape.length - 1] as number])));
}

const pool = (x: Value, name: string, size: number): Value =>
  x.graph.scope(name, () => maxPool(x, { size, stride: 2, ceil: true }));

function check(name: string, x: Value, side?: number): void {
  const [, height, width, channels] = x.shape;
  const fits =
    x.shape.length === 4 &&
    channels === 3 &&
    (side === undefined
      ? (height as number) >= PNET_CELL && (width as number) >= PNET_CELL
      : height === side && width === side);
  if (!fits) {
    const size = side === undefined ? `height, width (each from ${PNET_CELL})` : `${side}, ${side}`;
    throw new FaceNetError('input', `${name}: x must be [N, ${size}, 3], got ${text(x.shape)}.`);
  }
}

/**
 * The proposal network. x [N, H, W, 3] -> one cell for every second pixel: [N, ceil((H - 2) / 2) - 4, ceil((W - 2) / 2) - 4, 2 and 4];
 * cell (i, j) sees the pixels from (2 i, 2 j), 12 a side.
 * @param bias [N, H - 2, W - 2, 1], added to what comes out of the first layer: far below zero where a picture has ended before x does, so
 * that its last cells are those of the picture alone. @param first channels of the first layer: see `widePnet`. @throws 'input'.
 */
export function pnet(x: Value, bias?: Value, first = PNET_FIRST): FaceHeads {
  check('pnet', x);
  let y = slope(convolution(x, 'pnet/conv1', 3, first), 'pnet/prelu1');
  if (bias) {
    const ones = x.graph.constant(new Float32Array(first).fill(1), [1, 1, 1, first]);
    y = x.graph.scope('pnet/end', () => add(y, conv2d(bias, ones)));
  }
  y = pool(y, 'pnet/pool1', 2);
  y = slope(convolution(y, 'pnet/conv2', 3, 16), 'pnet/prelu2');
  y = slope(convolution(y, 'pnet/conv3', 3, 32), 'pnet/prelu3');
  return {
    probabilities: softmax(convolution(y, 'pnet/conv4-1', 1, 2)),
    offsets: convolution(y, 'pnet/conv4-2', 1, 4),
  };
}

/** Channels of a first layer that has those of `widePnet`: kernels take four at a time. */
export const PNET_WIDE = 12;

/**
 * PNet's weights with `PNET_WIDE` channels in the first layer: two more that are zero and that nothing reads. The answers are the same,
 * since sums get zeros added. Weights as `mtcnnParameters` names them.
 */
export function widePnet(
  weights: ReadonlyMap<string, { readonly data: Float32Array; readonly shape: readonly number[] }>,
) {
  const wide = new Map(weights);
  for (const [name, axis] of [
    ['pnet/conv1/weight', 3],
    ['pnet/conv1/bias', 0],
    ['pnet/prelu1/slope', 0],
    ['pnet/conv2/weight', 2],
  ] as const) {
    const given = weights.get(name);
    if (given?.shape[axis] !== PNET_FIRST) continue;
    const shape = given.shape.map((size, index) => (index === axis ? PNET_WIDE : size));
    const inner = given.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const [from, to] = [PNET_FIRST * inner, PNET_WIDE * inner];
    for (let row = 0; row * from < given.data.length; row++)
      data.set(given.data.subarray(row * from, (row + 1) * from), row * to);
    wide.set(name, { data, shape });
  }
  return wide;
}

/** The refining network. x [N, 24, 24, 3] -> [N, 2], [N, 4]. @throws 'input'. */
export function rnet(x: Value): FaceHeads {
  check('rnet', x, RNET_SIZE);
  let y = pool(slope(convolution(x, 'rnet/conv1', 3, 28), 'rnet/prelu1'), 'rnet/pool1', 3);
  y = pool(slope(convolution(y, 'rnet/conv2', 3, 48), 'rnet/prelu2'), 'rnet/pool2', 3);
  y = slope(convolution(y, 'rnet/conv3', 2, 64), 'rnet/prelu3');
  y = slope(dense(y, 'rnet/dense4', 128), 'rnet/prelu4');
  return { probabilities: softmax(dense(y, 'rnet/dense5-1', 2)), offsets: dense(y, 'rnet/dense5-2', 4) };
}

/** The output network. x [N, 48, 48, 3] -> [N, 2], [N, 4], and points [N, 10]: five x, then five y, as shares of the box. @throws 'input'. */
export function onet(x: Value): FaceHeads & { readonly points: Value } {
  check('onet', x, ONET_SIZE);
  let y = pool(slope(convolution(x, 'onet/conv1', 3, 32), 'onet/prelu1'), 'onet/pool1', 3);
  y = pool(slope(convolution(y, 'onet/conv2', 3, 64), 'onet/prelu2'), 'onet/pool2', 3);
  y = pool(slope(convolution(y, 'onet/conv3', 3, 64), 'onet/prelu3'), 'onet/pool3', 2);
  y = slope(convolution(y, 'onet/conv4', 2, 128), 'onet/prelu4');
  y = slope(dense(y, 'onet/dense5', 256), 'onet/prelu5');
  return {
    probabilities: softmax(dense(y, 'onet/dense6-1', 2)),
    offsets: dense(y, 'onet/dense6-2', 4),
    points: dense(y, 'onet/dense6-3', 10),
  };
}

/** Names and shapes of all weights of the three networks. */
export function mtcnnParameters(): ReadonlyMap<string, readonly number[]> {
  const graph = new Graph();
  pnet(graph.input('pnet', [BATCH, PNET_CELL, PNET_CELL, 3]));
  rnet(graph.input('rnet', [BATCH, RNET_SIZE, RNET_SIZE, 3]));
  onet(graph.input('onet', [BATCH, ONET_SIZE, ONET_SIZE, 3]));
  return new Map(graph.parameters.map(({ name, shape }) => [name, shape]));
}
