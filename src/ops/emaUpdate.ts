import type { Value } from '../graph/graph.ts';
import { type Attributes, defineOperator, type Entry } from '../graph/operator.ts';
import { updateLaunch, updateParams, updateShape } from './sgdUpdate.ts';

const forward: Entry<Attributes> = {
  inputs: ['average', 'value', 'settings'],
  output: 'updated',
  inPlace: 'average',
  shape: (shapes) => updateShape('emaUpdate', shapes),
  params: updateParams,
  launch: updateLaunch,
};

export const emaUpdateOperator = defineOperator({
  name: 'emaUpdate',
  params: { elements: 'u32' },
  entries: { forward },
});

/**
 * Exponential moving average of a parameter, in place: a = a + (1 - share that stays) (value - a), the share from `updateSettings.average`.
 *
 * `value` is the parameter's new value, the result of its update. Assign the result to the average. @throws 'input' when shapes differ.
 */
export function emaUpdate(average: Value, value: Value, settings: Value): Value {
  return average.graph.apply(emaUpdateOperator, 'forward', { average, value, settings });
}
