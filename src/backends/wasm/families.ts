import type { FamilyTable } from '../../plan/lowering.ts';
import type { WasmAdapter } from './wasm-backend.ts';

/** Operators with several kernels on this backend. */
export const wasmFamilies: Readonly<Record<string, FamilyTable<WasmAdapter>>> = {};
