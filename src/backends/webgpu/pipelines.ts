import { shaders } from 'facenet-gpu:shaders';
import { FaceNetError } from '../../errors.ts';
import type { KernelName } from '../../plan/step.ts';
import { ExpandError, type Expansion, expand, explain } from './expander.ts';
import { readWgsl, type WgslEntryPoint, type WgslFile } from './wgsl.ts';

/** A compiled kernel and what the host needs to launch it. */
export interface Kernel {
  readonly pipeline: GPUComputePipeline;
  readonly file: WgslFile;
  readonly entryPoint: WgslEntryPoint;
  /** Invocations of one workgroup. */
  readonly workgroupSize: number;
}

interface Module {
  readonly module: GPUShaderModule;
  readonly expansion: Expansion;
}

/** Compiled kernels of one device, by file, entry point and constants. Compilation is asynchronous and parallel. */
export class Pipelines {
  readonly #device: GPUDevice;
  #texts: Readonly<Record<string, string>> = shaders;
  readonly #files = new Map<string, WgslFile>();
  readonly #modules = new Map<string, Module>();
  readonly #kernels = new Map<string, Promise<Kernel>>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get count(): number {
    return this.#kernels.size;
  }

  /** @throws 'internal' with file, line and compiler message. */
  get(step: KernelName): Promise<Kernel> {
    const key = `${step.file} ${step.kernel} ${JSON.stringify(step.constants)}`;
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = this.#compile(step);
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  async #compile({ file: name, kernel, constants }: KernelName): Promise<Kernel> {
    // What only training and adapters in software run (shaders/bundle.mjs) is loaded when it is first wanted; for all that is there the
    // compiler has begun when this returns.
    if (!(name in this.#texts)) this.#texts = { ...shaders, ...(await import('facenet-gpu:late-shaders')).shaders };
    const text = this.#texts[name];
    if (text === undefined) throw new FaceNetError('internal', `webgpu: shaders/${name}.wgsl does not exist.`);
    const file = this.#files.get(name) ?? readWgsl(name, text);
    this.#files.set(name, file);
    const entryPoint = file.entryPoints.get(kernel);
    if (!entryPoint) throw new FaceNetError('internal', `webgpu: shaders/${name}.wgsl has no entry point ${kernel}.`);
    const overrides: Record<string, number> = {};
    const tiles: Record<string, number> = {};
    for (const [constant, value] of Object.entries(constants)) {
      (file.constants.get(constant)?.override ? overrides : tiles)[constant] = value;
    }
    const { module, expansion } = this.#module(name, entryPoint, tiles);
    const value = (expression: string): number => {
      const literal = Number(expression.replace(/[ui]$/, ''));
      return Number.isNaN(literal)
        ? (overrides[expression] ?? tiles[expression] ?? file.constants.get(expression)?.value ?? Number.NaN)
        : literal;
    };
    const workgroupSize = entryPoint.workgroupSize.reduce((product, expression) => product * value(expression), 1);
    if (!(workgroupSize >= 1))
      throw new FaceNetError(
        'internal',
        `webgpu: shaders/${name}.wgsl: @workgroup_size of ${kernel} must be literals or constants, got (${entryPoint.workgroupSize.join(', ')}).`,
      );
    const limit = this.#device.limits.maxComputeInvocationsPerWorkgroup;
    if (workgroupSize > limit)
      throw new FaceNetError(
        'device',
        `webgpu: ${name}.${kernel} needs ${workgroupSize} invocations in a workgroup, got a limit of ${limit}.`,
      );
    try {
      const pipeline = await this.#device.createComputePipelineAsync({
        label: `${name}.${kernel}`,
        layout: 'auto',
        compute: { module, entryPoint: kernel, constants: overrides },
      });
      return { pipeline, file, entryPoint, workgroupSize };
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const errors = messages.filter(({ type }) => type === 'error');
      const reasons = errors.map((message) => explain(message, expansion, `shaders/${name}.wgsl`));
      throw new FaceNetError(
        'internal',
        reasons.join('\n') ||
          `webgpu: shaders/${name}.wgsl ${kernel} ${JSON.stringify(constants)}: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #module(name: string, { name: entryPoint, code }: WgslEntryPoint, tiles: Readonly<Record<string, number>>): Module {
    const key = `${name} ${entryPoint} ${JSON.stringify(tiles)}`;
    let module = this.#modules.get(key);
    if (!module) {
      const expansion = expanded(name, code, tiles);
      const label = `shaders/${name}.wgsl ${entryPoint}`;
      module = { module: this.#device.createShaderModule({ label, code: expansion.code }), expansion };
      this.#modules.set(key, module);
    }
    return module;
  }
}

function expanded(name: string, code: string, tiles: Readonly<Record<string, number>>): Expansion {
  try {
    return expand(code, tiles);
  } catch (cause) {
    if (!(cause instanceof ExpandError)) throw cause;
    throw new FaceNetError('internal', `webgpu: shaders/${name}.wgsl: ${cause.message}`, { cause });
  }
}
