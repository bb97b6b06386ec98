import { rows, type Shape } from '../../../graph/shape.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { vec4 } from './vec4.ts';

/** The normalisation of the networks here, in which a window of four channels reaches into the next four on either side. */
const usual = ({ size, beta }: { size: number; beta: number }) => size === 5 && beta === 0.75;

/** The same sums with a row for each invocation: fewer loads, fewer lanes. */
function byRow(family: Family<WebGpuAdapter>): Family<WebGpuAdapter> {
  return {
    ...family,
    name: 'row',
    when: (shapes, attributes, adapter, views) => adapter.software && family.when(shapes, attributes, adapter, views),
    lower(shapes, attributes, adapter, views) {
      const { steps } = family.lower(shapes, attributes, adapter, views);
      const launch = { invocations: rows(shapes.x as Shape) };
      return { steps: steps.map((step) => ({ ...step, kernel: step.kernel.replace('4', 'Row4'), launch })) };
    },
  };
}

const forward = vec4('forward', ['x', 'y'], usual);
const inputGradient = vec4('inputGradient', ['x', 'dy', 'dx'], usual);

export const families: FamilyTable<WebGpuAdapter> = [byRow(forward), byRow(inputGradient), forward, inputGradient];
