import { sgdUpdate, sgdUpdateOperator } from '../../src/ops/sgdUpdate.ts';
import type { UpdateSpec } from './update-spec.ts';

const plain: UpdateSpec = {
  operator: sgdUpdateOperator,
  slots: ['parameter'],
  build: ({ parameter, gradient, settings, gradientScale }) =>
    sgdUpdate(parameter!, { gradient: gradient!, settings: settings!, gradientScale }),
  step: ({ slots: { parameter: p }, gradient, settings: { learningRate, weightDecay } }) => ({
    parameter: p! - learningRate! * (gradient + weightDecay! * p!),
  }),
  roundings: 5,
};

const momentum: UpdateSpec = {
  operator: sgdUpdateOperator,
  slots: ['parameter', 'velocity'],
  build: ({ parameter, velocity, gradient, settings, gradientScale }) =>
    sgdUpdate(parameter!, { gradient: gradient!, velocity, settings: settings!, gradientScale }),
  step({ slots: { parameter: p, velocity }, gradient, settings: { learningRate, weightDecay, momentum: stays } }) {
    const v = stays! * velocity! + gradient;
    return { parameter: p! - learningRate! * (v + weightDecay! * p!), velocity: v };
  },
  roundings: 8,
};

export const updateSpecs: readonly UpdateSpec[] = [plain, momentum];
