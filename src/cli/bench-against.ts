// `facenet bench --against FILE`: the times of an earlier run beside those of this one.
import { FaceNetError } from '../errors.ts';
import { readWholeFile } from '../io/node/image-files.ts';
import type { BenchSubject } from './bench.ts';
import { visible } from './terminal.ts';

/** A row of a measurement: no two of one measurement have the same name. */
export interface TimedRow {
  readonly name: string;
  readonly milliseconds: number;
}

/** What must be equal for times to be compared: `batch` of a profile, `dimensions` of a search. */
export interface Setting {
  readonly network: string;
  readonly backend: string;
  readonly batch?: number;
  readonly dimensions?: number;
}

/** What is used of the JSON of an earlier run. */
export interface EarlierRun {
  readonly file: string;
  readonly model: string;
  readonly why: string;
  readonly setting: Setting;
  readonly rows: readonly TimedRow[];
}

/** Milliseconds; `ratio` is now / before, null where there is none. */
export interface ComparedTime {
  readonly before: number | null;
  readonly now: number | null;
  readonly ratio: number | null;
}

/** Two runs: the rows of this one in their order, then those that are gone. A new row has no `before`, one that is gone no `now`. */
export interface Comparison {
  readonly file: string;
  readonly model: string;
  readonly why: string;
  readonly rows: readonly (ComparedTime & { readonly name: string })[];
  /** Sums of all rows of either run. */
  readonly total: ComparedTime;
}

/** Where the JSON of a subject has its rows. */
const rowsField = { model: 'layers', ops: 'kernels', search: 'searches' } as const;

/** Far more than any run writes. */
const MAX_BYTES = 2 ** 26;

/** The run whose JSON (of --json, --jsonl, or beside a report) the file holds. @throws 'input' for any other file, and for a run of another subject. */
export async function readEarlier(file: string, subject: BenchSubject): Promise<EarlierRun> {
  const at = `--against ${file}`;
  const text = new TextDecoder().decode(await readWholeFile(file, at, MAX_BYTES));
  let run: unknown;
  try {
    run = JSON.parse(text);
  } catch (cause) {
    throw refusal(at, 'the JSON of an earlier run', (cause as Error).message, `Write it by ${command(subject)}`, cause);
  }
  const fields = fieldsOf(run);
  if (fields.schema !== 'facenet/bench@1')
    throw refusal(
      at,
      'JSON with schema "facenet/bench@1"',
      shown(fields.schema ?? run),
      `Write it by ${command(subject)}`,
    );
  if (fields.what !== subject)
    throw refusal(at, `a run of bench ${subject}`, shown(fields.what), `Write one by ${command(subject)}`);
  const field = <Type extends 'string' | 'number'>(name: string, type: Type) => {
    const value = fields[name];
    if (typeof value !== type) throw damaged(`${at}: ${name}`, type === 'string' ? 'a text' : 'a number', value);
    return value as Type extends 'string' ? string : number;
  };
  return {
    file,
    model: field('model', 'string'),
    why: field('why', 'string'),
    setting: {
      network: field('network', 'string'),
      backend: field('backend', 'string'),
      ...(subject === 'search' ? { dimensions: field('dimensions', 'number') } : { batch: field('batch', 'number') }),
    },
    rows: rowsOf(fields[rowsField[subject]], `${at}: ${rowsField[subject]}`),
  };
}

function rowsOf(list: unknown, at: string): TimedRow[] {
  if (!Array.isArray(list) || list.length === 0) throw damaged(at, 'a list with at least one row', list);
  const rows = list.map((row: unknown, index): TimedRow => {
    const { name, milliseconds } = fieldsOf(row);
    if (typeof name !== 'string') throw damaged(`${at}: name of row ${index}`, 'a text', name);
    if (typeof milliseconds !== 'number' || !(milliseconds >= 0 && milliseconds < Number.POSITIVE_INFINITY))
      throw damaged(`${at}: milliseconds of row ${index}`, 'a number from 0', milliseconds);
    return { name, milliseconds };
  });
  const names = new Set<string>();
  for (const { name } of rows) {
    if (names.has(name)) throw damaged(at, 'each name once', name);
    names.add(name);
  }
  return rows;
}

/** @throws 'mismatch' for a run of another network or number of dimensions, 'input' for one of another batch or backend. */
export function checkComparable({ file, setting }: EarlierRun, now: Setting): void {
  const at = `--against ${file}`;
  const remedies = {
    network: 'Measure that network',
    dimensions: 'Measure a model of that length',
    backend: `Give --backend ${setting.backend}`,
    batch: `Give --batch ${setting.batch}`,
  };
  for (const field of ['network', 'dimensions', 'backend', 'batch'] as const) {
    if (setting[field] === now[field]) continue;
    const code = field === 'network' || field === 'dimensions' ? 'mismatch' : 'input';
    throw new FaceNetError(
      code,
      `${at}: a run of ${field} ${now[field]} as this one, got ${shown(setting[field])}. ${remedies[field]}, or leave --against out.`,
    );
  }
}

export function compare({ file, model, why, rows: earlier }: EarlierRun, rows: readonly TimedRow[]): Comparison {
  const before = new Map(earlier.map(({ name, milliseconds }) => [name, milliseconds]));
  const now = new Map(rows.map(({ name, milliseconds }) => [name, milliseconds]));
  const names = new Set([...now.keys(), ...before.keys()]);
  const total = (times: ReadonlyMap<string, number>) => [...times.values()].reduce((sum, time) => sum + time, 0);
  return {
    file,
    model,
    why,
    rows: [...names].map((name) => ({ name, ...compared(before.get(name) ?? null, now.get(name) ?? null) })),
    total: compared(total(before), total(now)),
  };
}

const compared = (before: number | null, now: number | null): ComparedTime => ({
  before,
  now,
  ratio: before !== null && now !== null && before > 0 ? now / before : null,
});

/** Heading, rows and their total, for people. */
export function comparisonTable({ rows, total }: Comparison): string[][] {
  const time = (value: number | null) => value?.toFixed(3) ?? '';
  const row = (name: string, { before, now, ratio }: ComparedTime) => [
    visible(name),
    time(before),
    time(now),
    before === null ? 'new' : now === null ? 'gone' : (ratio?.toFixed(2) ?? ''),
  ];
  return [
    ['', 'before, ms', 'now, ms', 'now / before'],
    ...rows.map(({ name, ...times }) => row(name, times)),
    row('total', total),
  ];
}

const command = (subject: BenchSubject) => `facenet bench ${subject} --json`;

const refusal = (at: string, rule: string, got: string, remedy: string, cause?: unknown) =>
  new FaceNetError('input', `${at}: ${rule}, got ${got}. ${remedy}.`, cause === undefined ? {} : { cause });

const damaged = (at: string, rule: string, value: unknown) =>
  refusal(at, rule, shown(value), 'The file is damaged; measure anew');

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};

const shown = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 60);
