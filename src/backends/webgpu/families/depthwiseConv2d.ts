import type { Kernel } from '../../../graph/kernel.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { vec4 } from './vec4.ts';

/** Pixels across and lines of a strip, as in the shader. */
const WIDE = 2;
const STRIP = 16;

const plain = vec4('forward', ['x', 'weight', 'y']);

/**
 * 3x3 windows with stride 1, strip by strip: a sixth of the loads. For adapters in software, where loads and integer divisions are what
 * costs; there are a thirtieth of the invocations. Four pixels across save a third of the loads again and were no faster.
 */
const strips: Family<WebGpuAdapter> = {
  ...plain,
  name: 'strips',
  when: (shapes, attributes: Kernel, adapter, views) => {
    const [height, width] = shapes.weight as [number, number, number];
    const { strideY, strideX } = attributes;
    return (
      adapter.software &&
      height === 3 &&
      width === 3 &&
      strideY === 1 &&
      strideX === 1 &&
      plain.when(shapes, attributes, adapter, views)
    );
  },
  lower({ y }) {
    const [batch, height, width, channels] = y as readonly number[] as [number, number, number, number];
    return {
      steps: [
        {
          kernel: 'forwardStrip4',
          tensors: { x4: 'x', weight4: 'weight', y4: 'y' },
          launch: { invocations: batch * Math.ceil(height / STRIP) * Math.ceil(width / WIDE) * (channels / 4) },
        },
      ],
    };
  },
};

export const families: FamilyTable<WebGpuAdapter> = [strips, plain, vec4('inputGradient', ['dy', 'weight', 'dx'])];
