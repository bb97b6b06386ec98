import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** OpenFace nn4.small1: NN4 without 4c and 4d. */
// biome-ignore format: a row of the table is a line
const rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 16, '5x5': 32, pool: 'max', projection: 32 },
  { name: 'inception3b', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 64 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 256, '3x3reduce': 96, '3x3': 192, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4b', '1x1': 224, '3x3reduce': 112, '3x3': 224, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 160, '3x3': 256, '5x5reduce': 64, '5x5': 128, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'l2', projection: 128 },
  { name: 'inception5b', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'max', projection: 128 },
];

/**
 * OpenFace's nn4.small1 (5,579,520 parameters, 239.4 M multiply-adds).
 */
export const nn4Small1: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn4.small1',
  source: 'OpenFace models/openface/nn4.small1.def.lua',
  input: { width: 96, height: 96 },
  sizes: 'any',
  dimensions: 128,
  pixels: { scale: 1 / 255, shift: [0, 0, 0] },
  features: (x, options = {}) => inceptionTrunk(x, { rows, order: 'openface', batchNorm: true }, options),
});
