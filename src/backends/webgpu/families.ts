import type { FamilyTable } from '../../plan/lowering.ts';
import type { WebGpuAdapter } from './webgpu-backend.ts';

/** Operators with several kernels on this backend. */
export const webgpuFamilies: Readonly<Record<string, FamilyTable<WebGpuAdapter>>> = {};
