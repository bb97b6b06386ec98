import { adamUpdate, adamUpdateOperator } from '../../src/ops/adamUpdate.ts';
import type { UpdateSpec } from './update-spec.ts';

export const updateSpecs: readonly UpdateSpec[] = [
  {
    operator: adamUpdateOperator,
    slots: ['parameter', 'moment', 'secondMoment'],
    build: ({ parameter, moment, secondMoment, gradient, settings, gradientScale }) =>
      adamUpdate(parameter!, {
        gradient: gradient!,
        moment: moment!,
        secondMoment: secondMoment!,
        settings: settings!,
        gradientScale,
      }),
    step({ slots: { parameter: p, moment, secondMoment }, gradient, settings }) {
      const { learningRate, weightDecay, momentum, secondMomentum, epsilon, correction, secondCorrection } = settings;
      const m = momentum! * moment! + (1 - momentum!) * gradient;
      const s = secondMomentum! * secondMoment! + (1 - secondMomentum!) * gradient * gradient;
      const denominator = Math.sqrt(s * secondCorrection!) + epsilon!;
      const step = denominator > 0 ? (m * correction!) / denominator : 0;
      return { parameter: p! - learningRate! * (step + weightDecay! * p!), moment: m, secondMoment: s };
    },
    // 1 - beta in f32 carries 2^-24 / (1 - beta): up to 1000 units of the second moment's new share, which is a thousandth of it.
    roundings: 32,
  },
];
