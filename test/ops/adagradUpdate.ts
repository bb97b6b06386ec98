import { adagradUpdate, adagradUpdateOperator } from '../../src/ops/adagradUpdate.ts';
import type { UpdateSpec } from './update-spec.ts';

export const updateSpecs: readonly UpdateSpec[] = [
  {
    operator: adagradUpdateOperator,
    slots: ['parameter', 'accumulator'],
    build: ({ parameter, accumulator, gradient, settings, gradientScale }) =>
      adagradUpdate(parameter!, { gradient: gradient!, accumulator: accumulator!, settings: settings!, gradientScale }),
    step({ slots: { parameter: p, accumulator }, gradient, settings: { learningRate, weightDecay, epsilon } }) {
      const a = accumulator! + gradient * gradient;
      const denominator = Math.sqrt(a) + epsilon!;
      return {
        parameter: p! - learningRate! * ((denominator > 0 ? gradient / denominator : 0) + weightDecay! * p!),
        accumulator: a,
      };
    },
    roundings: 16,
  },
];
