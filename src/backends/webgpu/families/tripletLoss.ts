import type { Shape } from '../../../graph/shape.ts';
import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';

/** Kernels of tripletLoss: few lanes are filled by anchors alone, and each that shares one would read its codes again. */
export const families: FamilyTable<WebGpuAdapter> = [
  {
    entry: 'distanceGradient',
    name: 'anchors',
    order: '',
    when: (_, __, { software }) => software,
    lower: ({ distances }) => ({
      steps: [
        {
          kernel: 'distanceGradient',
          constants: { SHARES: 1 },
          launch: { invocations: (distances as Shape)[0] as number },
        },
      ],
    }),
  },
];
