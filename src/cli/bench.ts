import { stat } from 'node:fs/promises';
import type { CreateOptions, Profile } from '../facenet-gpu.ts';
import type { NetworkName } from '../networks/network.ts';
import { networks } from '../networks/networks.ts';
import type { Context } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { checkReport, writeReport } from './report/page.ts';
import { profileReport } from './report/profile-report.ts';
import { table } from './terminal.ts';

export interface BenchOptions {
  readonly runs: number;
  readonly report?: string;
}

/** What a layer, all its kernels together, takes of a batch. */
export interface LayerTime {
  readonly name: string;
  /** 'conv2d.forward', one for each kernel, in order. */
  readonly kernels: readonly string[];
  readonly milliseconds: number;
  /** Of the time of all layers, 0..1. */
  readonly share: number;
  readonly multiplyAdds: number;
  /** Each tensor of each kernel once. */
  readonly bytes: number;
  /** 2 x multiply-adds / time, in 10^9 a second. */
  readonly gflops: number;
  /** bytes / time, in 10^9 a second. */
  readonly gigabytes: number;
  /** The time that the highest of both rates in this profile would allow, over the time taken: 1 is the best layer. */
  readonly ofBest: number;
}

/** The highest rates of a profile. */
export interface Rates {
  readonly gflops: number;
  readonly gigabytes: number;
}

/** Layers below this share of the time set no rate: clocks are coarse. */
const LEAST_SHARE = 0.01;

/** Kernels by layer, in the order in which they run, with their rates. */
export function layerTimes({ layers, milliseconds: all }: Pick<Profile, 'layers' | 'milliseconds'>): {
  layers: LayerTime[];
  best: Rates;
} {
  const rate = (amount: number, milliseconds: number) => (milliseconds > 0 ? amount / (milliseconds * 1e6) : 0);
  const byName = new Map<string, Profile['layers'][number][]>();
  for (const layer of layers) byName.set(layer.name, [...(byName.get(layer.name) ?? []), layer]);
  const sums = [...byName].map(([name, kernels]) => {
    const sum = (field: 'milliseconds' | 'multiplyAdds' | 'bytes') =>
      kernels.reduce((total, kernel) => total + kernel[field], 0);
    const [milliseconds, multiplyAdds, bytes] = [sum('milliseconds'), sum('multiplyAdds'), sum('bytes')];
    return {
      name,
      kernels: kernels.map(({ operator }) => operator),
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
    layers: sums.map((layer) => ({
      ...layer,
      ofBest: Math.max(part(layer.gflops, best.gflops), part(layer.gigabytes, best.gigabytes)),
    })),
    best,
  };
}

/** `facenet bench`: where the time of a batch goes, layer by layer. */
export async function bench(
  context: Context,
  subject: string | undefined,
  { runs, report }: BenchOptions,
): Promise<number> {
  const { terminal, signal } = context;
  if (report !== undefined) await checkReport(report);
  const name = subject ?? context.modelName;
  const batch = context.batch ?? 1;
  return context.withModel(
    async (net) => {
      const profile = await net.profile({ batch, runs, signal });
      const { layers, best } = layerTimes(profile);
      const answers = {
        schema: 'facenet/bench@1',
        model: name,
        network: net.model.network,
        backend: net.backend,
        why: net.why,
        batch,
        runs,
        timing: profile.timing,
        milliseconds: profile.milliseconds,
        gflops: profile.gflops,
        best,
        layers,
      };
      const rows = [heading, ...layers.map(row)];
      const summary = `${name} (${net.model.network}), batch ${batch}: ${profile.milliseconds.toFixed(2)} ms, ${profile.gflops.toFixed(1)} GFLOP/s; ${net.why}`;
      const clock =
        profile.timing === 'timestamp' ? "by the device's clock" : 'by the wall clock, each kernel on its own';
      const how = `Medians of ${runs} runs ${clock}. GFLOP/s: 2 x multiply-adds of the direct form / time. GB/s: each tensor of a kernel once. Of best: the time that the highest GFLOP/s and GB/s of this table (of layers with a hundredth of the time and more) would allow / the time taken; the ceiling of the device may be higher.`;
      if (report !== undefined) {
        await writeReport(report, profileReport(summary, how, layers, best, rows), answers);
        terminal.note(`facenet: ${report} written`);
      }
      if (terminal.format === 'json') terminal.document(answers);
      else if (terminal.format === 'jsonl') terminal.line(answers);
      else {
        terminal.text(`${summary}\n`);
        terminal.text(table(rows, [2, 3, 4, 5, 6, 7, 8]));
        terminal.text(how);
      }
      return exitCodes.done;
    },
    await modelOf(name),
  );
}

/** A file or packaged model, else a network without weights: times do not depend on them. */
async function modelOf(name: string): Promise<CreateOptions['model']> {
  const isFile = await stat(name).then(
    () => true,
    () => false,
  );
  const untrained = !isFile && name !== 'dlib-resnet' && Object.hasOwn(networks, name);
  return untrained ? { network: name as NetworkName, seed: 1 } : name;
}

const heading = [
  'layer',
  'kernels',
  'ms',
  'of time',
  'multiply-adds, M',
  'GFLOP/s',
  'MB',
  'GB/s',
  'of best',
] as const satisfies readonly string[];

function row(layer: LayerTime): string[] {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const some = (value: number, text: string) => (value > 0 ? text : '');
  const distinct = [...new Set(layer.kernels)];
  return [
    layer.name,
    distinct.length === 1
      ? `${distinct[0]}${layer.kernels.length > 1 ? ` x ${layer.kernels.length}` : ''}`
      : distinct.map((kernel, at) => (at === 0 ? kernel : kernel.replace(/^.*\./, ''))).join(' + '),
    layer.milliseconds.toFixed(3),
    percent(layer.share),
    some(layer.multiplyAdds, (layer.multiplyAdds / 1e6).toFixed(2)),
    some(layer.gflops, layer.gflops.toFixed(1)),
    (layer.bytes / 1e6).toFixed(2),
    some(layer.gigabytes, layer.gigabytes.toFixed(1)),
    layer.milliseconds > 0 ? percent(layer.ofBest) : '',
  ];
}
