// Times of every kernel of a plan, by the backend's own clock, and what they mean against the machine's ceilings.
import type { Plan } from '../src/plan/plan.ts';
import type { Step } from '../src/plan/step.ts';
import { median } from './rounds.ts';
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
  /** '24 x 24 x 64 to 24 x 24 x 192, 3 x 3, stride 1', of products of matrices. */
  readonly shape?: string;
  /** Multiply-adds of the kernel's own way of computing / `multiplyAdds`: below 1 for Winograd's. Default: 1. */
  readonly executed?: number;
}

export interface Rates {
  readonly gflops: number;
  readonly gigabytes: number;
  /** Multiply-adds x 2 a byte. */
  readonly intensity: number;
  /** Time that the ceilings allow / time taken. */
  readonly share: number;
}

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
    ...(step.multiplyAdds > 0 && { shape: shapeOf(step), executed: executedShare(step) }),
  }));
}

function shapeOf({ operator, params: p }: Step): string {
  if (operator === 'linear') return `${p.positions} x ${p.channels} to ${p.outputs}`;
  if (!operator.endsWith('onv2d')) return '';
  const image = `${p.height} x ${p.width} x ${p.channels} to ${p.outHeight} x ${p.outWidth} x ${p.outChannels}`;
  return `${image}, ${p.kernelHeight} x ${p.kernelWidth}, stride ${p.strideY}`;
}

/** Points and output pixels of a Winograd tile along one axis: F(2, 3), F(4, 3), F(2, 5), and the weight gradients F(3, 4), F(5, 2). */
const WINOGRAD_TILES: Readonly<Record<string, readonly [points: number, pixels: number]>> = {
  winogradF2: [4, 2],
  winogradF4: [6, 4],
  winogradF2K5: [6, 2],
  inputGradientWinogradF2: [4, 2],
  inputGradientWinogradF4: [6, 4],
  inputGradientWinogradF2K5: [6, 2],
  weightGradientWinogradF3: [6, 4],
  weightGradientWinogradF5: [6, 2],
};

/** Products between the transforms / products of the direct form. Tiles that reach over the edge count whole. */
function executedShare({ kernel, params: p }: Step): number {
  const tile = WINOGRAD_TILES[kernel];
  if (!tile) return 1;
  const [points, pixels] = tile;
  const input = kernel.startsWith('input');
  const axis = (length = 1, taps = 1) => (Math.ceil(length / pixels) * points) / (length * taps);
  return axis(input ? p.height : p.outHeight, p.kernelHeight) * axis(input ? p.width : p.outWidth, p.kernelWidth);
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
