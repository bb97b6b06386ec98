import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { text } from '../graph/shape.ts';
import { conv2d } from '../ops/conv2d.ts';
import { depthwiseConv2d } from '../ops/depthwiseConv2d.ts';
import { maxPool } from '../ops/maxPool.ts';
import { prelu } from '../ops/prelu.ts';

/** Pixels of the picture behind one cell of the result: sizes must be multiples of it. */
export const TINY_FACE_CELL = 32;

/** Numbers a box: two of its centre, two of its size, one of the belief that it holds a face. */
export const TINY_FACE_BOX = 5;

/** Numbers of a cell: those of its boxes, and three more that nothing reads, since kernels take four channels at a time. */
export const TINY_FACE_NUMBERS = 28;

/** Width and height of the five boxes that each cell refines, in cells. */
export const tinyFaceAnchors: readonly (readonly [width: number, height: number])[] = [
  [1.603231, 2.094468],
  [6.041143, 7.080126],
  [2.882459, 3.518061],
  [4.266906, 5.178857],
  [9.041765, 10.66308],
];

/** What is subtracted from the red, green and blue bytes before they are divided by 255. */
export const tinyFaceMean = [117.001, 114.697, 97.404] as const;

/** Slope of the leaky ReLU below zero: 0.1 in float32. */
const LEAK = Math.fround(0.1);

/** Channels of the separable convolutions behind the first layer. */
const channelsOf = [32, 64, 128, 256, 512] as const;

/** y where it is above zero, a tenth of it elsewhere. */
function leaky(y: Value): Value {
  const channels = y.shape[3] as number;
  return prelu(y, y.graph.constant(new Float32Array(channels).fill(LEAK), [channels]));
}

/**
 * The tiny face detector of face-api.js (a Tiny YOLO v2 of separable convolutions): x [N, size, size, 3], size a multiple of 32, bytes less
 * `tinyFaceMean` over 255 -> [N, size / 32, size / 32, outputs], for each cell and anchor the numbers x, y, width, height and score before
 * sigmoid and exponential (`readTinyFaceBoxes` in src/faces/detection/tiny-face.ts says what they mean), 5 x 5 of them, or more with weights
 * as `wideTinyFace` makes them.
 *
 * Parameters `<prefix>conv0/filters`, `<prefix>conv1/depthwise_filter` ... as in tiny_face_detector_model-weights_manifest.json; depthwise filters
 * [3, 3, channels]. Source: TinyFaceDetector and TinyYolov2Base of @vladmandic/face-api 1.7.15. The leaky ReLU rises everywhere, so that it
 * is taken behind the pool, of a quarter of the values, for the same result. @throws 'input' for another x.
 */
export function tinyFace(x: Value, prefix = '', outputs = tinyFaceAnchors.length * TINY_FACE_BOX): Value {
  const { graph } = x;
  const [, height, width, colours] = x.shape;
  if (x.shape.length !== 4 || colours !== 3 || height !== width || !(height && height % TINY_FACE_CELL === 0)) {
    throw new FaceNetError(
      'input',
      `tiny-face: x must be [N, size, size, 3] with a size divisible by ${TINY_FACE_CELL}, got ${text(x.shape)}.`,
    );
  }
  const filters = (name: string, shape: readonly number[]) => graph.parameter(`${prefix}${name}`, shape);
  let y = graph.scope('conv0', () =>
    halved(conv2d(x, filters('conv0/filters', [3, 3, 3, 16]), { bias: filters('conv0/bias', [16]) })),
  );
  channelsOf.forEach((outputs, index) => {
    const name = `conv${index + 1}`;
    const channels = y.shape[3] as number;
    y = graph.scope(name, () => {
      const depthwise = depthwiseConv2d(y, filters(`${name}/depthwise_filter`, [3, 3, channels]), { padding: 1 });
      const mixed = conv2d(depthwise, filters(`${name}/pointwise_filter`, [1, 1, channels, outputs]), {
        bias: filters(`${name}/bias`, [outputs]),
      });
      return index < 4 ? halved(mixed) : leaky(maxPool(mixed, { size: 2, padding: [0, 0, 1, 1] }));
    });
  });
  return graph.scope('conv8', () =>
    conv2d(y, filters('conv8/filters', [1, 1, 512, outputs]), { bias: filters('conv8/bias', [outputs]) }),
  );
}

/** Largest of each 2x2 block, the last one of an odd size cut off (TensorFlow's SAME), then the leaky ReLU. */
const halved = (y: Value): Value => leaky(maxPool(y, { size: 2, stride: 2, ceil: true }));

/** The detector's weights with `TINY_FACE_NUMBERS` outputs, those that nothing reads zero. Weights as `tinyFace` names them. */
export function wideTinyFace(
  weights: ReadonlyMap<string, { readonly data: Float32Array; readonly shape: readonly number[] }>,
  prefix = '',
) {
  const wide = new Map(weights);
  for (const name of ['conv8/filters', 'conv8/bias'].map((own) => prefix + own)) {
    const given = weights.get(name);
    const outputs = tinyFaceAnchors.length * TINY_FACE_BOX;
    if (given?.shape[given.shape.length - 1] !== outputs) continue;
    const rows = given.data.length / outputs;
    const data = new Float32Array(rows * TINY_FACE_NUMBERS);
    for (let row = 0; row < rows; row++)
      data.set(given.data.subarray(row * outputs, (row + 1) * outputs), row * TINY_FACE_NUMBERS);
    wide.set(name, { data, shape: [...given.shape.slice(0, -1), TINY_FACE_NUMBERS] });
  }
  return wide;
}
