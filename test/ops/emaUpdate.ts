import { emaUpdate, emaUpdateOperator } from '../../src/ops/emaUpdate.ts';
import type { UpdateSpec } from './update-spec.ts';

/** The value that is averaged comes as `gradient`. */
export const updateSpecs: readonly UpdateSpec[] = [
  {
    operator: emaUpdateOperator,
    slots: ['average'],
    build: ({ average, gradient, settings }) => emaUpdate(average!, gradient!, settings!),
    step: ({ slots, gradient, settings }) => ({
      average: slots.average! + (1 - settings.average!) * (gradient - slots.average!),
    }),
    roundings: 6,
  },
];
