import { FaceNetError } from '../../errors.ts';
import { bytesPerElement } from '../../plan/memory.ts';
import type { DeviceBuffer, Step } from '../../plan/step.ts';

/** Bytes of a step record (asm/generate.mjs): the kernel's number, then its arguments. */
export const RECORD_BYTES = 256;

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

  /** Step records, ready to be copied into linear memory. @throws 'internal' for a kernel or argument that does not exist. */
  encode(steps: readonly Step[]): Uint32Array {
    const words = new Uint32Array((steps.length * RECORD_BYTES) / 4);
    const floats = new Float32Array(words.buffer);
    steps.forEach((step, index) => {
      const name = kernelName(step);
      const kernel = this.#kernels.get(name);
      if (!kernel) throw new FaceNetError('internal', `wasm: asm/${step.operator}.ts does not export ${name}.`);
      let at = (index * RECORD_BYTES) / 4;
      words[at++] = kernel.number;
      for (const [parameter, type] of kernel.parameters) {
        const value = argument(step, parameter, type);
        if (value === undefined)
          throw new FaceNetError(
            'internal',
            `wasm: ${name} takes ${parameter}, the step ${step.label} has no such tensor or number.`,
          );
        if (type === 'f32') floats[at++] = value;
        else words[at++] = value;
      }
    });
    return words;
  }
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
