import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** Table 2 of the paper, also NN3's. */
// biome-ignore format: a row of the table is a line
export const nn2Rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 16, '5x5': 32, pool: 'max', projection: 32 },
  { name: 'inception3b', '1x1': 64, '3x3reduce': 96, '3x3': 128, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 64 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 256, '3x3reduce': 96, '3x3': 192, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4b', '1x1': 224, '3x3reduce': 112, '3x3': 224, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4c', '1x1': 192, '3x3reduce': 128, '3x3': 256, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4d', '1x1': 160, '3x3reduce': 144, '3x3': 288, '5x5reduce': 32, '5x5': 64, pool: 'l2', projection: 128 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 160, '3x3': 256, '5x5reduce': 64, '5x5': 128, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 48, '5x5': 128, pool: 'l2', projection: 128 },
  { name: 'inception5b', '1x1': 384, '3x3reduce': 192, '3x3': 384, '5x5reduce': 48, '5x5': 128, pool: 'max', projection: 128 },
];

/**
 * NN2, the Inception network of the paper (7.5 M parameters, 1.6 G multiply-adds).
 *
 * The paper has no batch normalisation; `batchNorm` (default true, as OpenFace's NN2) adds it: 7,472,144 parameters with,
 * 7,456,304 without. The paper does not give the range of its pixels; ours is (byte - 127.5) / 128.
 */
export const nn2: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn2',
  source: 'Schroff et al. 2015, Table 2',
  input: { width: 224, height: 224 },
  sizes: 'any',
  dimensions: 128,
  pixels: { scale: 1 / 128, shift: [-127.5 / 128, -127.5 / 128, -127.5 / 128] },
  features: (x, options = {}) => inceptionTrunk(x, { rows: nn2Rows, order: 'paper', batchNorm: true }, options),
});
