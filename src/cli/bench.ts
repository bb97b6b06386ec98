import { stat } from 'node:fs/promises';
import type { NetworkName } from '../networks/network.ts';
import { networks } from '../networks/networks.ts';
import type { CreateOptions, FaceNetGPU } from '../node.ts';
import { checkComparable, compare, comparisonTable, readEarlier, type TimedRow } from './bench-against.ts';
import { measureKernels, measureLayers } from './bench-profile.ts';
import { measureSearch } from './bench-search.ts';
import type { Context } from './context.ts';
import { exitCodes } from './exit-code.ts';
import { benchReport } from './report/bench-report.ts';
import { checkReport, writeReport } from './report/page.ts';
import { table, visible } from './terminal.ts';

export interface BenchOptions {
  readonly runs: number;
  readonly against?: string;
  readonly report?: string;
}

/** What can be measured: the layers of a model, its kernels, the search in galleries of its embeddings. */
export const benchSubjects = ['model', 'ops', 'search'] as const;
export type BenchSubject = (typeof benchSubjects)[number];

export const isBenchSubject = (text: string | undefined): text is BenchSubject =>
  (benchSubjects as readonly (string | undefined)[]).includes(text);

/** What a measurement is told. */
export interface MeasureOptions {
  readonly context: Context;
  /** What the user calls the model. */
  readonly name: string;
  readonly batch: number;
  /** Times are medians of so many. */
  readonly runs: number;
}

/** What was measured, ready for text, JSON and page. */
export interface Measurement {
  /** What JSON has beside the fields of all subjects; the rows are among them. */
  readonly fields: object;
  readonly rows: readonly TimedRow[];
  readonly summary: string;
  /** How it was measured, and what the columns are. */
  readonly how: string;
  /** Heading and rows; the columns in `right` are numbers. */
  readonly table: readonly (readonly string[])[];
  readonly right: readonly number[];
  /** Of the page. */
  readonly title: string;
  /** What the plot shows. */
  readonly legend: string;
  /** As SVG. */
  plot(): string;
}

const measure: Readonly<Record<BenchSubject, (net: FaceNetGPU, options: MeasureOptions) => Promise<Measurement>>> = {
  model: measureLayers,
  ops: measureKernels,
  search: measureSearch,
};

/**
 * `facenet bench`: where the time of a batch goes, by layer or kernel, or how fast galleries are searched; beside an earlier run, if asked for.
 * @throws before anything is measured for a report that cannot be written and an earlier run that cannot be compared with.
 */
export async function bench(
  context: Context,
  subject: BenchSubject,
  model: string | undefined,
  { runs, against, report }: BenchOptions,
): Promise<number> {
  const { terminal } = context;
  if (report !== undefined) await checkReport(report);
  const earlier = against === undefined ? undefined : await readEarlier(against, subject);
  const name = model ?? context.modelName;
  const batch = context.batch ?? 1;
  return context.withModel(
    async (net) => {
      const setting = {
        network: net.model.network,
        backend: net.backend,
        ...(subject === 'search' ? { dimensions: net.dimensions } : { batch }),
      };
      if (earlier) checkComparable(earlier, setting);
      const measured = await measure[subject](net, { context, name, batch, runs });
      const { summary, how } = measured;
      const comparison = earlier && compare(earlier, measured.rows);
      const answers = {
        schema: 'facenet/bench@1',
        what: subject,
        model: name,
        ...setting,
        why: net.why,
        runs,
        ...measured.fields,
        ...(comparison && { against: comparison }),
      };
      if (report !== undefined) {
        await writeReport(report, benchReport(measured, comparison), answers);
        terminal.note(`facenet: ${report} written`);
      }
      if (terminal.format === 'json') terminal.document(answers);
      else if (terminal.format === 'jsonl') terminal.line(answers);
      else {
        terminal.text(`${summary}\n`);
        terminal.text(table(measured.table, measured.right));
        terminal.text(how);
        if (comparison) {
          const { file, model, why } = comparison;
          terminal.text(`\nagainst ${[file, model, why].map(visible).join('; ')}\n`);
          terminal.text(table(comparisonTable(comparison), [1, 2, 3]));
        }
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
