import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** Half of nn4.small2's shape with NN2's 5a and 5b; ours. */
// biome-ignore format: a row of the table is a line
const rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 32, '3x3reduce': 48, '3x3': 64, '5x5reduce': 8, '5x5': 16, pool: 'max', projection: 16 },
  { name: 'inception3b', '1x1': 32, '3x3reduce': 48, '3x3': 64, '5x5reduce': 16, '5x5': 32, pool: 'l2', projection: 32 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 64, '3x3': 128, '5x5reduce': 16, '5x5': 32, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 128, '3x3reduce': 48, '3x3': 96, '5x5reduce': 16, '5x5': 32, pool: 'l2', projection: 64 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 80, '3x3': 128, '5x5reduce': 32, '5x5': 64, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 192, '3x3reduce': 96, '3x3': 192, '5x5reduce': 24, '5x5': 64, pool: 'l2', projection: 64 },
  { name: 'inception5b', '1x1': 192, '3x3reduce': 96, '3x3': 192, '5x5reduce': 24, '5x5': 64, pool: 'max', projection: 64 },
];

/**
 * NNS1, "mini Inception", a RECONSTRUCTION. The paper gives the input (165x165), 26 M parameters and 220 M multiply-adds and no
 * layers. So many parameters with so few operations leave room only for a large fully connected layer: this is NN2 at half width
 * without 4b, 4c, 4d, and a hidden layer of 1,328 over the last 6x6 map. Totals: 25.99 M and 221.4 M, within 2 %.
 */
export const nns1: Network = /* @__PURE__ */ defineNetwork({
  name: 'nns1',
  source: 'RECONSTRUCTION: Schroff et al. 2015 publish only input and totals (26 M parameters, 220 M multiply-adds)',
  input: { width: 165, height: 165 },
  sizes: 'shapes',
  dimensions: 128,
  pixels: { scale: 1 / 128, shift: [-127.5 / 128, -127.5 / 128, -127.5 / 128] },
  features: (x, options = {}) =>
    inceptionTrunk(x, { rows, stem: [32, 32, 96], order: 'paper', batchNorm: false, hidden: 1328 }, options),
});
