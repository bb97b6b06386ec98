import type { Shapes } from '../../../graph/operator.ts';
import { linearOperator } from '../../../ops/linear.ts';
import type { FamilyTable, Views } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import {
  bestTile,
  type Convolution,
  chunkedWeightGradientLowering,
  forwardLowering,
  hasSubgroupTiles,
  inputGradientLowering,
  isSplit,
  isVec4,
  splitLowering,
  weightGradientLowering,
} from './conv2d.ts';

/** A linear layer is a convolution: an image of 1 x positions pixels under a window of the same size gives one pixel. */
function problemOf(entry: keyof typeof linearOperator.entries, shapes: Shapes, attributes: object): Convolution {
  const { batch, positions, channels, outputs, relu } = linearOperator.entries[entry].params(
    shapes,
    attributes as never,
  ) as Record<string, number>;
  return {
    batch,
    height: 1,
    width: positions,
    channels,
    outHeight: 1,
    outWidth: 1,
    outChannels: outputs,
    kernelHeight: 1,
    kernelWidth: positions,
    strideY: 1,
    strideX: 1,
    padTop: 0,
    padLeft: 0,
    relu,
    gridHeight: 1,
    gridWidth: 1,
    stepY: 1,
    stepX: 1,
    startY: 0,
    startX: 0,
  } as Convolution;
}

/** Whether a row of the tensor, positions * channels numbers, is contiguous. */
const isDense = (shapes: Shapes, views: Views, tensor: string) => {
  const shape = shapes[tensor];
  return (
    shape !== undefined &&
    (shape.length === 2 || views[tensor] === undefined || views[tensor].stride === shape[shape.length - 1])
  );
};

/** The order of the plain kernels has no name. */
const PLAIN = '';

/** Large weights come in parts as large as a buffer may be: packed they must not become larger. */
const STORED = { padded: false };

/** Kernels of linear: those of conv2d. */
export const families: FamilyTable<WebGpuAdapter> = [
  {
    entry: 'forward',
    name: 'split',
    order: 'split',
    when: (shapes, attributes, adapter, views) =>
      isVec4(shapes, views, 'x', 'y') && isSplit(problemOf('forward', shapes, attributes), adapter),
    lower(shapes, attributes, adapter) {
      const problem = problemOf('forward', shapes, attributes);
      const tile = bestTile(problem, adapter, true, STORED);
      const roles = { x: 'x', bias: 'bias', y: 'y' };
      return splitLowering(forwardLowering(problem, tile, roles), problem, tile, roles);
    },
  },
  {
    entry: 'forward',
    name: 'tiles',
    order: PLAIN,
    when: (shapes, _, __, views) => isVec4(shapes, views, 'y'),
    lower(shapes, attributes, adapter, views) {
      const problem = problemOf('forward', shapes, attributes);
      return forwardLowering(problem, bestTile(problem, adapter, isVec4(shapes, views, 'x'), STORED), {
        x: 'x',
        bias: 'bias',
        y: 'y',
      });
    },
  },
  {
    // dx = dy * weight transposed: a 1x1 convolution whose output pixels are the rows of dx.
    entry: 'inputGradient',
    name: 'tiles',
    order: PLAIN,
    when: (shapes, _, __, views) => isVec4(shapes, views, 'dx') && isDense(shapes, views, 'dx'),
    lower(shapes, attributes, adapter, views) {
      const { width, channels, ...rest } = problemOf('inputGradient', shapes, attributes);
      const features = width * channels;
      const vec4 = isVec4(shapes, views, 'dy');
      const stride = views.dx?.stride ?? channels;
      const rowStride = width === 1 ? stride : features;
      return inputGradientLowering(
        { ...rest, width: 1, kernelWidth: 1, channels: features },
        (problem) => bestTile(problem, adapter, vec4, STORED),
        { dy: 'dy', dx: 'dx' },
        { yStride: rowStride / 4, y4Stride: rowStride / 4 },
      );
    },
  },
  {
    entry: 'weightGradient',
    name: 'subgroups',
    order: PLAIN,
    when: (shapes, _, adapter, views) => hasSubgroupTiles(adapter) && isVec4(shapes, views, 'dy'),
    lower: (shapes, attributes, adapter, views) =>
      weightGradientLowering(
        problemOf('weightGradient', shapes, attributes),
        adapter.subgroups as number,
        isVec4(shapes, views, 'x'),
      ),
  },
  {
    entry: 'weightGradient',
    name: 'chunks',
    order: 'chunks',
    when: (shapes, _, adapter, views) => !adapter.software && isVec4(shapes, views, 'dy'),
    lower: (shapes, attributes, _, views) =>
      chunkedWeightGradientLowering(problemOf('weightGradient', shapes, attributes), isVec4(shapes, views, 'x')),
  },
];
