import type { InceptionRow } from './blocks.ts';
import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';

/** A fraction of Table 2; ours. */
// biome-ignore format: a row of the table is a line
const rows: readonly InceptionRow[] = [
  { name: 'inception3a', '1x1': 16, '3x3reduce': 16, '3x3': 16, '5x5reduce': 8, '5x5': 8, pool: 'max', projection: 8 },
  { name: 'inception3c', '1x1': 0, '3x3reduce': 16, '3x3': 32, '5x5reduce': 8, '5x5': 16, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception4a', '1x1': 32, '3x3reduce': 24, '3x3': 48, '5x5reduce': 8, '5x5': 16, pool: 'l2', projection: 16 },
  { name: 'inception4e', '1x1': 0, '3x3reduce': 32, '3x3': 64, '5x5reduce': 8, '5x5': 16, pool: 'max', projection: 0, stride: 2 },
  { name: 'inception5a', '1x1': 64, '3x3reduce': 48, '3x3': 96, '5x5reduce': 8, '5x5': 16, pool: 'max', projection: 32 },
];

/**
 * NNS2, "tiny Inception", a RECONSTRUCTION. The paper gives the input (140x116; read as rows x columns, as its tables are), 4.3 M
 * parameters and 20 M multiply-adds and no layers. Five small blocks and a hidden layer of 968 over the last 5x4 map.
 * Totals: 4.29 M and 19.8 M, within 2 %.
 */
export const nns2: Network = /* @__PURE__ */ defineNetwork({
  name: 'nns2',
  source: 'RECONSTRUCTION: Schroff et al. 2015 publish only input and totals (4.3 M parameters, 20 M multiply-adds)',
  input: { width: 116, height: 140 },
  sizes: 'shapes',
  dimensions: 128,
  pixels: { scale: 1 / 128, shift: [-127.5 / 128, -127.5 / 128, -127.5 / 128] },
  features: (x, options = {}) =>
    inceptionTrunk(x, { rows, stem: [8, 16, 32], order: 'paper', batchNorm: false, hidden: 968 }, options),
});
