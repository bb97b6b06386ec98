import { FaceNetError } from '../../errors.ts';
import { bytesPerElement } from '../../plan/memory.ts';
import type { DeviceBuffer, Step, TensorRef } from '../../plan/step.ts';

/** Bytes of a step record (asm/generate.mjs): the kernel's number, then its arguments. */
export const RECORD_BYTES = 256;
/** Word of a record that is 1 where threads need not wait for one another behind the step (asm/plan.ts). */
const GO_ON = 63;

interface Kernel {
  readonly number: number;
  readonly parameters: readonly (readonly [name: string, type: 'usize' | 'u32' | 'i32' | 'f32'])[];
}

export interface WasmBuffer extends DeviceBuffer {
  readonly address: number;
}

/** The kernels of a module, from its custom section 'kernels'. */
export class KernelTable {
  readonly #kernels = new Map<string, Kernel>();

  constructor(module: WebAssembly.Module) {
    const section = WebAssembly.Module.customSections(module, 'kernels')[0];
    if (!section)
      throw new FaceNetError(
        'internal',
        'wasm: the module has no section "kernels". Build it with node build.mjs wasm.',
      );
    const list = JSON.parse(new TextDecoder().decode(section)) as {
      name: string;
      parameters: [string, 'usize' | 'u32' | 'i32' | 'f32'][];
    }[];
    list.forEach(({ name, parameters }, number) => this.#kernels.set(name, { number, parameters }));
  }

  has(name: string): boolean {
    return this.#kernels.has(name);
  }

  /**
   * Step records, ready to be copied into linear memory; steps of several `threads` go on without waiting where they can.
   * @throws 'internal' for a kernel or argument that does not exist.
   */
  encode(steps: readonly Step[], threads: number): Uint32Array {
    // One distance between the threads' parts of scratch for all steps that share it: each stays in its own whichever step it is at.
    const parts = new Map<DeviceBuffer | undefined, number>();
    for (const { params, tensors } of steps) {
      const { buffer } = tensors.scratch ?? {};
      parts.set(buffer, Math.max(parts.get(buffer) ?? 0, params.threadFloats ?? 0));
    }
    const words = new Uint32Array((steps.length * RECORD_BYTES) / 4);
    const floats = new Float32Array(words.buffer);
    steps.forEach((step, index) => {
      const name = kernelName(step);
      const kernel = this.#kernels.get(name);
      if (!kernel) throw new FaceNetError('internal', `wasm: asm/${step.operator}.ts does not export ${name}.`);
      let at = (index * RECORD_BYTES) / 4;
      words[at++] = kernel.number;
      for (const [parameter, type] of kernel.parameters) {
        const value =
          parameter === 'threadFloats' ? parts.get(step.tensors.scratch?.buffer) : argument(step, parameter, type);
        if (value === undefined)
          throw new FaceNetError(
            'internal',
            `wasm: ${name} takes ${parameter}, the step ${step.label} has no such tensor or number.`,
          );
        if (type === 'f32') floats[at++] = value;
        else words[at++] = value;
      }
    });
    if (threads > 1) for (const index of unordered(steps)) words[(index * RECORD_BYTES) / 4 + GO_ON] = 1;
    return words;
  }
}

/** Steps (by index) behind which nobody has to wait: the next one depends on none since the last at which all waited, nor they on it. */
export function unordered(steps: readonly Step[]): number[] {
  const found: number[] = [];
  let since = 0;
  for (let index = 1; index < steps.length; index++) {
    const step = steps[index] as Step;
    if (steps.slice(since, index).every((before) => independent(before, step))) found.push(index - 1);
    else since = index;
  }
  return found;
}

/** Whether neither step changes what the other reads or changes. */
function independent(a: Step, b: Step): boolean {
  for (const [name, tensor] of Object.entries(a.tensors)) {
    if (!tensor || name === 'flags' || ofThreads(a, name)) continue;
    for (const [other, second] of Object.entries(b.tensors)) {
      if (!second || other === 'flags' || ofThreads(b, other)) continue;
      if ((a.writes.includes(name) || b.writes.includes(other)) && meet(tensor, second)) return false;
    }
  }
  return true;
}

/** Scratch of which each thread has a part of its own. */
const ofThreads = ({ params }: Step, name: string): boolean => name === 'scratch' && params.threadFloats !== undefined;

/** Whether two tensors may share an element. Channel ranges of one tensor do not, where the ranges do not. */
function meet(a: TensorRef, b: TensorRef): boolean {
  if (a.buffer !== b.buffer) return false;
  if (a.columns === undefined || b.columns === undefined || a.stride !== b.stride) return true;
  const [first, second] = [a.offset % a.stride, b.offset % b.stride];
  return first < second + b.columns && second < first + a.columns;
}

export const kernelName = (step: Step): string =>
  `${step.operator}${step.kernel.charAt(0).toUpperCase()}${step.kernel.slice(1)}`;

function argument(step: Step, parameter: string, type: string): number | undefined {
  if (type === 'usize') {
    if (!(parameter in step.tensors)) return undefined;
    const tensor = step.tensors[parameter];
    return tensor ? (tensor.buffer as WasmBuffer).address + tensor.offset * bytesPerElement(tensor.dtype) : 0;
  }
  if (parameter in step.params) return step.params[parameter];
  if (parameter.endsWith('Stride') && parameter.slice(0, -6) in step.tensors)
    return step.tensors[parameter.slice(0, -6)]?.stride ?? 0;
  const tensor = parameter.startsWith('has') ? parameter.charAt(3).toLowerCase() + parameter.slice(4) : '';
  if (tensor in step.tensors) return step.tensors[tensor] ? 1 : 0;
  return undefined;
}
