import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { type UpdateInputs, updateLaunch, updateParams, updateShape } from './sgdUpdate.ts';

const forward: Entry<Attributes> = {
  inputs: ['parameter', 'gradient', 'moment', 'secondMoment', 'settings', 'gradientScale?'],
  output: 'updated',
  inPlace: 'parameter',
  mutates: ['moment', 'secondMoment'],
  shape: (shapes) => updateShape('adamUpdate', shapes),
  params: updateParams,
  launch: updateLaunch,
};

export const adamUpdateOperator = defineOperator({
  name: 'adamUpdate',
  params: { elements: 'u32' },
  entries: { forward },
});

/**
 * Adam with decoupled weight decay (AdamW), in place: m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) g^2;
 * p = p - learningRate (m c1 / (sqrt(s c2) + epsilon) + weightDecay p), with the corrections c of `updateSettings` for the step.
 *
 * parameter, moment and secondMoment are parameters of one shape; the moments start at 0 and are updated on the way. Where the
 * denominator is 0 the step is 0. Assign the result to the parameter.
 * Source: Kingma, Ba, ICLR 2015; Loshchilov, Hutter, ICLR 2019. @throws 'input' when shapes differ.
 */
export function adamUpdate(
  parameter: Value,
  inputs: UpdateInputs & { readonly moment: Value; readonly secondMoment: Value },
): Value {
  return parameter.graph.apply(adamUpdateOperator, 'forward', { parameter, ...inputs });
}
