import type { KernelStep, Lowering } from '../../../graph/operator.ts';
import { batchNormOperator } from '../../../ops/batchNorm.ts';
import type { Family, FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { REDUCTION, strips, vec4 } from './vec4.ts';

/**
 * The sums over chunks of rows by four channels; their combination stays. For adapters without many lanes to fill: there are four times
 * as few invocations.
 */
function chunks(
  entry: 'statistics' | 'gradientSums',
  kernel: string,
  tensors: readonly string[],
): Family<WebGpuAdapter> {
  const family = vec4(entry, tensors);
  return {
    ...family,
    when: (shapes, attributes, adapter, views) => adapter.software && family.when(shapes, attributes, adapter, views),
    lower(shapes, attributes) {
      const plain = batchNormOperator.entries[entry].lower?.(shapes, attributes) as Lowering;
      const [first, second] = plain.steps as [KernelStep, KernelStep];
      const { invocations } = first.launch as { invocations: number };
      return {
        ...plain,
        steps: [
          {
            kernel,
            tensors: Object.fromEntries(Object.keys(first.tensors ?? {}).map((name) => [`${name}4`, name])),
            launch: { invocations: invocations / 4 },
          },
          { ...second, constants: REDUCTION },
        ],
      };
    },
  };
}

export const families: FamilyTable<WebGpuAdapter> = [
  chunks('statistics', 'chunkStatistics4', ['x', 'statistics']),
  strips('normalise', ['x', 'statistics', 'gamma', 'beta', 'y']),
  chunks('gradientSums', 'chunkSums4', ['x', 'statistics', 'dy', 'sums']),
  strips('inputGradient', ['x', 'dy', 'statistics', 'gamma', 'sums', 'dx']),
];
