// `facenet bench model` and `facenet bench ops`: a profile summed by layer, and by kernel.
import type { FaceNetGPU, Profile } from '../node.ts';
import type { Measurement, MeasureOptions } from './bench.ts';
import { profilePlot } from './report/profile-plot.ts';

/** What several kernels of a batch take together. */
export interface KernelSum {
  readonly name: string;
  readonly milliseconds: number;
  /** Of the time of all kernels, 0..1. */
  readonly share: number;
  readonly multiplyAdds: number;
  /** Each tensor of each kernel once. */
  readonly bytes: number;
  /** 2 x multiply-adds / time, in 10^9 a second. */
  readonly gflops: number;
  /** bytes / time, in 10^9 a second. */
  readonly gigabytes: number;
  /** The time that the highest of both rates in this profile would allow, over the time taken: 1 is the best. */
  readonly ofBest: number;
}

/** A layer: all its kernels together. */
export interface LayerTime extends KernelSum {
  /** 'conv2d.forward', one for each kernel, in order. */
  readonly kernels: readonly string[];
}

/** A kernel, 'conv2d.forward': all its runs of a batch together. */
export interface KernelTime extends KernelSum {
  /** How often it runs. */
  readonly count: number;
}

/** The highest rates of a profile. */
export interface Rates {
  readonly gflops: number;
  readonly gigabytes: number;
}

type Kernels = Pick<Profile, 'layers' | 'milliseconds'>;

/** Sums below this share of the time set no rate: clocks are coarse. */
const LEAST_SHARE = 0.01;

/** Kernels by layer, in the order in which they run, with their rates. */
export function layerTimes(profile: Kernels): { layers: LayerTime[]; best: Rates } {
  const { sums, best } = sumsBy('name', profile);
  return {
    layers: sums.map(({ of, ...sum }) => ({ ...sum, kernels: of.map(({ operator }) => operator) })),
    best,
  };
}

/** Kernels by what they compute, the longest first, with their rates. */
export function kernelTimes(profile: Kernels): { kernels: KernelTime[]; best: Rates } {
  const { sums, best } = sumsBy('operator', profile);
  return {
    kernels: sums
      .map(({ of, ...sum }) => ({ ...sum, count: of.length }))
      .sort((a, b) => b.milliseconds - a.milliseconds),
    best,
  };
}

function sumsBy(field: 'name' | 'operator', { layers, milliseconds: all }: Kernels) {
  const rate = (amount: number, milliseconds: number) => (milliseconds > 0 ? amount / (milliseconds * 1e6) : 0);
  const groups = new Map<string, Profile['layers'][number][]>();
  for (const kernel of layers) groups.set(kernel[field], [...(groups.get(kernel[field]) ?? []), kernel]);
  const sums = [...groups].map(([name, of]) => {
    const sum = (amount: 'milliseconds' | 'multiplyAdds' | 'bytes') =>
      of.reduce((total, kernel) => total + kernel[amount], 0);
    const [milliseconds, multiplyAdds, bytes] = [sum('milliseconds'), sum('multiplyAdds'), sum('bytes')];
    return {
      name,
      of,
      milliseconds,
      share: all > 0 ? milliseconds / all : 0,
      multiplyAdds,
      bytes,
      gflops: rate(2 * multiplyAdds, milliseconds),
      gigabytes: rate(bytes, milliseconds),
    };
  });
  const long = sums.filter(({ share }) => share >= LEAST_SHARE);
  const best: Rates = {
    gflops: Math.max(0, ...long.map(({ gflops }) => gflops)),
    gigabytes: Math.max(0, ...long.map(({ gigabytes }) => gigabytes)),
  };
  const part = (value: number, most: number) => (most > 0 ? Math.min(1, value / most) : 0);
  return {
    sums: sums.map((sum) => ({
      ...sum,
      ofBest: Math.max(part(sum.gflops, best.gflops), part(sum.gigabytes, best.gigabytes)),
    })),
    best,
  };
}

/** `facenet bench model`. */
export async function measureLayers(net: FaceNetGPU, options: MeasureOptions): Promise<Measurement> {
  const profile = await profileOf(net, options);
  const { layers, best } = layerTimes(profile);
  return {
    ...measurement(net, options, profile, layers, best, 'layer'),
    fields: { ...totals(profile, best), layers },
    table: [
      ['layer', 'kernels', ...heading],
      ...layers.map((layer) => [layer.name, kernelNames(layer.kernels), ...cells(layer)]),
    ],
  };
}

/** `facenet bench ops`. */
export async function measureKernels(net: FaceNetGPU, options: MeasureOptions): Promise<Measurement> {
  const profile = await profileOf(net, options);
  const { kernels, best } = kernelTimes(profile);
  return {
    ...measurement(net, options, profile, kernels, best, 'kernel'),
    fields: { ...totals(profile, best), kernels },
    table: [
      ['kernel', 'count', ...heading],
      ...kernels.map((kernel) => [kernel.name, String(kernel.count), ...cells(kernel)]),
    ],
  };
}

const profileOf = (net: FaceNetGPU, { batch, runs, context: { signal } }: MeasureOptions) =>
  net.profile({ batch, runs, signal });

const totals = ({ timing, milliseconds, gflops }: Profile, best: Rates) => ({ timing, milliseconds, gflops, best });

/** What layers and kernels have in common. */
function measurement(
  net: FaceNetGPU,
  { name, batch, runs }: MeasureOptions,
  { timing, milliseconds, gflops }: Profile,
  rows: readonly KernelSum[],
  best: Rates,
  row: 'layer' | 'kernel',
): Omit<Measurement, 'fields' | 'table'> {
  const subject = `${name} (${net.model.network})`;
  const clock = timing === 'timestamp' ? "by the device's clock" : 'by the wall clock, each kernel on its own';
  return {
    rows,
    summary: `${subject}, batch ${batch}: ${milliseconds.toFixed(2)} ms, ${gflops.toFixed(1)} GFLOP/s; ${net.why}`,
    how: `Medians of ${runs} runs ${clock}. GFLOP/s: 2 x multiply-adds of the direct form / time. GB/s: each tensor of a kernel once. Of best: the time that the highest GFLOP/s and GB/s of this table (of ${row}s with a hundredth of the time and more) would allow / the time taken; the ceiling of the device may be higher.`,
    right: row === 'layer' ? [2, 3, 4, 5, 6, 7, 8] : [1, 2, 3, 4, 5, 6, 7, 8],
    title: `${row === 'layer' ? 'Layers' : 'Kernels'} of ${subject}`,
    legend: `Grey line: the highest GFLOP/s and GB/s of any ${row} here with at least a hundredth of the time. Names: the longest six.`,
    plot: () => profilePlot(rows, best),
  };
}

const heading = ['ms', 'of time', 'multiply-adds, M', 'GFLOP/s', 'MB', 'GB/s', 'of best'] as const;

function cells({ milliseconds, share, multiplyAdds, bytes, gflops, gigabytes, ofBest }: KernelSum): string[] {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const some = (value: number, text: string) => (value > 0 ? text : '');
  return [
    milliseconds.toFixed(3),
    percent(share),
    some(multiplyAdds, (multiplyAdds / 1e6).toFixed(2)),
    some(gflops, gflops.toFixed(1)),
    (bytes / 1e6).toFixed(2),
    some(gigabytes, gigabytes.toFixed(1)),
    milliseconds > 0 ? percent(ofBest) : '',
  ];
}

/** 'conv2d.forward x 2', 'conv2d.transformInput + multiply'. */
function kernelNames(kernels: readonly string[]): string {
  const distinct = [...new Set(kernels)];
  if (distinct.length === 1) return `${distinct[0]}${kernels.length > 1 ? ` x ${kernels.length}` : ''}`;
  return distinct.map((kernel, at) => (at === 0 ? kernel : kernel.replace(/^.*\./, ''))).join(' + ');
}
