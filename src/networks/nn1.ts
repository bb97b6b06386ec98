import type { Value } from '../graph/graph.ts';
import { maxout } from '../ops/maxout.ts';
import { convUnit, halve, linearUnit, norm, plainNames, type Style } from './blocks.ts';
import { type BuildOptions, defineNetwork, type Network, widened } from './network.ts';

const style = (options: BuildOptions): Style => ({
  names: plainNames,
  bias: options.bias ?? true,
  norm: options.batchNorm ? 'batch' : 'none',
  epsilon: 1e-5,
  options,
});

/**
 * NN1, the Zeiler & Fergus network of Table 1, 220x220: 140 M parameters (103 M of them in fc1), 1.6 G multiply-adds.
 *
 * fc1 and fc2 have 8,192 linear units each, of which maxout over 2 pieces makes 4,096 outputs. The parameters of 'rnorm' are not in
 * the paper; ours are GoogLeNet's. Note the order: pool1 before rnorm1, but rnorm2 before pool2.
 * The shape of fc1 depends on the picture's size.
 */
export const nn1: Network = /* @__PURE__ */ defineNetwork({
  name: 'nn1',
  source: 'Schroff et al. 2015, Table 1',
  input: { width: 220, height: 220 },
  sizes: 'shapes',
  dimensions: 128,
  pixels: { scale: 1 / 128, shift: [-127.5 / 128, -127.5 / 128, -127.5 / 128] },
  features(x, options = {}) {
    const s = style(options);
    const conv = (input: Value, name: string, channels: number, kernel: number, stride = 1) =>
      convUnit(input, name, widened(channels, options), { kernel, stride, padding: (kernel - 1) / 2 }, s);
    const connected = (input: Value, name: string) => {
      const units = linearUnit(input, name, 2 * widened(4096, options));
      return x.graph.scope(name, () => maxout(units, { pieces: 2 }));
    };
    let y = conv(x, 'conv1', 64, 7, 2);
    y = norm(halve(y, 'pool1'), 'rnorm1', options);
    y = conv(y, 'conv2a', 64, 1);
    y = conv(y, 'conv2', 192, 3);
    y = halve(norm(y, 'rnorm2', options), 'pool2');
    y = conv(y, 'conv3a', 192, 1);
    y = halve(conv(y, 'conv3', 384, 3), 'pool3');
    y = conv(y, 'conv4a', 384, 1);
    y = conv(y, 'conv4', 256, 3);
    y = conv(y, 'conv5a', 256, 1);
    y = conv(y, 'conv5', 256, 3);
    y = conv(y, 'conv6a', 256, 1);
    y = halve(conv(y, 'conv6', 256, 3), 'pool4');
    return linearUnit(connected(connected(y, 'fc1'), 'fc2'), 'fc7128', options.dimensions ?? 128);
  },
});
