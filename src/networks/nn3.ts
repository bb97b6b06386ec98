import { inceptionTrunk } from './inception-trunk.ts';
import { defineNetwork, type Network } from './network.ts';
import { nn2, nn2Rows } from './nn2.ts';

/** NN3: NN2 on pictures of 160x160 (Schroff et al. 2015, section 3.3); half the multiply-adds, the same parameters. */
export const nn3: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn3',
  source: 'Schroff et al. 2015, section 3.3: NN2 with input 160x160',
  input: { width: 160, height: 160 },
  sizes: 'any',
  dimensions: 128,
  pixels: nn2.pixels,
  features: (x, options = {}) => inceptionTrunk(x, { rows: nn2Rows, order: 'paper', batchNorm: true }, options),
});
