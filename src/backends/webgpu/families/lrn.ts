import type { FamilyTable } from '../../../plan/lowering.ts';
import type { WebGpuAdapter } from '../webgpu-backend.ts';
import { vec4 } from './vec4.ts';

/** The normalisation of the networks here, in which a window of four channels reaches into the next four on either side. */
const usual = ({ size, beta }: { size: number; beta: number }) => size === 5 && beta === 0.75;

export const families: FamilyTable<WebGpuAdapter> = [
  vec4('forward', ['x', 'y'], usual),
  vec4('inputGradient', ['x', 'dy', 'dx'], usual),
];
