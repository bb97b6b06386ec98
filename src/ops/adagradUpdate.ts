import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { type UpdateInputs, updateLaunch, updateParams, updateShape } from './sgdUpdate.ts';

const forward: Entry<Attributes> = {
  inputs: ['parameter', 'gradient', 'accumulator', 'settings', 'gradientScale?'],
  output: 'updated',
  inPlace: 'parameter',
  mutates: ['accumulator'],
  shape: (shapes) => updateShape('adagradUpdate', shapes),
  params: updateParams,
  launch: updateLaunch,
};

export const adagradUpdateOperator = defineOperator({
  name: 'adagradUpdate',
  params: { elements: 'u32' },
  entries: { forward },
});

/**
 * AdaGrad, the paper's optimiser, in place: a = a + g^2; p = p - learningRate (g / (sqrt(a) + epsilon) + weightDecay p).
 *
 * parameter and accumulator are parameters of one shape; the accumulator starts at 0 or above (0.1 is common) and is updated on the way.
 * Where sqrt(a) + epsilon is 0 the step is 0, so a first gradient of 0 does no harm. Assign the result to the parameter.
 * Source: Duchi, Hazan, Singer, JMLR 2011; Schroff et al. 2015, section 3.2. @throws 'input' when shapes differ.
 */
export function adagradUpdate(parameter: Value, inputs: UpdateInputs & { readonly accumulator: Value }): Value {
  return parameter.graph.apply(adagradUpdateOperator, 'forward', { parameter, ...inputs });
}
