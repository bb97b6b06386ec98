// Holds shaders, AssemblyScript twins and operator definitions against each other, without running a kernel:
//
//   node build.mjs check
//
// Every case of every operator is lowered for both backends, for adapters of several kinds. Each step must find its entry point, its
// tensors and its numbers. Then every shader file is compiled as committed, with each entry point, where there is an adapter.

import { shaders as lateShaders } from 'facenet-gpu:late-shaders';
import { shaders as embeddingShaders } from 'facenet-gpu:shaders';
import { wasmFamilies } from '../src/backends/wasm/families.ts';
import { KernelTable } from '../src/backends/wasm/kernels.ts';
import { webgpuFamilies } from '../src/backends/webgpu/families.ts';
import { readWgsl } from '../src/backends/webgpu/wgsl.ts';
import { bindFamilies, type Families } from '../src/plan/lowering.ts';
import type { Backend, Program } from '../src/plan/runner.ts';
import type { Step } from '../src/plan/step.ts';
import { built, enableRelaxed, openDevice } from './backends.ts';
import { caseTitle, planCase, specs } from './conformance.ts';

const shaders = { ...embeddingShaders, ...lateShaders };

const problems = new Set<string>();

/** A backend that looks at steps and runs nothing. */
function looking(name: 'webgpu' | 'wasm', families: Families, look: (step: Step) => void): Backend {
  let address = 0;
  return {
    name,
    description: 'check',
    families,
    zeroBlock: name === 'webgpu',
    threadScratch: name === 'wasm',
    maxBufferBytes: 2 ** 32,
    allocate: (bytes) => {
      address += bytes;
      return { bytes, address } as never;
    },
    free: () => {},
    write: () => {},
    prepare: async (steps): Promise<Program> => {
      for (const step of steps) look(step);
      return { steps, dispose: () => {} };
    },
    run: async () => [],
    profile: async () => ({ milliseconds: [], timing: 'wall' }),
    counters: () => ({ buffers: 0, bytes: 0, programs: 0, pipelines: 0, workers: 0 }),
    dispose: async () => {},
  };
}

const files = new Map(Object.entries(shaders).map(([name, text]) => [name, readWgsl(name, text)]));
const usedEntryPoints = new Set<string>();

function lookAtShader(step: Step): void {
  const file = files.get(step.file);
  const entryPoint = file?.entryPoints.get(step.kernel);
  const where = `shaders/${step.file}.wgsl ${step.kernel}`;
  if (!file || !entryPoint) {
    problems.add(`${where}: no such entry point, which a step of ${step.operator} wants`);
    return;
  }
  usedEntryPoints.add(`${step.file} ${step.kernel}`);
  for (const name of entryPoint.uses)
    if (name !== 'params' && !(name in step.tensors))
      problems.add(`${where}: binds ${name}, its step has ${Object.keys(step.tensors).join(', ')}`);
  for (const name of Object.keys(step.constants))
    if (!file.constants.has(name)) problems.add(`${where}: has no constant ${name}`);
  const fields = new Set(file.params.map(([name]) => name));
  if (fields.size !== file.params.length) problems.add(`shaders/${step.file}.wgsl: Params names a field twice`);
  if (file.params.length > 64)
    problems.add(`shaders/${step.file}.wgsl: Params has ${file.params.length} fields, more than 64`);
}

/** Fields of Params that no step of any case ever gave: misspelt, or left over. */
function unknownFields(): void {
  for (const [name, file] of files) {
    const given = givenNumbers.get(name);
    // In-place updates have tests of their own: their fields cannot be judged here.
    if (!given || [...file.entryPoints.keys()].some((kernel) => !usedEntryPoints.has(`${name} ${kernel}`))) continue;
    for (const [field] of file.params)
      if (!given.has(field)) problems.add(`shaders/${name}.wgsl: Params.${field} is given by no step`);
  }
}

const givenNumbers = new Map<string, Set<string>>();
function noteNumbers(step: Step): void {
  const given = givenNumbers.get(step.file) ?? new Set<string>();
  givenNumbers.set(step.file, given);
  for (const name of Object.keys(step.params)) given.add(name);
  for (const tensor of Object.keys(step.tensors))
    for (const automatic of [
      `${tensor}Stride`,
      `${tensor}Offset`,
      `has${tensor.charAt(0).toUpperCase()}${tensor.slice(1)}`,
    ])
      given.add(automatic);
}

await enableRelaxed();
const tables = await Promise.all(
  ['facenet.wasm', 'facenet.relaxed.wasm'].map(
    async (name) => new KernelTable(await WebAssembly.compile(await built(name))),
  ),
);
const limits = {
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupStorageSize: 16384,
  maxStorageBufferBindingSize: 2 ** 27,
  maxBufferSize: 2 ** 28,
} as GPUSupportedLimits;
const backends: Backend[] = [
  ...[
    { software: true, subgroups: 8 },
    { software: true, subgroups: 4 },
    { software: true, subgroups: false },
    { software: false, subgroups: 32 },
    { software: false, subgroups: false },
  ].map((kind) =>
    looking('webgpu', bindFamilies(webgpuFamilies, { ...kind, f16: false, limits } as never), (step) => {
      lookAtShader(step);
      noteNumbers(step);
    }),
  ),
  ...[true, false].flatMap((relaxed, at) =>
    [1, 2].map((threads) =>
      looking('wasm', bindFamilies(wasmFamilies, { threads, relaxed }), (step) => {
        try {
          (tables[relaxed ? 1 : at] as KernelTable).encode([step], threads);
        } catch (error) {
          problems.add((error as Error).message);
        }
      }),
    ),
  ),
];

let lowered = 0;
for (const backend of backends) {
  for (const spec of specs) {
    for (const testCase of spec.cases) {
      try {
        const { plan, store } = await planCase(backend, spec, testCase);
        lowered += plan.steps.length;
        plan.dispose();
        store.dispose();
      } catch (error) {
        problems.add(`${spec.operator.name} on ${backend.name}, ${caseTitle(testCase)}: ${(error as Error).message}`);
      }
    }
  }
}
unknownFields();
for (const [name, file] of files)
  for (const kernel of file.entryPoints.keys())
    if (!usedEntryPoints.has(`${name} ${kernel}`))
      console.error(`check: note: no case reaches shaders/${name}.wgsl ${kernel} on the adapters looked at`);

const opened = await openDevice().catch((error: Error) => {
  console.error(`check: shaders were not compiled: ${error.message}`);
  return null;
});
let compiled = 0;
if (opened) {
  const { device } = opened;
  for (const [name, text] of Object.entries(shaders)) {
    if (/^\s*enable\s+subgroups/m.test(text) && !device.features.has('subgroups' as GPUFeatureName)) continue;
    if (/^\s*enable\s+f16/m.test(text) && !device.features.has('shader-f16')) continue;
    const module = device.createShaderModule({ label: `shaders/${name}.wgsl`, code: text });
    for (const { type, lineNum, linePos, message } of (await module.getCompilationInfo()).messages) {
      if (type === 'error') problems.add(`shaders/${name}.wgsl:${lineNum}:${linePos}: ${message}`);
    }
    compiled++;
  }
  device.destroy();
}

for (const problem of problems) console.error(problem);
console.error(
  `check: ${lowered} steps of ${specs.length} operators lowered, ${compiled} shader files compiled as committed, ${problems.size} problems`,
);
process.exit(problems.size > 0 ? 1 : 0);
