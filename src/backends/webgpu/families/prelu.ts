import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { strips } from './vec4.ts';

export const families: FamilyTable<WebGpuAdapter> = [strips('forward', ['x', 'slope', 'y'])];
