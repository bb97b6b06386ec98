import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** OpenFace nn4.small2: NN4 without 4b, 4c, 4d, and with smaller 5a and 5b. */
// biome-ignore format: a row of the table is a line
const rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 16, '5x5': 32, pool: 'max', projection: 32 },
  { name: 'inception3b', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 64 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 256, '3x3reduce': 96, '3x3': 192, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 160, '3x3': 256, '5x5reduce': 64, '5x5': 128, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 256, '3x3reduce': 96, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'l2', projection: 96 },
  { name: 'inception5b', '1x1': 256, '3x3reduce': 96, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'max', projection: 96 },
];

/**
 * OpenFace's nn4.small2 (3,733,968 parameters, 206.9 M multiply-adds), the network of most people's FaceNet weights.
 *
 * The weights released as nn4.small2.v1 need `pools: 'released'`: they load without, and embed wrongly.
 */
export const nn4Small2: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn4.small2',
  source: 'OpenFace models/openface/nn4.small2.def.lua; pools of the released weights from openface/openfacenet.py',
  input: { width: 96, height: 96 },
  sizes: 'any',
  dimensions: 128,
  pixels: { scale: 1 / 255, shift: [0, 0, 0] },
  features: (x, options = {}) => inceptionTrunk(x, { rows, order: 'openface', batchNorm: true }, options),
});
