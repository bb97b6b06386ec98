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
//   --shapes FILE.md                                    a table of layer shapes, what each reaches and what limits it
//   --report FILE.html                                  default for shaders: .cache/bench/shaders.html
//   --compare FILE.json                                 default: the last run of its kind on this machine
//   --operators relu,prelu                              of the tests' cases only these
//   --tune                                              shaders: measure first which kernels are fastest here, print that, and run those
//   --serve                                             shaders: a page that measures in your browser and gives the report and its JSON
//
// Each run is kept as .cache/bench/history/<kind>-<time>.json, with machine and commit. Medians; the machine should do nothing else.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBackend } from '../src/backends/open.ts';
import { writeReport } from '../src/cli/report/page.ts';
import { createNodeHost } from '../src/io/node/host.ts';
import type { NetworkName } from '../src/networks/network.ts';
import { networks } from '../src/networks/networks.ts';
import { measureCeilings } from './ceilings.ts';
import type { KernelTime } from './kernel-times.ts';
import { servePage } from './shaders/page-server.ts';
import {
  cell,
  factsOf,
  headline,
  type Kept,
  kernelTable,
  layerTable,
  reportOf,
  shapeTable,
  tunedTable,
} from './shaders/report.ts';
import { measure } from './shaders/workload.ts';

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
    shapes: { type: 'string' },
    report: { type: 'string' },
    compare: { type: 'string' },
    operators: { type: 'string' },
    tune: { type: 'boolean', default: false },
    serve: { type: 'boolean', default: false },
  },
});
const kind = positionals[0] ?? 'networks';
if (!['networks', 'shaders', 'cpu'].includes(kind))
  throw new Error(`bench: must be one of networks, shaders, cpu, got ${kind}.`);
const backendName = flags.backend ?? (kind === 'shaders' ? 'webgpu' : 'wasm');
const root = fileURLToPath(new URL('..', import.meta.url));
const history = join(root, '.cache', 'bench', 'history');
const [threads, batch, runs] = [Number(flags.threads), Number(flags.batch), Number(flags.runs)];

const machine = `${cpus()[0]?.model ?? 'processor'}, ${availableParallelism()} threads, ${Math.round(totalmem() / 2 ** 30)} GiB`;
const commit = () => {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') ? '+' : '');
  } catch {
    return 'unknown';
  }
};

function print(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows) {
    const cells = row.map((text, i) =>
      Number.isNaN(Number.parseFloat(text)) ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0),
    );
    console.log(cells.join('  ').trimEnd());
  }
}

function shapesPage([head = [], ...rows]: string[][], place: string): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const alignment = head.map((name) => (['shape', 'kernel', 'limit'].includes(name) ? '---' : '---:'));
  return `# Layer shapes

Written by \`npm run bench -- --nets ${flags.nets} --runs ${flags.runs} --shapes FILE\`. ${place}

Every layer that multiplies matrices, in inference: milliseconds of the layer, GFLOP/s (2 x multiply-adds of the direct form / time), and the shares of that time that its multiply-adds and its
bytes, each read or written once, would take at the ceilings. Winograd's kernels compute fewer products than the direct form: their share counts those, their GFLOP/s may lie above the ceiling. "limit" is the ceiling that takes
four fifths of the time (half of it for memory); else the transforms of Winograd's tiles; weights that are used for few pixels, whose way through the caches decides; or the inner loop itself: its loads and the
wait for its sums. The last two columns are GFLOP/s of the gradients in training, W by Winograd.

${[line(head), line(alignment), ...rows.map(line)].join('\n')}
`;
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

if (flags.serve) {
  if (kind !== 'shaders') throw new Error(`bench: --serve is for shaders, got ${kind}.`);
  console.log(`${(await servePage(commit())).origin}/ measures in your browser; Ctrl-C ends`);
} else if (kind === 'cpu') {
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
  const nets = flags.nets.split(',').filter(Boolean) as NetworkName[];
  for (const name of nets)
    if (!Object.hasOwn(networks, name)) throw new Error(`bench: --nets must name networks, got ${name}.`);
  const { forward, tune } = flags;
  const operators = flags.operators?.split(',');
  const tell = (line: string) => console.error(line);
  const work = { nets, batch, runs, forward, operators, tune, tell };
  const { times, plans } = await measure(backend, work, kind === 'shaders');
  const places = [...new Set(times.map(({ where }) => where))];
  for (const where of places.filter((name) => !name.startsWith('test case'))) {
    const own = times.filter((time) => time.where === where);
    console.log(`\n${headline(`${where}, batch ${batch}`, own, ceilings)}`);
    const facts = plans.find((plan) => plan.where === where);
    if (facts) console.log(factsOf(facts));
    if (facts?.tuning) print(tunedTable(facts));
    print(kernelTable(own, ceilings));
    if (flags.layers) print(layerTable(own, ceilings));
  }
  const rest = times.filter(({ where }) => where.startsWith('test case'));
  if (rest.length > 0) {
    console.log('\nEntries that these networks do not use, over the largest case of their tests:');
    print(kernelTable(rest, ceilings));
  }
  if (flags.shapes !== undefined) {
    const place = `${machine}; ${device}; ceilings ${cell(ceilings.gflops)} GFLOP/s, ${cell(ceilings.gigabytes)} GB/s; Node ${process.version}.`;
    writeFileSync(flags.shapes, shapesPage(shapeTable(times, ceilings), place));
    console.log(`\n${flags.shapes}`);
  }
  const report = flags.report ?? (kind === 'shaders' ? join(root, '.cache', 'bench', 'shaders.html') : undefined);
  const when = new Date().toISOString();
  const now = { kind, machine, device, commit: commit(), when, node: process.version, ceilings, plans, times };
  if (report) {
    mkdirSync(dirname(report), { recursive: true });
    await writeReport(report, reportOf(now), now);
    console.log(`\n${report}`);
  }
  keep(now);
  await backend.dispose();
}
