// What test/training.browser.ts expects: ten steps in Node by plain wasm, and, in a process of its own, by WebGPU on the same SwiftShader.
import { execFileSync } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { adapterEnvironment, adapterPresent } from './adapters.mjs';
import { wasmBackend, webgpuBackend } from './backends.ts';
import { type TenSteps, tenSteps } from './training-script.ts';

export interface ExpectedTraining {
  readonly wasm: TenSteps;
  /** Absent where Node finds no SwiftShader. */
  readonly webgpu?: TenSteps;
}

export async function expected(): Promise<ExpectedTraining> {
  const backend = await wasmBackend();
  const wasm = await tenSteps(backend);
  await backend.dispose();
  if (!adapterPresent('swiftshader')) return { wasm };
  // Dawn chooses its driver when a process starts.
  const bundle = pathToFileURL(fileURLToPath(new URL('../.cache/programs/training.node.mjs', import.meta.url))).href;
  const out = execFileSync(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { printWebGpu } = await import(${JSON.stringify(bundle)}); await printWebGpu();`,
    ],
    { env: { ...process.env, ...adapterEnvironment('swiftshader') }, encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  return { wasm, webgpu: JSON.parse(out.slice(out.indexOf('{'))) as TenSteps };
}

/** In the process that sees SwiftShader. */
export async function printWebGpu(): Promise<void> {
  const backend = await webgpuBackend();
  if (!backend) throw new Error('no WebGPU adapter');
  process.stdout.write(JSON.stringify(await tenSteps(backend)));
  await backend.dispose();
}
