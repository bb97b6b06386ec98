import { shaders } from 'facenet-gpu:shaders';
import { FaceNetError } from '../../errors.ts';
import type { Step } from '../../plan/step.ts';
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

/** A file of shaders/; what only training and adapters in software run (shaders/bundle.mjs) is loaded when it is wanted. */
const textOf = async (name: string): Promise<string | undefined> =>
  shaders[name] ?? (await import('facenet-gpu:training-shaders')).shaders[name];

/** Compiled kernels of one device, by file, entry point and constants. Compilation is asynchronous and parallel. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #files = new Map<string, WgslFile>();
  readonly #modules = new Map<string, Promise<GPUShaderModule>>();
  readonly #kernels = new Map<string, Promise<Kernel>>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get count(): number {
    return this.#kernels.size;
  }

  /** @throws 'internal' with file, line and compiler message. */
  get(step: Pick<Step, 'file' | 'kernel' | 'constants'>): Promise<Kernel> {
    const key = `${step.file} ${step.kernel} ${JSON.stringify(step.constants)}`;
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = this.#compile(step);
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  async #file(name: string): Promise<WgslFile> {
    let file = this.#files.get(name);
    if (!file) {
      const text = await textOf(name);
      if (text === undefined) throw new FaceNetError('internal', `webgpu: shaders/${name}.wgsl does not exist.`);
      file = readWgsl(name, text);
      this.#files.set(name, file);
    }
    return file;
  }

  async #compile({ file: name, kernel, constants }: Pick<Step, 'file' | 'kernel' | 'constants'>): Promise<Kernel> {
    const file = await this.#file(name);
    const entryPoint = file.entryPoints.get(kernel);
    if (!entryPoint) throw new FaceNetError('internal', `webgpu: shaders/${name}.wgsl has no entry point ${kernel}.`);
    const overrides: Record<string, number> = {};
    const tiles: Record<string, number> = {};
    for (const [constant, value] of Object.entries(constants)) {
      (file.constants.get(constant)?.override ? overrides : tiles)[constant] = value;
    }
    const module = await this.#module(name, entryPoint, tiles);
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
      throw new FaceNetError(
        'internal',
        `webgpu: shaders/${name}.wgsl ${kernel} ${JSON.stringify(constants)}: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #module(name: string, entryPoint: WgslEntryPoint, tiles: Readonly<Record<string, number>>): Promise<GPUShaderModule> {
    const key = `${name} ${entryPoint.name} ${JSON.stringify(tiles)}`;
    let module = this.#modules.get(key);
    if (!module) {
      module = this.#compileModule(name, entryPoint, tiles);
      this.#modules.set(key, module);
    }
    return module;
  }

  async #compileModule(
    name: string,
    entryPoint: WgslEntryPoint,
    tiles: Readonly<Record<string, number>>,
  ): Promise<GPUShaderModule> {
    const file = `shaders/${name}.wgsl`;
    let expansion: Expansion;
    try {
      expansion = expand(entryPoint.code, tiles);
    } catch (cause) {
      if (cause instanceof ExpandError)
        throw new FaceNetError('internal', `webgpu: ${file}: ${cause.message}`, { cause });
      throw cause;
    }
    const module = this.#device.createShaderModule({ label: `${file} ${entryPoint.name}`, code: expansion.code });
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter((message) => message.type === 'error');
    if (errors.length > 0) {
      throw new FaceNetError('internal', errors.map((message) => explain(message, expansion, file)).join('\n'));
    }
    return module;
  }
}
