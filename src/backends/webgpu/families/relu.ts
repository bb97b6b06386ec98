import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { strips, vec4 } from './vec4.ts';

export const families: FamilyTable<WebGpuAdapter> = [
  strips('forward', ['x', 'y']),
  vec4('inputGradient', ['output', 'dy', 'dx']),
];
