// Tables and the page of a benchmark of kernels, from what was measured. The same in Node and in a page.
import { htmlTable, page } from '../../src/cli/report/html.ts';
import { plot } from '../../src/cli/report/plot.ts';
import { byKernel, type KernelTime, type Rates, rates } from '../kernel-times.ts';
import type { PlanFacts } from './workload.ts';

/** The two ceilings: 2 x multiply-adds, and bytes read plus bytes written, in 10^9 a second. */
export interface Ceilings {
  readonly gflops: number;
  readonly gigabytes: number;
}

/** What is kept of a run. Times of one kind on one machine may be compared. */
export interface Kept {
  readonly kind: string;
  readonly machine: string;
  readonly device: string;
  readonly commit: string;
  readonly when: string;
  /** Of the runtime. */
  readonly node: string;
  readonly ceilings?: Ceilings;
  readonly plans?: readonly PlanFacts[];
  readonly times: readonly KernelTime[];
}

export const cell = (value: number, digits = 1): string => value.toFixed(digits);

/** The table over kernels, longest first. */
export function kernelTable(times: readonly KernelTime[], ceilings: Ceilings): string[][] {
  const rows = byKernel(times).map((sum) => {
    const { gflops, gigabytes, share } = rates(sum, ceilings);
    return [
      sum.kernel,
      String(sum.count),
      cell(sum.milliseconds, 3),
      cell(gflops),
      cell(gigabytes),
      `${cell(share * 100, 0)} %`,
    ];
  });
  return [['kernel', 'times', 'ms', 'GFLOP/s', 'GB/s', 'of ceiling'], ...rows];
}

export function layerTable(times: readonly KernelTime[], ceilings: Ceilings): string[][] {
  const rows = times.map((time) => {
    const { gflops, gigabytes, intensity, share } = rates(time, ceilings);
    const numbers = [
      cell(time.milliseconds, 3),
      cell(gflops),
      cell(gigabytes),
      cell(intensity),
      `${cell(share * 100, 0)} %`,
    ];
    return [time.layer, time.kernel, time.tile, ...numbers];
  });
  return [['layer', 'kernel', 'tile', 'ms', 'GFLOP/s', 'GB/s', 'FLOP/byte', 'of ceiling'], ...rows];
}

/**
 * Products of matrices, one line a shape: of the forward kernel the milliseconds of one layer (mean of equal ones), GFLOP/s of the direct form, the
 * shares of that time that its multiply-adds (Winograd's own, where it is one) and its bytes from memory take at the ceilings, and what
 * limits it; then the GFLOP/s of both gradients.
 */
export function shapeTable(times: readonly KernelTime[], ceilings: Ceilings): string[][] {
  const groups = new Map<string, KernelTime[]>();
  for (const time of times) if (time.shape) groups.set(time.shape, [...(groups.get(time.shape) ?? []), time]);
  const rows = [...groups].map(([shape, group]) => {
    const of = (kind: RegExp, not = /^$/) => {
      const found = group.filter(({ kernel }) => kind.test(kernel) && !not.test(kernel));
      const milliseconds = found.reduce((sum, time) => sum + time.milliseconds, 0) / found.length;
      return found[0] && { ...found[0], milliseconds };
    };
    const forward = of(/./, /gradient/i);
    const speed = (time: KernelTime | undefined) => {
      if (!time) return '';
      return `${cell(rates(time, ceilings).gflops)}${/winograd/i.test(time.kernel) ? ' W' : ''}`;
    };
    const backward = [speed(of(/inputGradient/)), speed(of(/weightGradient/))];
    if (!forward) return { order: 0, row: [shape, '', '', '', '', '', '', ...backward] };
    const { gflops, gigabytes } = rates(forward, ceilings);
    const products = ((forward.executed ?? 1) * gflops) / ceilings.gflops;
    const memory = gigabytes / ceilings.gigabytes;
    const percent = (share: number) => `${cell(share * 100, 0)} %`;
    const numbers = [cell(forward.milliseconds, 3), cell(gflops), percent(products), percent(memory)];
    const kernel = forward.kernel.replace(/^conv2d\./, '');
    return {
      order: forward.multiplyAdds,
      row: [shape, kernel, ...numbers, limitOf(forward, products, memory), ...backward],
    };
  });
  rows.sort((a, b) => b.order - a.order);
  return [
    ['shape', 'kernel', 'ms', 'GFLOP/s', 'multiply-adds', 'memory', 'limit', 'input gradient', 'weight gradient'],
    ...rows.map(({ row }) => row),
  ];
}

/** The ceiling that takes four fifths of the time, or half of it for memory, which is never read at full speed; else what the kernel does besides. */
function limitOf({ kernel, executed = 1, multiplyAdds, bytes }: KernelTime, products: number, memory: number): string {
  if (products >= 0.8 && products >= memory) return 'multiply-adds';
  if (memory >= 0.5) return 'memory';
  if (/winograd/i.test(kernel) && executed !== 1) return 'transforms';
  return multiplyAdds / bytes < 5 ? 'weights, used few times' : 'inner loop';
}

/** What a tuner found: time of each variant / time of the default. */
export function tunedTable({ tuning = [] }: PlanFacts): string[][] {
  const short = (name: string) => name.replaceAll('"', '').replaceAll(/[{,}]/g, ' ').trim();
  const rows = tuning.map(({ layers, variants, ratios, taken, milliseconds }) => [
    layers.length > 1 ? `${layers[0]} and ${layers.length - 1} more` : (layers[0] ?? ''),
    cell(milliseconds, 3),
    taken === variants[0] ? 'default' : short(taken),
    variants.map((name, index) => `${short(name)}: ${ratios[index] == null ? '-' : cell(ratios[index], 2)}`).join(', '),
  ]);
  return [['layer', 'ms', 'taken', 'time / time of the default'], ...rows];
}

/** Memory and the time that recording takes, in words. */
export function factsOf({ bytes, forecast, recording }: PlanFacts): string {
  const memory = `${cell(bytes / 1e6)} MB on the device, ${cell(forecast / 1e6)} forecast${bytes === forecast ? '' : ' (NOT EQUAL)'}`;
  return recording
    ? `${memory}; ${recording.dispatches} dispatches recorded and submitted in ${cell(recording.milliseconds, 2)} ms (as many bare calls: ${cell(recording.floor, 2)})`
    : memory;
}

/** One network whole. */
export function headline(where: string, own: readonly KernelTime[], ceilings: Ceilings): string {
  const sum = { milliseconds: 0, multiplyAdds: 0, bytes: 0 };
  for (const time of own)
    for (const field of ['milliseconds', 'multiplyAdds', 'bytes'] as const) sum[field] += time[field];
  const { gflops, share }: Rates = rates(sum, ceilings);
  return `${where}: ${cell(sum.milliseconds, 2)} ms, ${cell(gflops)} GFLOP/s, ${cell(share * 100, 0)} % of the ceiling`;
}

/** Layers as dots under the two ceilings; both axes are logarithms to base 10. */
function roofline(times: readonly KernelTime[], ceilings: Ceilings): string {
  const log = (value: number) => Math.log10(Math.max(value, 1e-9));
  const decades = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, i) => [from + i, String(10 ** (from + i))] as const);
  const x = { from: -2, to: 3, label: 'FLOP a byte', ticks: decades(-2, 3) };
  const top = Math.ceil(log(ceilings.gflops));
  const y = { from: -2, to: top, label: 'GFLOP/s', ticks: decades(-2, top) };
  const knee = ceilings.gflops / ceilings.gigabytes;
  const dots = (backward: boolean) =>
    times
      .filter(({ multiplyAdds, where }) => multiplyAdds > 0 && where.endsWith(', training') === backward)
      .map((time) => {
        const { intensity, gflops } = rates(time, ceilings);
        return [log(intensity), log(gflops)] as const;
      });
  return plot('Roofline', x, y, [
    {
      kind: 'line',
      colour: '#b33',
      points: [
        [-2, log(ceilings.gigabytes / 100)],
        [log(knee), log(ceilings.gflops)],
        [3, log(ceilings.gflops)],
      ],
    },
    { kind: 'dot', colour: '#26c', points: dots(false) },
    { kind: 'dot', colour: '#2a7', points: dots(true) },
  ]);
}

/** The report as one page. */
export function reportOf({
  machine,
  device,
  commit,
  when,
  ceilings,
  times,
  plans = [],
}: Kept & { ceilings: Ceilings }): string {
  const lines = [
    `${machine}; ${device}; commit ${commit}; ${when}`,
    `Ceilings measured by kernels of ours: ${cell(ceilings.gflops)} GFLOP/s, ${cell(ceilings.gigabytes)} GB/s. Blue: forward. Green: training.`,
  ];
  const parts = [...new Set(times.map(({ where }) => where))].flatMap((where) => {
    const own = times.filter((time) => time.where === where);
    const facts = plans.find((plan) => plan.where === where);
    return [
      `<h2>${where}</h2>`,
      ...(facts ? [`<p>${factsOf(facts)}</p>`] : []),
      ...(facts?.tuning ? [htmlTable(tunedTable(facts))] : []),
      htmlTable(kernelTable(own, ceilings)),
      htmlTable(layerTable(own, ceilings)),
    ];
  });
  return page('Kernels and the roofline', lines, [roofline(times, ceilings), ...parts]);
}
