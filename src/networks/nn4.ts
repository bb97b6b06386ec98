import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** OpenFace nn4: Table 2 without the 5x5 convolutions of 5a and 5b. */
// biome-ignore format: a row of the table is a line
const rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 16, '5x5': 32, pool: 'max', projection: 32 },
  { name: 'inception3b', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 64 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 256, '3x3reduce': 96, '3x3': 192, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4b', '1x1': 224, '3x3reduce': 112, '3x3': 224, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4c', '1x1': 192, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4d', '1x1': 160, '3x3reduce': 144, '3x3': 288, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 160, '3x3': 256, '5x5reduce': 64, '5x5': 128, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'l2', projection: 128 },
  { name: 'inception5b', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 0, '5x5': 0, pool: 'max', projection: 128 },
];

/**
 * NN4 as OpenFace reads it (6,959,088 parameters, 288.9 M multiply-adds).
 *
 * The paper only says that NN4 takes 96x96 pixels, has no 5x5 convolutions in the higher layers, and 285 M multiply-adds.
 */
export const nn4: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn4',
  source: 'OpenFace models/openface/nn4.def.lua: an approximation, the layers of NN4 are not in the paper',
  input: { width: 96, height: 96 },
  sizes: 'any',
  dimensions: 128,
  pixels: { scale: 1 / 255, shift: [0, 0, 0] },
  features: (x, options = {}) => inceptionTrunk(x, { rows, order: 'openface', batchNorm: true }, options),
});
