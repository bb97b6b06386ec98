import type { Shape } from '../../../graph/shape.ts';
import type { TripletSelection } from '../../../ops/tripletSelection.ts';
import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { hasSubgroupTiles, isVec4 } from './conv2d.ts';

/** Kernels of tripletSelection. */
export const families: FamilyTable<WebGpuAdapter> = [
  {
    entry: 'forward',
    name: 'subgroups',
    order: '',
    when: ({ distances }, { rule }: TripletSelection, adapter, views) =>
      rule === 'semi-hard' && hasSubgroupTiles(adapter) && isVec4({ distances }, views, 'distances'),
    lower({ distances }, _, adapter) {
      const SG = adapter.subgroups as number;
      return {
        steps: [
          {
            kernel: 'closest',
            file: 'tripletSelection.subgroups',
            tensors: {
              distances: 'distances',
              distances4: 'distances',
              labels: 'labels',
              labels4: 'labels',
              choice: 'choice',
            },
            constants: { SG, POSITIVES: 40 / SG },
            launch: { workgroups: [(distances as Shape)[0] as number] },
          },
        ],
      };
    },
  },
];
