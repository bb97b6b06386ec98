import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Shapes } from '../graph/operator.ts';
import { columns, requireEqual, requireRank, rows, type Shape, size, text } from '../graph/shape.ts';
import { l2Normalize } from './l2Normalize.ts';

interface CosineMargin extends Attributes {
  readonly scale: number;
  readonly margin: number;
}

function params({ x, weight, cosineSlopes }: Shapes, { scale, margin }: CosineMargin) {
  const batch = rows((x ?? cosineSlopes) as Shape);
  const classes = weight ? rows(weight) : columns(cosineSlopes as Shape);
  return {
    batch,
    classes,
    columns: columns((x ?? weight) as Shape),
    scale,
    cosine: Math.cos(margin),
    sine: Math.sin(margin),
    // Beyond the angle pi - margin cos(angle + margin) would grow again: a straight line goes on from there.
    limit: -Math.cos(margin),
    beyond: Math.sin(margin) * margin,
  };
}

const products = ({ x, weight, cosineSlopes }: Shapes) =>
  size((x ?? weight) as Shape) *
  (weight && x ? rows(weight) : weight ? rows(cosineSlopes as Shape) : columns(cosineSlopes as Shape));

const forward: Entry<CosineMargin> = {
  inputs: ['x', 'weight', 'labels'],
  output: 'y',
  shape({ x, weight, labels }, { scale, margin }) {
    requireRank('cosineMargin', 'x', x as Shape, 2);
    requireRank('cosineMargin', 'weight', weight as Shape, 2);
    if (columns(weight as Shape) !== columns(x as Shape)) {
      throw new FaceNetError(
        'input',
        `cosineMargin: weight must be [classes, ${columns(x as Shape)}] for x ${text(x as Shape)}, got ${text(weight as Shape)}.`,
      );
    }
    requireEqual('cosineMargin', 'labels', labels as Shape, [(x as Shape)[0] as number]);
    if (!(scale > 0 && Number.isFinite(scale)))
      throw new FaceNetError('input', `cosineMargin: scale must be a number above 0, got ${scale}.`);
    if (!(margin >= 0 && margin < Math.PI / 2))
      throw new FaceNetError('input', `cosineMargin: margin must be an angle from 0 to below pi / 2, got ${margin}.`);
    return [(x as Shape)[0] as number, (weight as Shape)[0] as number];
  },
  params,
  launch: ({ x, weight }) => ({ invocations: Math.ceil(rows(x as Shape) / 4) * Math.ceil(rows(weight as Shape) / 4) }),
  multiplyAdds: products,
  gradient({ y, dy, inputs: { x, weight, labels }, attributes, needs }) {
    const cosineSlopes = y.graph.apply(cosineMarginOperator, 'cosineGradient', { x, weight, labels, dy }, attributes);
    return {
      x: needs('x')
        ? y.graph.apply(cosineMarginOperator, 'inputGradient', { cosineSlopes, weight }, attributes)
        : undefined,
      weight: needs('weight')
        ? y.graph.apply(cosineMarginOperator, 'weightGradient', { cosineSlopes, x }, attributes)
        : undefined,
    };
  },
};

/** dy times the slope of the logit by its cosine: the scale, but for the own class. */
const cosineGradient: Entry<CosineMargin> = {
  inputs: ['x', 'weight', 'labels', 'dy'],
  output: 'dcosines',
  shape({ x, weight, dy }) {
    requireEqual('cosineMargin.cosineGradient', 'dy', dy as Shape, [
      (x as Shape)[0] as number,
      (weight as Shape)[0] as number,
    ]);
    return dy as Shape;
  },
  params,
  launch: ({ dy }) => ({ invocations: size(dy as Shape) }),
};

/** dx[n] = sum over classes of cosineSlopes[n, c] weight[c]. */
const inputGradient: Entry<CosineMargin> = {
  inputs: ['cosineSlopes', 'weight'],
  output: 'dx',
  shape: ({ cosineSlopes, weight }) => [(cosineSlopes as Shape)[0] as number, columns(weight as Shape)],
  params,
  launch: ({ cosineSlopes, weight }) => ({ invocations: rows(cosineSlopes as Shape) * columns(weight as Shape) }),
  multiplyAdds: products,
};

/** dweight[c] = sum over the batch of cosineSlopes[n, c] x[n]. */
const weightGradient: Entry<CosineMargin> = {
  inputs: ['cosineSlopes', 'x'],
  output: 'dweight',
  shape: ({ cosineSlopes, x }) => [columns(cosineSlopes as Shape), columns(x as Shape)],
  params,
  launch: ({ cosineSlopes, x }) => ({ invocations: columns(cosineSlopes as Shape) * columns(x as Shape) }),
  multiplyAdds: products,
};

export const cosineMarginOperator = defineOperator({
  name: 'cosineMargin',
  params: {
    batch: 'u32',
    classes: 'u32',
    columns: 'u32',
    scale: 'f32',
    cosine: 'f32',
    sine: 'f32',
    limit: 'f32',
    beyond: 'f32',
  },
  entries: { forward, cosineGradient, inputGradient, weightGradient },
});

export interface CosineMarginOptions {
  /** Factor of all logits. Default 24. */
  readonly scale?: number;
  /** Angle added to that of the own class, in radians, [0, pi / 2). 0: a plain cosine classifier. Default 0.2. */
  readonly margin?: number;
}

/**
 * Logits of a classification head with an additive angular margin: scale * cos(angle to class c), for the own class
 * scale * cos(angle + margin). For softmaxCrossEntropy; the head is dropped after training.
 *
 * x [N, D] unit rows, weight [C, D] (normalised here, row by row), labels i32 [N] -> [N, C]. A label outside 0 .. C - 1: no own class. Where
 * angle + margin would pass pi the own logit goes on as cosine - margin sin(margin). Closer than 1e-3 to its class's direction the
 * sine is held there, so that the gradient stays finite.
 * Source: Deng et al., "ArcFace", CVPR 2019. @throws 'input' when shapes or options do not fit.
 */
export function cosineMargin(
  x: Value,
  weight: Value,
  labels: Value,
  { scale = 24, margin = 0.2 }: CosineMarginOptions = {},
): Value {
  if (labels.dtype !== 'i32') throw new FaceNetError('input', `cosineMargin: labels must be i32, got ${labels.dtype}.`);
  return x.graph.apply(cosineMarginOperator, 'forward', { x, weight: l2Normalize(weight), labels }, { scale, margin });
}
