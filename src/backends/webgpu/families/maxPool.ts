import type { KernelStep } from '../../../graph/operator.ts';
import { type Shape, size } from '../../../graph/shape.ts';
import type { Window } from '../../../graph/window.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { lines, vec4 } from './vec4.ts';

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

const plain = vec4('forward', ['x', 'y']);

/** Most taps of a window that one piece of straight code has. */
const TAPS = 9;

/** A line of pixels an invocation, for adapters without many lanes to fill. */
const byLines: Family<WebGpuAdapter> = {
  ...plain,
  name: 'lines',
  when: (shapes, attributes: Window, adapter, views) =>
    adapter.software && attributes.sizeY * attributes.sizeX <= TAPS && plain.when(shapes, attributes, adapter, views),
  lower: ({ y }, { sizeY, sizeX }: Window) => ({
    steps: [
      {
        kernel: 'forwardLine4',
        constants: { SY: sizeY, SX: sizeX },
        tensors: { x4: 'x', y4: 'y' },
        launch: { invocations: lines(y as Shape) },
      },
    ],
  }),
};

export const families: FamilyTable<WebGpuAdapter> = [byLines, plain, gathered];
