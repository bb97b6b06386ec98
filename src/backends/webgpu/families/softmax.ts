import { columns, rows, type Shape } from '../../../graph/shape.ts';
import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';

export const families: FamilyTable<WebGpuAdapter> = [
  {
    // Detectors ask "face or not" in thousands of places: a workgroup each would be idle but for two lanes.
    entry: 'forward',
    name: 'pairs',
    order: '',
    when: ({ x }) => columns(x as Shape) === 2,
    lower: ({ x }) => ({ steps: [{ kernel: 'forwardPairs', launch: { invocations: rows(x as Shape) } }] }),
  },
];
