import type { Lowering } from '../../../graph/operator.ts';
import { type Shape, size } from '../../../graph/shape.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { lines, vec4, windowLines, windows } from './vec4.ts';

/** The gradient in two steps: each window's dy / length, then the sums of those that hold a pixel. */
const divided: Family<WebGpuAdapter> = {
  ...vec4('inputGradient', ['x', 'output', 'dy', 'dx']),
  lower: ({ x, dy }): Lowering => ({
    steps: [
      {
        kernel: 'divide4',
        tensors: { output4: 'output', dy4: 'dy', quotient4: 'quotient' },
        launch: { invocations: lines(dy as Shape) },
      },
      {
        kernel: 'inputGradient4',
        tensors: { share4: 'quotient', x4: 'x', dx4: 'dx' },
        launch: { invocations: lines(x as Shape) },
      },
    ],
    scratch: { quotient: size(dy as Shape) },
  }),
};

export const families: FamilyTable<WebGpuAdapter> = [windowLines, windows, divided];
