import { FaceNetError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry, type Shapes } from '../graph/operator.ts';
import { requireEqual, type Shape, size, text } from '../graph/shape.ts';

/**
 * What stands where in `settings`, the eight numbers that all updates of parameters read at each run, so that a schedule changes
 * them without a new plan. An update reads those of its own formula alone.
 */
export const updateSettings = {
  learningRate: 0,
  /** Decoupled: the parameter shrinks by learningRate * weightDecay of itself, whatever the gradient. */
  weightDecay: 1,
  /** SGD: share of the velocity that stays. Adam: beta1. */
  momentum: 2,
  /** Adam: beta2. */
  secondMomentum: 3,
  /** AdaGrad, Adam: added to the root in the denominator. */
  epsilon: 4,
  /** Adam at step t (from 1): 1 / (1 - beta1^t) and 1 / (1 - beta2^t). */
  correction: 5,
  secondCorrection: 6,
  /** EMA: share of the average that stays. */
  average: 7,
} as const;

/** Number of settings. */
export const SETTINGS = 8;

/** The checks and params that all updates share: slots of the parameter's shape, settings [8], an optional factor [1] of the gradient. */
export function updateShape(operator: string, shapes: Shapes): Shape {
  const { settings, gradientScale, ...tensors } = shapes;
  const shape = tensors.parameter ?? tensors.average;
  for (const [name, other] of Object.entries(tensors)) requireEqual(operator, name, other as Shape, shape as Shape);
  if (settings?.length !== 1 || settings[0] !== SETTINGS) {
    throw new FaceNetError('input', `${operator}: settings must be [${SETTINGS}], got ${text(settings as Shape)}.`);
  }
  if (gradientScale) requireEqual(operator, 'gradientScale', gradientScale, [1]);
  return shape as Shape;
}

export const updateParams = (shapes: Shapes) => ({ elements: size((shapes.parameter ?? shapes.average) as Shape) });
export const updateLaunch = (shapes: Shapes) => ({ invocations: size((shapes.parameter ?? shapes.average) as Shape) });

const forward: Entry<Attributes> = {
  inputs: ['parameter', 'gradient', 'settings', 'gradientScale?'],
  output: 'updated',
  inPlace: 'parameter',
  shape: (shapes) => updateShape('sgdUpdate', shapes),
  params: updateParams,
  launch: updateLaunch,
};

const momentum: Entry<Attributes> = {
  ...forward,
  inputs: ['parameter', 'gradient', 'velocity', 'settings', 'gradientScale?'],
  mutates: ['velocity'],
};

export const sgdUpdateOperator = defineOperator({
  name: 'sgdUpdate',
  params: { elements: 'u32' },
  entries: { forward, momentum },
});

/** Tensors of an update besides the parameter. */
export interface UpdateInputs {
  /** Of the parameter's shape. */
  readonly gradient: Value;
  /** f32 [8], an input of the graph: see updateSettings. */
  readonly settings: Value;
  /** f32 [1], multiplied into the gradient: clipping. Default: 1. */
  readonly gradientScale?: Value | undefined;
}

/**
 * Stochastic gradient descent, in place: v = momentum v + g; p = p - learningRate (v + weightDecay p); without a velocity v = g.
 *
 * parameter and velocity are parameters of one shape; the velocity starts at 0 and is updated on the way. Assign the result to the parameter.
 * @throws 'input' when shapes differ.
 */
export function sgdUpdate(
  parameter: Value,
  { gradient, velocity, settings, gradientScale }: UpdateInputs & { readonly velocity?: Value | undefined },
): Value {
  return parameter.graph.apply(sgdUpdateOperator, velocity ? 'momentum' : 'forward', {
    parameter,
    gradient,
    velocity,
    settings,
    gradientScale,
  });
}
