import type { FamilyTable } from '../../plan/lowering.ts';
import { families as conv2d } from './families/conv2d.ts';
import { families as linear } from './families/linear.ts';
import type { WebGpuAdapter } from './webgpu-backend.ts';

/** Operators with several kernels on this backend. */
export const webgpuFamilies: Readonly<Record<string, FamilyTable<WebGpuAdapter>>> = { conv2d, linear };
