import type { FamilyTable } from '../../plan/lowering.ts';
import { families as conv2d } from './families/conv2d.ts';
import { families as linear } from './families/linear.ts';
import type { WasmAdapter } from './wasm-backend.ts';

/** Operators with several kernels on this backend. */
export const wasmFamilies: Readonly<Record<string, FamilyTable<WasmAdapter>>> = { conv2d, linear };
