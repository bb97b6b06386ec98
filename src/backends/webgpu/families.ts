import type { FamilyTable } from '../../plan/lowering.ts';
import { families as add } from './families/add.ts';
import { families as batchNorm } from './families/batchNorm.ts';
import { families as conv2d } from './families/conv2d.ts';
import { families as depthwiseConv2d } from './families/depthwiseConv2d.ts';
import { families as l2Pool } from './families/l2Pool.ts';
import { families as linear } from './families/linear.ts';
import { families as lrn } from './families/lrn.ts';
import { families as maxPool } from './families/maxPool.ts';
import { families as pairwiseDistance } from './families/pairwiseDistance.ts';
import { families as prelu } from './families/prelu.ts';
import { families as relu } from './families/relu.ts';
import { families as softmax } from './families/softmax.ts';
import { families as tripletLoss } from './families/tripletLoss.ts';
import { families as tripletSelection } from './families/tripletSelection.ts';
import type { WebGpuAdapter } from './webgpu-backend.ts';

/** Operators with several kernels on this backend. */
export const webgpuFamilies: Readonly<Record<string, FamilyTable<WebGpuAdapter>>> = {
  add,
  batchNorm,
  conv2d,
  depthwiseConv2d,
  l2Pool,
  linear,
  lrn,
  maxPool,
  pairwiseDistance,
  prelu,
  relu,
  softmax,
  tripletLoss,
  tripletSelection,
};
