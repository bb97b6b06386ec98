// How fast every kernel is, and how near to what the machine could do.
//
//   npm run bench                    networks on wasm: every layer and every kernel, forward and backward
//   npm run bench -- shaders         the same on WebGPU: every entry of every shader over the layers of real networks, those that no network
//                                    uses over the cases of its tests; an HTML report with a roofline plot
//   npm run bench -- cpu             what runs on the processor alone: parsers, nearest neighbours, clustering
//
//   --backend wasm|webgpu  --threads N  --plain         default: wasm, one thread, fused multiply-add
//   --nets nn4.small2,nn2  --batch 1  --runs 5          forward only with --forward
//   --layers                                            one line a layer too
//   --report FILE.html                                  default for shaders: .cache/bench/shaders.html
//   --compare FILE.json                                 default: the last run of its kind on this machine
//
// Each run is kept as .cache/bench/history/<kind>-<time>.json, with machine and commit. Medians; the machine should do nothing else.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBackend } from '../src/backends/open.ts';
import { htmlTable, page, writeReport } from '../src/cli/report/page.ts';
import { plot } from '../src/cli/report/plot.ts';
import { gradients } from '../src/graph/gradients.ts';
import { Graph, type Value } from '../src/graph/graph.ts';
import { BATCH } from '../src/graph/shape.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import { initialise, parametersOf } from '../src/networks/initialise.ts';
import type { NetworkName } from '../src/networks/network.ts';
import { networks } from '../src/networks/networks.ts';
import { add } from '../src/ops/add.ts';
import { Plan } from '../src/plan/plan.ts';
import type { Backend } from '../src/plan/runner.ts';
import { Store } from '../src/plan/store.ts';
import { planCase, specs } from '../test/conformance.ts';
import { type Ceilings, measureCeilings } from './ceilings.ts';
import { byKernel, type KernelTime, kernelTimes, rates } from './kernel-times.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: 'string' },
    threads: { type: 'string', default: '1' },
    plain: { type: 'boolean', default: false },
    nets: { type: 'string', default: 'nn4.small2,nn2' },
    batch: { type: 'string', default: '1' },
    runs: { type: 'string', default: '5' },
    forward: { type: 'boolean', default: false },
    layers: { type: 'boolean', default: false },
    report: { type: 'string' },
    compare: { type: 'string' },
  },
});
const kind = positionals[0] ?? 'networks';
if (!['networks', 'shaders', 'cpu'].includes(kind))
  throw new Error(`bench: must be one of networks, shaders, cpu, got ${kind}.`);
const backendName = flags.backend ?? (kind === 'shaders' ? 'webgpu' : 'wasm');
const root = fileURLToPath(new URL('..', import.meta.url));
const history = join(root, '.cache', 'bench', 'history');
const [threads, batch, runs] = [Number(flags.threads), Number(flags.batch), Number(flags.runs)];

/** What is kept of a run. Times of one kind on one machine may be compared. */
interface Kept {
  readonly kind: string;
  readonly machine: string;
  readonly device: string;
  readonly commit: string;
  readonly when: string;
  readonly node: string;
  readonly ceilings?: Ceilings;
  readonly times: readonly KernelTime[];
}

const machine = `${cpus()[0]?.model ?? 'processor'}, ${availableParallelism()} threads, ${Math.round(totalmem() / 2 ** 30)} GiB`;
const commit = () => {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') ? '+' : '');
  } catch {
    return 'unknown';
  }
};

/** Forward (as embedding runs it: folded and fused) and backward (gradients of all parameters) of a network. */
async function networkTimes(backend: Backend, name: NetworkName): Promise<KernelTime[]> {
  const network = networks[name];
  const times: KernelTime[] = [];
  for (const backward of flags.forward ? [false] : [false, true]) {
    const store = new Store(backend);
    const parameters = parametersOf(network);
    const values = initialise(parameters, 1);
    for (const { name: parameter, shape } of parameters)
      store.set(parameter, values.get(parameter) as Float32Array, shape);
    const graph = new Graph();
    const { width, height } = network.input;
    const y = network.build(graph.input('x', [BATCH, height, width, 3]), { mode: backward ? 'training' : 'inference' });
    const outputs: Record<string, Value> = { y };
    if (backward) {
      const found = gradients(y, graph.parameters, graph.input('dy', y.shape), add);
      graph.parameters.forEach((parameter, index) => {
        const gradient = found[index];
        if (gradient) outputs[`gradient of ${parameter.name}`] = gradient;
      });
    }
    const plan = await Plan.create(graph, outputs, backend, store, { batchSize: batch });
    // Kernels run on what lies in memory: noise, not zeros, whose products some processors take faster.
    const size = height * width * 3 * batch;
    const x = Float32Array.from({ length: size }, (_, i) => ((i * 37) % 255) / 255 - 0.5);
    const dy = new Float32Array(batch * network.dimensions).fill(0.1);
    await plan.run(backward ? { x, dy } : { x }, batch, ['y']);
    times.push(...(await kernelTimes(plan, `${name}${backward ? ', training' : ''}`, batch, runs)));
    plan.dispose();
    store.dispose();
  }
  return times;
}

/** The largest case of each operator's tests: for entries that no network uses. */
async function caseTimes(backend: Backend, met: ReadonlySet<string>): Promise<KernelTime[]> {
  const times: KernelTime[] = [];
  for (const spec of specs) {
    const elements = (shapes: Readonly<Record<string, readonly number[]>>) =>
      Object.values(shapes).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const largest = [...spec.cases].sort((a, b) => elements(b.shapes) - elements(a.shapes))[0];
    if (!largest) continue;
    let planned: Awaited<ReturnType<typeof planCase>>;
    try {
      planned = await planCase(backend, spec, largest);
    } catch (error) {
      console.log(`NOT MEASURED: ${spec.operator.name}: ${(error as Error).message}`);
      continue;
    }
    const { plan, store, given } = planned;
    try {
      await plan.run(given);
      const found = await kernelTimes(plan, `test case of ${spec.operator.name}`, 1, runs);
      times.push(...found.filter(({ kernel }) => !met.has(kernel)));
    } finally {
      plan.dispose();
      store.dispose();
    }
  }
  return times;
}

const cell = (value: number, digits = 1): string => value.toFixed(digits);

/** Rows of the table over kernels. */
function kernelRows(times: readonly KernelTime[], ceilings: Ceilings): string[][] {
  return byKernel(times).map((sum) => {
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
}

const kernelHead = ['kernel', 'times', 'ms', 'GFLOP/s', 'GB/s', 'of ceiling'];

function layerRows(times: readonly KernelTime[], ceilings: Ceilings): string[][] {
  return times.map((time) => {
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
}

const layerHead = ['layer', 'kernel', 'tile', 'ms', 'GFLOP/s', 'GB/s', 'FLOP/byte', 'of ceiling'];

function print(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows) {
    const cells = row.map((text, i) =>
      Number.isNaN(Number.parseFloat(text)) ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0),
    );
    console.log(cells.join('  ').trimEnd());
  }
}

/** Layers as dots under the two ceilings; both axes are logarithms to base 10. */
function roofline(times: readonly KernelTime[], ceilings: Ceilings): string {
  const log = (value: number) => Math.log10(Math.max(value, 1e-9));
  const decades = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, i) => [from + i, String(10 ** (from + i))] as const);
  const x = { from: -2, to: 3, label: 'FLOP a byte', ticks: decades(-2, 3) };
  const y = {
    from: -2,
    to: Math.ceil(log(ceilings.gflops)),
    label: 'GFLOP/s',
    ticks: decades(-2, Math.ceil(log(ceilings.gflops))),
  };
  const knee = ceilings.gflops / ceilings.gigabytes;
  const counted = times.filter(({ multiplyAdds }) => multiplyAdds > 0);
  const dots = (backward: boolean) =>
    counted
      .filter(({ where }) => where.endsWith(', training') === backward)
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

/** The last kept run of this kind, machine and device. */
function former(now: Kept): Kept | undefined {
  if (flags.compare !== undefined) return JSON.parse(readFileSync(flags.compare, 'utf8')) as Kept;
  if (!existsSync(history)) return undefined;
  for (const file of readdirSync(history).sort().reverse()) {
    const kept = JSON.parse(readFileSync(join(history, file), 'utf8')) as Kept;
    if (kept.kind === now.kind && kept.machine === now.machine && kept.device === now.device) return kept;
  }
  return undefined;
}

/** Kernels whose time changed by more than a tenth, and the sums. */
function compare(now: Kept, before: Kept): string[][] {
  const key = ({ where, kernel }: Pick<KernelTime, 'where' | 'kernel'>) => `${where}: ${kernel}`;
  const sums = (times: readonly KernelTime[]) => {
    const found = new Map<string, number>();
    for (const time of times)
      for (const name of [key(time), time.where]) found.set(name, (found.get(name) ?? 0) + time.milliseconds);
    return found;
  };
  const [mine, theirs] = [sums(now.times), sums(before.times)];
  return [...mine].flatMap(([name, milliseconds]) => {
    const was = theirs.get(name);
    if (was === undefined || (name.includes(':') && Math.abs(milliseconds / was - 1) < 0.1)) return [];
    return [[name, cell(was, 3), cell(milliseconds, 3), `${cell((milliseconds / was) * 100 - 100, 0)} %`]];
  });
}

function keep(now: Kept): void {
  const before = former(now);
  mkdirSync(history, { recursive: true });
  writeFileSync(join(history, `${kind}-${now.when.replaceAll(/[:.]/g, '-')}.json`), JSON.stringify(now));
  if (!before) return;
  console.log(`\nAgainst ${before.commit} of ${before.when}:`);
  print([['', 'was', 'is', 'change'], ...compare(now, before)]);
}

if (kind === 'cpu') {
  const { processorTimes } = await import('./processor.ts');
  const times = await processorTimes((line) => console.log(line));
  keep({
    kind,
    machine,
    device: 'processor',
    commit: commit(),
    when: new Date().toISOString(),
    node: process.version,
    times,
  });
} else {
  const { backend, why } = await openBackend(createNodeHost(), {
    backend: backendName as 'wasm' | 'webgpu',
    threads,
    ...(flags.plain ? { relaxed: false } : {}),
  });
  const device = `${why}, batch ${batch}`;
  const ceilings = await measureCeilings(backend, threads, !flags.plain);
  console.log(`${machine}\n${device}`);
  console.log(`ceilings measured here: ${cell(ceilings.gflops)} GFLOP/s, ${cell(ceilings.gigabytes)} GB/s`);
  const times: KernelTime[] = [];
  for (const name of flags.nets.split(',').filter(Boolean)) {
    if (!Object.hasOwn(networks, name)) throw new Error(`bench: --nets must name networks, got ${name}.`);
    times.push(...(await networkTimes(backend, name as NetworkName)));
  }
  if (kind === 'shaders') times.push(...(await caseTimes(backend, new Set(times.map(({ kernel }) => kernel)))));
  const places = [...new Set(times.map(({ where }) => where))];
  const networksMet = places.filter((where) => !where.startsWith('test case'));
  for (const where of networksMet) {
    const own = times.filter((time) => time.where === where);
    const sum = { milliseconds: 0, multiplyAdds: 0, bytes: 0 };
    for (const time of own)
      for (const field of ['milliseconds', 'multiplyAdds', 'bytes'] as const) sum[field] += time[field];
    const { gflops, share } = rates(sum, ceilings);
    console.log(
      `\n${where}, batch ${batch}: ${cell(sum.milliseconds, 2)} ms, ${cell(gflops)} GFLOP/s, ${cell(share * 100, 0)} % of the ceiling`,
    );
    print([kernelHead, ...kernelRows(own, ceilings)]);
    if (flags.layers) print([layerHead, ...layerRows(own, ceilings)]);
  }
  const rest = times.filter(({ where }) => where.startsWith('test case'));
  if (rest.length > 0) {
    console.log('\nEntries that these networks do not use, over the largest case of their tests:');
    print([kernelHead, ...kernelRows(rest, ceilings)]);
  }
  const report = flags.report ?? (kind === 'shaders' ? join(root, '.cache', 'bench', 'shaders.html') : undefined);
  const now: Kept = {
    kind,
    machine,
    device,
    commit: commit(),
    when: new Date().toISOString(),
    node: process.version,
    ceilings,
    times,
  };
  if (report) {
    const lines = [
      `${machine}; ${device}; commit ${now.commit}; ${now.when}`,
      `Ceilings measured by kernels of ours: ${cell(ceilings.gflops)} GFLOP/s, ${cell(ceilings.gigabytes)} GB/s. Blue: forward. Green: training.`,
    ];
    const parts = [
      roofline(times, ceilings),
      ...places.flatMap((where) => {
        const own = times.filter((time) => time.where === where);
        return [
          `<h2>${where}</h2>`,
          htmlTable([kernelHead, ...kernelRows(own, ceilings)]),
          htmlTable([layerHead, ...layerRows(own, ceilings)]),
        ];
      }),
    ];
    await writeReport(report, page('Kernels and the roofline', lines, parts), now);
    console.log(`\n${report}`);
  }
  keep(now);
  await backend.dispose();
}
