import type { Value } from '../graph/graph.ts';
import { add } from '../ops/add.ts';
import { avgPool } from '../ops/avgPool.ts';
import { channelPad } from '../ops/channelPad.ts';
import { globalAveragePool } from '../ops/globalAveragePool.ts';
import { linear } from '../ops/linear.ts';
import { maxPool } from '../ops/maxPool.ts';
import { relu } from '../ops/relu.ts';
import { convUnit, type Style } from './blocks.ts';
import { type BuildOptions, defineNetwork, type Network, widened } from './network.ts';

/** Every convolution carries a bias and, behind it, a learnt factor and offset per channel: dlib's batch norm, already folded. */
const style = (options: BuildOptions): Style => ({
  names: (layer) => ({
    weight: `${layer}/conv/filters`,
    bias: `${layer}/conv/bias`,
    gamma: `${layer}/scale/weights`,
    beta: `${layer}/scale/biases`,
  }),
  bias: true,
  norm: 'affine',
  options,
});

/** relu(scale(conv(relu(scale(conv(x))))) + x); both convolutions 3x3, stride 1, same size. */
function residual(x: Value, name: string, s: Style): Value {
  const channels = x.shape[3] as number;
  const inner = convUnit(x, `${name}/conv1`, channels, { kernel: 3, padding: 1 }, s);
  const outer = convUnit(inner, `${name}/conv2`, channels, { kernel: 3, padding: 1, activation: 'none' }, s);
  return x.graph.scope(name, () => relu(add(outer, x)));
}

/**
 * The same at half the size: the first convolution has stride 2 and no padding, the shortcut is a 2x2 average. Where the
 * averaged map is a row and a column larger (even sizes), the convolutions' result is filled up with zeros at the bottom and right; where
 * it has fewer channels, it gets channels of zeros.
 */
function residualDown(x: Value, name: string, channels: number, s: Style): Value {
  const inner = convUnit(x, `${name}/conv1`, channels, { kernel: 3, stride: 2 }, s);
  const outer = convUnit(inner, `${name}/conv2`, channels, { kernel: 3, padding: 1, activation: 'none' }, s);
  return x.graph.scope(name, () => {
    const pooled = avgPool(x, { size: 2, stride: 2 });
    const bottom = (pooled.shape[1] as number) - (outer.shape[1] as number);
    const right = (pooled.shape[2] as number) - (outer.shape[2] as number);
    const branch = bottom || right ? channelPad(outer, { channels, bottom, right }) : outer;
    return relu(add(branch, pooled.shape[3] === channels ? pooled : channelPad(pooled, { channels })));
  });
}

/**
 * dlib's face recognition ResNet (King 2017), in the form face-api.js gives it: 29 convolutions, 128-d, picture 150x150.
 * Parameter names, shapes and layout (HWIO, [in, out]) are those of face_recognition_model-weights_manifest.json.
 *
 * `pixels` is face-api.js's (x - mean) / 255; dlib itself divides by 256.
 */
export const dlibResnet: Network = /* @__PURE__ */ defineNetwork({
  name: 'dlib-resnet',
  source:
    'dlib dnn_face_recognition_resnet_model_v1, layers and names of @vladmandic/face-api 1.7.15 FaceRecognitionNet',
  input: { width: 150, height: 150 },
  sizes: 'any',
  dimensions: 128,
  pixels: { scale: 1 / 255, shift: [-122.782 / 255, -117.001 / 255, -104.298 / 255] },
  features(x, options = {}) {
    const s = style(options);
    const wide = (channels: number) => widened(channels, options);
    let y = convUnit(x, 'conv32_down', wide(32), { kernel: 7, stride: 2 }, s);
    y = x.graph.scope('pool', () => maxPool(y, { size: 3, stride: 2 }));
    for (const name of ['conv32_1', 'conv32_2', 'conv32_3']) y = residual(y, name, s);
    y = residualDown(y, 'conv64_down', wide(64), s);
    for (const name of ['conv64_1', 'conv64_2', 'conv64_3']) y = residual(y, name, s);
    y = residualDown(y, 'conv128_down', wide(128), s);
    for (const name of ['conv128_1', 'conv128_2']) y = residual(y, name, s);
    y = residualDown(y, 'conv256_down', wide(256), s);
    for (const name of ['conv256_1', 'conv256_2']) y = residual(y, name, s);
    y = residualDown(y, 'conv256_down_out', wide(256), s);
    return x.graph.scope('fc', () =>
      linear(globalAveragePool(y), x.graph.parameter('fc', [y.shape[3] as number, options.dimensions ?? 128])),
    );
  },
});
