// Times of every kernel of a plan, by the backend's own clock, and what they mean against the machine's ceilings.
import type { Plan } from '../src/plan/plan.ts';
import type { Step } from '../src/plan/step.ts';
import type { Ceilings } from './shaders/report.ts';

/** One kernel at one shape. */
export interface KernelTime {
  /** Network or test case it was met in, and the layer. */
  readonly where: string;
  readonly layer: string;
  /** 'conv2d.winogradF4'. */
  readonly kernel: string;
  /** Shader file and constants (tiles), for WebGPU. */
  readonly tile: string;
  readonly milliseconds: number;
  readonly multiplyAdds: number;
  /** Of all tensors it is given, each once. */
  readonly bytes: number;
}

export interface Rates {
  readonly gflops: number;
  readonly gigabytes: number;
  /** Multiply-adds x 2 a byte. */
  readonly intensity: number;
  /** Time that the ceilings allow / time taken. */
  readonly share: number;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] as number;

const bytesOf = (step: Step): number =>
  Object.values(step.tensors).reduce(
    (sum, tensor) => sum + (tensor ? tensor.elements * (tensor.dtype === 'u8' ? 1 : 4) : 0),
    0,
  );

/** Medians of `runs` profiles of a plan. */
export async function kernelTimes(plan: Plan, where: string, batch: number, runs: number): Promise<KernelTime[]> {
  await plan.profile(batch);
  const profiles: Awaited<ReturnType<Plan['profile']>>[] = [];
  for (let run = 0; run < runs; run++) profiles.push(await plan.profile(batch));
  const [first] = profiles;
  return (first?.steps ?? []).map((step, index) => ({
    where,
    layer: step.label,
    kernel: `${step.operator}.${step.kernel}`,
    tile: [step.file === step.operator ? '' : step.file, ...Object.entries(step.constants).map(([k, v]) => `${k}=${v}`)]
      .filter(Boolean)
      .join(' '),
    milliseconds: median(profiles.map(({ milliseconds }) => milliseconds[index] as number)),
    multiplyAdds: step.multiplyAdds,
    bytes: bytesOf(step),
  }));
}

export function rates(
  { milliseconds, multiplyAdds, bytes }: Omit<KernelTime, 'where' | 'layer' | 'kernel' | 'tile'>,
  ceilings: Ceilings,
): Rates {
  const seconds = Math.max(milliseconds, 1e-6) / 1e3;
  const allowed = Math.max((2 * multiplyAdds) / ceilings.gflops, bytes / ceilings.gigabytes) / 1e9;
  return {
    gflops: (2 * multiplyAdds) / seconds / 1e9,
    gigabytes: bytes / seconds / 1e9,
    intensity: (2 * multiplyAdds) / Math.max(1, bytes),
    share: allowed / seconds,
  };
}

/** Sums by kernel, longest first. */
export function byKernel(
  times: readonly KernelTime[],
): (Omit<KernelTime, 'layer' | 'tile'> & { readonly count: number })[] {
  const sums = new Map<string, Omit<KernelTime, 'layer' | 'tile'> & { count: number }>();
  for (const { where, kernel, milliseconds, multiplyAdds, bytes } of times) {
    const sum = sums.get(kernel) ?? { where, kernel, milliseconds: 0, multiplyAdds: 0, bytes: 0, count: 0 };
    sums.set(kernel, {
      ...sum,
      milliseconds: sum.milliseconds + milliseconds,
      multiplyAdds: sum.multiplyAdds + multiplyAdds,
      bytes: sum.bytes + bytes,
      count: sum.count + 1,
    });
  }
  return [...sums.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}
