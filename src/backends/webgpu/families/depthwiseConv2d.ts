import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { vec4 } from './vec4.ts';

export const families: FamilyTable<WebGpuAdapter> = [
  vec4('forward', ['x', 'weight', 'y']),
  vec4('inputGradient', ['dy', 'weight', 'dx']),
];
