import type { KernelStep } from '../../../graph/operator.ts';
import { type Shape, size } from '../../../graph/shape.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { lines, vec4, windowLines, windows } from './vec4.ts';

/**
 * The gradient in two steps: where each window has its first maximum (a number per output), then, for each pixel, the windows of which it is
 * that, in the order of the plain kernel. In one step every pixel would look through all the windows it lies in: four times the reads.
 */
const gathered: Family<WebGpuAdapter> = {
  ...vec4('inputGradient', ['x', 'output', 'dy', 'dx']),
  lower({ x, dy }) {
    const [pixels, windows] = [lines(x as Shape), lines(dy as Shape)];
    const steps: KernelStep[] = [
      { kernel: 'findMaximum4', tensors: { x4: 'x', found4: 'first' }, launch: { invocations: windows } },
      {
        kernel: 'inputGradient4',
        tensors: { firstMaximum4: 'first', dy4: 'dy', dx4: 'dx' },
        launch: { invocations: pixels },
      },
    ];
    return { steps, scratch: { first: size(dy as Shape) } };
  },
};

export const families: FamilyTable<WebGpuAdapter> = [windowLines, windows, gathered];
