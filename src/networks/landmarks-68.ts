import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { text } from '../graph/shape.ts';
import { add } from '../ops/add.ts';
import { avgPool } from '../ops/avgPool.ts';
import { conv2d } from '../ops/conv2d.ts';
import { depthwiseConv2d } from '../ops/depthwiseConv2d.ts';
import { linear } from '../ops/linear.ts';
import { relu } from '../ops/relu.ts';

/** Side of the picture in pixels. */
export const LANDMARKS_SIZE = 112;

/** Points of iBUG 300-W, as dlib numbers them. */
export const LANDMARKS_COUNT = 68;

/** What is subtracted from the red, green and blue bytes before they are divided by 255. */
export const landmarksMean = [122.782, 117.001, 104.298] as const;

/** Channels of the four blocks; each halves the picture. */
const channelsOf = [32, 64, 128, 256] as const;

/**
 * The 68-point landmark network of face-api.js: x [N, 112, 112, 3], bytes less `landmarksMean` over 255 -> [N, 136], x and y of each point as
 * fractions of the picture's side, (0, 0) its first pixel.
 *
 * Four blocks of four convolutions, all but the very first separable; each convolution of a block gets the rectified sum of the results
 * before it. Parameters `<prefix>dense0/conv0/filters`, `<prefix>dense0/conv1/depthwise_filter` ... as in
 * face_landmark_68_model-weights_manifest.json; depthwise filters [3, 3, channels]. Source: FaceLandmark68Net and denseBlock4 of
 * @vladmandic/face-api 1.7.15. @throws 'input' for another x.
 */
export function landmarks68(x: Value, prefix = ''): Value {
  const { graph } = x;
  if (x.shape.length !== 4 || x.shape.slice(1).join() !== `${LANDMARKS_SIZE},${LANDMARKS_SIZE},3`) {
    throw new FaceNetError(
      'input',
      `landmarks-68: x must be [N, ${LANDMARKS_SIZE}, ${LANDMARKS_SIZE}, 3], got ${text(x.shape)}.`,
    );
  }
  const weights = (name: string, shape: readonly number[]) => graph.parameter(`${prefix}${name}`, shape);
  const separable = (input: Value, name: string, outputs: number, stride: 1 | 2): Value => {
    const channels = input.shape[3] as number;
    const depthwise = depthwiseConv2d(input, weights(`${name}/depthwise_filter`, [3, 3, channels]), {
      stride,
      // TensorFlow's SAME: of an even size, stride 2 needs one line more, below and to the right.
      padding: stride === 1 ? 1 : [0, 0, 1, 1],
    });
    return conv2d(depthwise, weights(`${name}/pointwise_filter`, [1, 1, channels, outputs]), {
      bias: weights(`${name}/bias`, [outputs]),
    });
  };
  let y = x;
  channelsOf.forEach((channels, block) => {
    const name = `dense${block}`;
    y = graph.scope(name, () => {
      const first =
        block === 0
          ? conv2d(y, weights(`${name}/conv0/filters`, [3, 3, 3, channels]), {
              bias: weights(`${name}/conv0/bias`, [channels]),
              stride: 2,
              padding: [0, 0, 1, 1],
              activation: 'relu',
            })
          : relu(separable(y, `${name}/conv0`, channels, 2));
      // The sums so far; the original adds from the other end, which differs in the last bit.
      const two = add(separable(first, `${name}/conv1`, channels, 1), first);
      const three = add(separable(relu(two), `${name}/conv2`, channels, 1), two);
      return relu(add(separable(relu(three), `${name}/conv3`, channels, 1), three));
    });
  });
  const pooled = graph.scope('pool', () => avgPool(y, { size: 7, stride: 2 }));
  const outputs = LANDMARKS_COUNT * 2;
  return graph.scope('fc', () =>
    linear(pooled, weights('fc/weights', [channelsOf[3], outputs]), { bias: weights('fc/bias', [outputs]) }),
  );
}
